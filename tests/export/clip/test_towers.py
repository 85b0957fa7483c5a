"""Each architecture as a class of transformers: the same vectors of the same pixels and tokens, or a reason."""

import pytest
import torch

from medvlp.export.clip.dual_encoders import dual_encoder
from medvlp.export.transformers import NotExportable
from medvlp.models.clip.model import ClipEncoder
from tests.models.tiny import TINY

TEXTS = ["a b c chest", "finding long", "a " * 60, "chest"]
TEXT, VISION = TINY["text_cfg"], TINY["vision_cfg"]
LAST = "bert cls_last_hidden_state_pooler linear"


def timm_tower(name: str, pool: str, size: int = 32, proj: str = "linear") -> dict:
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": size}


SIGLIP_TEXT = {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True, "norm_kwargs": {"eps": 1e-6}}
CASES = {
    "clip": ({}, "CLIPModel", "CLIPVisionModel", "CLIPTextModel"),
    "quick": ({"quick_gelu": True}, "CLIPModel", "CLIPVisionModel", "CLIPTextModel"),
    "custom": ({"custom_text": True}, "CLIPModel", "CLIPVisionModel", "CLIPTextModel"),
    "layer_scale": (
        {"vision": {**VISION, "ls_init_value": 0.3}, "text": {**TEXT, "ls_init_value": 0.2}},
        *("CLIPModel", "CLIPVisionModel", "CLIPTextModel"),
    ),
    "bert_first": ({"text": LAST}, "VisionTextDualEncoderModel", "CLIPVisionModel", "BertModel"),
    "bert_pooler": (
        {"text": "bert cls_pooler linear"},
        *("VisionTextDualEncoderModel", "CLIPVisionModel", "BertModel"),
    ),
    "roberta": (
        {"text": "roberta cls_last_hidden_state_pooler linear"},
        *("VisionTextDualEncoderModel", "CLIPVisionModel", "RobertaModel"),
    ),
    "efficientnet": (
        {"text": LAST, "vision": timm_tower("test_efficientnet", "avg", 64)},
        *("VisionTextDualEncoderModel", "TimmWrapperModel", "BertModel"),
    ),
    "timm_token": (
        {"text": LAST, "vision": timm_tower("tiny_plain", "token")},
        *("VisionTextDualEncoderModel", "ViTModel", "BertModel"),
    ),
    "timm_average": (
        {"text": LAST, "vision": timm_tower("tiny_plain", "avg")},
        *("VisionTextDualEncoderModel", "TimmWrapperModel", "BertModel"),
    ),
    "timm_with_clips_text": (
        {"vision": timm_tower("tiny_plain", "token"), "custom_text": True},
        *("VisionTextDualEncoderModel", "ViTModel", "CLIPTextModel"),
    ),
    "siglip": (
        {
            **{"vision": timm_tower("tiny_siglip", "map", proj="none"), "text": SIGLIP_TEXT},
            **{"custom_text": True, "embed_dim": 32, "init_logit_bias": -10},
        },
        *("SiglipModel", "SiglipVisionModel", "SiglipTextModel"),
    ),
    "siglips_image": (
        {"vision": timm_tower("tiny_siglip", "map"), "text": LAST},
        *("VisionTextDualEncoderModel", "SiglipVisionModel", "BertModel"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_towers_give_open_clips_vectors(build, case):
    changes, *classes = CASES[case]
    clip = build(case, **changes)
    model = dual_encoder(clip)
    assert [type(part).__name__ for part in (model, model.vision_model, model.text_model)] == classes
    pixels = torch.randn(3, 3, clip.size, clip.size, generator=torch.Generator().manual_seed(1))
    ids = clip.tokenizer(TEXTS)
    mask = None if classes[0] == "SiglipModel" else (ids != clip.padding[0]).long()
    with torch.no_grad():
        output = model(input_ids=ids, pixel_values=pixels, attention_mask=mask)
    encoder = ClipEncoder(clip, identity="0")
    torch.testing.assert_close(output.image_embeds, encoder.encode_image(pixels), atol=2e-6, rtol=0)
    torch.testing.assert_close(output.text_embeds, encoder.encode_text(TEXTS), atol=2e-6, rtol=0)
    expected = encoder.logit_scale * output.image_embeds @ output.text_embeds.T
    bias = clip.model.logit_bias.detach() if getattr(clip.model, "logit_bias", None) is not None else 0
    torch.testing.assert_close(output.logits_per_image, expected + bias, atol=1e-4, rtol=0)


REFUSED = {
    "mean": ({"text": "bert mean_pooler linear"}, "model.text.pooler=cls_last_hidden_state_pooler"),
    "mlp": ({"text": "bert cls_pooler mlp"}, "train with model.text.proj=linear"),
    "resnet": ({"vision": {**VISION, "layers": [1, 1, 1, 1]}}, "no image tower such as open_clip's ModifiedResNet"),
    "average": ({"vision": {**VISION, "pool_type": "avg"}}, "pools by avg (vision_cfg.pool_type)"),
    "head": (
        {"text": LAST, "vision": timm_tower("test_efficientnet", "avg", 64, "mlp")},
        "the image tower's head is mlp (Mlp)",
    ),
    "classifier": (
        {"text": LAST, "vision": timm_tower("tiny_plain", "token", proj="")},
        "ends in a layer with a bias",
    ),
    "norm": ({"vision": {**VISION, "no_ln_pre": True}}, "always normalises before its first block"),
    "neither": ({"text": {**TEXT, "pool_type": "last"}, "custom_text": True}, "causal, pools by last and has no bias"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_transformers_has_no_class_for_is_refused_with_what_to_do(build, case):
    changes, words = REFUSED[case]
    clip = build(case, **changes)
    with pytest.raises(NotExportable) as refused:
        dual_encoder(clip)
    assert words in str(refused.value)
    assert "format=onnx or format=open_clip" in str(refused.value)
