"""transformers' CLIP as a starting point gives the same embeddings in open_clip's classes."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from medvlp.builders import build_objective, init_from
from medvlp.config import compose
from medvlp.losses import Pairs
from medvlp.models.weights import WeightsError, load_tensors
from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture, tiny_text_tower
from tests.runs import tiny_words

SIZES = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("from_transformers")
    write_split(made / "made/train", pairs(8))
    tiny_architecture(made)
    torch.manual_seed(3)
    for act in ("gelu", "quick_gelu"):
        text = {**SIZES, "vocab_size": 49408, "max_position_embeddings": 24, "hidden_act": act, "eos_token_id": 49407}
        vision = {**SIZES, "image_size": 32, "patch_size": 8, "hidden_act": act}
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
        CLIPModel(config).save_pretrained(made / act)
    return made


def test_embeddings_are_the_same(folder):
    objective = build_objective(compose("train", tiny_words(folder)))
    module = objective.module
    init_from(module, module.parts, f"hf:{folder}/gelu", [], objective.metadata)
    theirs = CLIPModel.from_pretrained(folder / "gelu").eval()
    images, tokens = torch.randn(2, 3, 32, 32), torch.tensor([[49406, 5, 9, 49407], [49406, 7, 49407, 0]])
    tokens = torch.nn.functional.pad(tokens, (0, 20))
    with torch.no_grad():
        image_BD, text_BD = theirs.get_image_features(pixel_values=images), theirs.get_text_features(input_ids=tokens)
        image_BD, text_BD = (getattr(value, "pooler_output", value) for value in (image_BD, text_BD))
        assert torch.allclose(module.model.eval().encode_image(images), image_BD, atol=1e-5)
        assert torch.allclose(module.model.encode_text(tokens), text_BD, atol=1e-5)
    assert float(module.model.logit_scale) == pytest.approx(float(theirs.logit_scale))


@timm.models.register_model
def tiny_siglip_tower(pretrained=False, img_size=32, num_classes=0, **options):
    """timm's SigLIP tower, with one small block."""
    sizes = {"img_size": img_size, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    return VisionTransformer(**sizes, class_token=False, global_pool="map", num_classes=0)


@pytest.fixture(scope="module")
def siglip(folder):
    """A description of open_clip's kind, and transformers' model of that shape."""
    text = {
        "context_length": 24,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "norm_kwargs": {"eps": 1e-6},
    }
    text |= {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    vision = {"image_size": 32, "timm_model_name": "tiny_siglip_tower", "timm_pool": "map", "timm_proj": "none"}
    description = {"embed_dim": 32, "init_logit_bias": -10, "custom_text": True, "vision_cfg": vision, "text_cfg": text}
    (folder / "tiny-siglip.json").write_text(json.dumps(description))
    sizes = {**SIZES, "hidden_act": "gelu"}
    texts = {**sizes, "vocab_size": 49408, "max_position_embeddings": 24, "projection_size": 32}
    config = SiglipConfig(text_config=texts, vision_config={**sizes, "image_size": 32, "patch_size": 8})
    torch.manual_seed(4)
    model = SiglipModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases begin as ones and zeros, which tell nothing
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder / "siglip")
    return model


def test_siglip_gives_the_same_embeddings_logits_and_first_loss(folder, siglip):
    words = [*tiny_words(folder), f"model.name={folder}/tiny-siglip.json", "objective.loss=sigmoid"]
    objective = build_objective(compose("train", words))
    module = objective.module
    init_from(module, module.parts, f"hf:{folder}/siglip", [], objective.metadata)
    model = module.model.eval()
    images, tokens = torch.randn(3, 3, 32, 32), torch.randint(0, 49408, (3, 24))
    with torch.no_grad():
        expected = siglip(input_ids=tokens, pixel_values=images, return_loss=True)
        image_BD, text_BD = (
            torch.nn.functional.normalize(f(x), dim=-1)
            for f, x in zip((model.encode_image, model.encode_text), (images, tokens), strict=True)
        )
        logits_BB = image_BD @ text_BD.T * model.logit_scale.exp() + model.logit_bias
    assert torch.allclose(image_BD, expected.image_embeds, atol=1e-5)
    assert torch.allclose(text_BD, expected.text_embeds, atol=1e-5)
    assert torch.allclose(logits_BB, expected.logits_per_image, rtol=1e-4, atol=1e-4)
    pairs_of = Pairs(
        image_BD=image_BD, text_BD=text_BD, logit_scale=model.logit_scale.exp(), logit_bias=model.logit_bias
    )
    assert module.loss_function.of_pairs(pairs_of).mean().item() == pytest.approx(expected.loss.item(), rel=1e-4)


def test_another_activation_is_refused(folder):
    objective = build_objective(compose("train", tiny_words(folder)))
    with pytest.raises(WeightsError, match=r"computes with quick_gelu, .*ends in -quickgelu"):
        init_from(objective.module, objective.module.parts, f"hf:{folder}/quick_gelu", [], objective.metadata)


def test_programs_and_prefixes_are_refused_in_words(folder, tmp_path):
    traced = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    torch.jit.save(traced, tmp_path / "openai.pt")
    with pytest.raises(WeightsError, match="TorchScript archive, which is a program"):
        load_tensors(str(tmp_path / "openai.pt"))
    with pytest.raises(WeightsError, match="TorchScript archive, which is a program"):
        build_objective(compose("train", [*tiny_words(folder), f"model.pretrained={tmp_path}/openai.pt"]))
    torch.save({f"module.{n}": t for n, t in torch.nn.Linear(2, 2).state_dict().items()}, tmp_path / "parallel.pt")
    with pytest.raises(WeightsError, match=r"begin with 'module.', as torch's DataParallel"):
        load_tensors(str(tmp_path / "parallel.pt"))
    tower = tiny_text_tower(tmp_path / "bert")
    state = {f"module.{name}": value for name, value in load_tensors(str(tower / "model.safetensors")).items()}
    save_file(state, tower / "model.safetensors", {"format": "pt"})
    words = [
        *tiny_words(folder)[2:],
        "model=clip_schema",
        "model.vision.timm=test_vit",
        f"model.text.huggingface={tower}",
        "model.text.context_length=32",
    ]
    with pytest.raises(WeightsError, match=r"begin with 'module.', as torch's DataParallel"):
        build_objective(compose("train", words))


def test_a_prefix_that_open_clip_itself_takes_off_is_no_hindrance(folder, tmp_path):
    words = tiny_words(folder)
    state = build_objective(compose("train", [*words, "seed=3"])).module.model.state_dict()
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "parallel.pt")
    model = build_objective(compose("train", [*words, f"model.pretrained={tmp_path}/parallel.pt"])).module.model
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
