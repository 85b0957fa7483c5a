import copy
import json
from functools import partial

import open_clip
import pytest
import timm
import torch
from torch import nn
from transformers import CLIPVisionModel, SiglipVisionModel, ViTModel

from medvlp.models.clip.sources import named
from medvlp.models.convert import clip_vision_config, clip_vision_model, timm_vision_config, timm_vision_model
from medvlp.models.weights import WeightsError
from tests.models.tiny import TINY

SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 4}


def scramble(module):
    """Weights that are all different, norms and biases too: a tensor in a wrong place would show."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


def tiny_clip(folder, vision=None, **top):
    cfg = copy.deepcopy(TINY) | top
    cfg["vision_cfg"] |= {"layers": 3, **(vision or {})}
    path = folder / "tiny-convert.json"
    path.write_text(json.dumps(cfg))
    clip = named(str(path))
    scramble(clip.model)
    return clip


def outputs_of(modules, run):
    outputs = []
    hooks = [module.register_forward_hook(lambda *args: outputs.append(args[2])) for module in modules]
    with torch.no_grad():
        result = run()
    for hook in hooks:
        hook.remove()
    return outputs, result


@pytest.mark.parametrize(
    ("vision", "top", "expected"),
    [
        ({}, {}, {"hidden_act": "gelu", "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 128}),
        ({}, {"quick_gelu": True}, {"hidden_act": "quick_gelu"}),
        ({"act_kwargs": {"approximate": "tanh"}}, {}, {"hidden_act": "gelu_pytorch_tanh"}),
        ({"head_width": 8, "mlp_ratio": 3.0}, {}, {"num_attention_heads": 4, "intermediate_size": 96}),
        ({"image_size": 40, "patch_size": 16}, {}, {"image_size": 40, "patch_size": 16}),
        ({"norm_kwargs": {"eps": 1e-2}}, {}, {"layer_norm_eps": 1e-2}),
        ({"ls_init_value": 0.1}, {}, {}),
        ({"pos_embed_type": "sin_cos_2d"}, {}, {}),
        ({"final_ln_after_pool": True}, {}, {}),
        ({"patch_dropout": 0.5}, {}, {}),
        ({"block_type": "custom"}, {}, {}),
    ],
)
def test_hidden_states_and_the_pooled_output_are_open_clips(tmp_path, vision, top, expected):
    clip = tiny_clip(tmp_path, vision, **top)
    visual = clip.model.visual
    model = clip_vision_model(clip)
    assert {key: getattr(model.config, key) for key in expected} == expected
    pixels = torch.randn(2, 3, model.config.image_size, model.config.image_size)
    theirs, pooled = outputs_of([visual.ln_pre, *visual.transformer.resblocks], lambda: visual(pixels))
    with torch.no_grad():
        ours = model(pixels, output_hidden_states=True)
        assert torch.allclose(ours.pooler_output @ visual.proj, pooled, rtol=1e-5, atol=1e-4)
    assert len(ours.hidden_states) == len(theirs) == 4
    for made, wanted in zip(ours.hidden_states, theirs, strict=True):
        assert torch.allclose(made, wanted, rtol=1e-5, atol=1e-5)


def test_the_pool_that_open_clip_uses_leaves_the_hidden_states_as_they_are(tmp_path):
    clip = tiny_clip(tmp_path, {"pool_type": "avg"})
    pixels = torch.randn(1, 3, 32, 32)
    theirs, _ = outputs_of([clip.model.visual.transformer], lambda: clip.model.visual(pixels))
    with torch.no_grad():
        ours = clip_vision_model(clip)(pixels, output_hidden_states=True).hidden_states[-1]
    assert torch.allclose(ours, theirs[0], rtol=1e-5, atol=1e-5)


def test_quick_gelu_is_read_from_the_model_where_open_clip_was_told_to_force_it(tmp_path):
    clip = tiny_clip(tmp_path)
    clip.model = scramble(open_clip.create_model("tiny-convert", force_quick_gelu=True))
    assert clip_vision_config(clip).hidden_act == "quick_gelu"


def test_the_weights_are_copies(tmp_path):
    clip = tiny_clip(tmp_path)
    model = clip_vision_model(clip)
    before = model.embeddings.class_embedding.clone()
    nn.init.zeros_(clip.model.visual.class_embedding)
    assert torch.equal(model.embeddings.class_embedding, before)


@pytest.mark.parametrize(
    ("vision", "said"),
    [
        ({"no_ln_pre": True}, "vision_cfg.no_ln_pre=True .* always normalises before its first block"),
        ({"attentional_pool": True}, "vision_cfg.attentional_pool=True .* no attentional pooling"),
        ({"qk_norm": True}, "vision_cfg.qk_norm=True"),
        ({"scale_heads": True}, "vision_cfg.scale_heads=True"),
        ({"scale_attn_inner": True}, "vision_cfg.scale_attn_inner=True"),
        ({"scale_attn": True}, "vision_cfg.scale_attn=True"),
        ({"scale_fc": True}, "vision_cfg.scale_fc=True"),
        ({"scaled_cosine_attn": True}, "vision_cfg.scaled_cosine_attn=True"),
        ({"image_size": [32, 48]}, r"vision_cfg.image_size=\[32, 48\]"),
        ({"patch_size": [8, 16]}, r"vision_cfg.patch_size=\[8, 16\]"),
        ({"act_kwargs": {"approximate": "tanh"}, "layers": [1, 1, 1, 1]}, "class ModifiedResNet"),
        ({"timm_model_name": "test_resnet", "image_size": 160}, "class TimmModel"),
    ],
)
def test_what_cannot_be_carried_over_is_refused_by_the_name_of_its_setting(tmp_path, vision, said):
    clip = tiny_clip(tmp_path, vision)
    with pytest.raises(WeightsError, match=said):
        clip_vision_model(clip)


@pytest.mark.parametrize(
    ("name", "changes", "kind"),
    [
        ("vit_tiny_patch16_224", {}, ViTModel),
        ("vit_tiny_patch16_224", {"qkv_bias": False, "init_values": 0.5, "no_embed_class": True}, ViTModel),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, ViTModel),
        ("vit_tiny_patch16_224", {"norm_layer": partial(nn.LayerNorm, eps=1.0)}, ViTModel),
        ("vit_tiny_patch16_224", {"img_size": 240, "dynamic_img_size": True}, ViTModel),
        ("vit_base_patch16_clip_224", {}, CLIPVisionModel),
        ("vit_base_patch16_clip_quickgelu_224", {}, CLIPVisionModel),
        ("vit_base_patch16_siglip_224", {}, SiglipVisionModel),
        ("vit_base_patch16_siglip_224", {"act_layer": "gelu_tanh"}, SiglipVisionModel),
        ("vit_medium_patch16_gap_240", {"final_norm": False}, SiglipVisionModel),
    ],
)
def test_hidden_states_are_timms(name, changes, kind):
    trunk = scramble(timm.create_model(name, num_classes=0, **{**SMALL, **changes}))
    model = timm_vision_model(trunk)
    assert type(model) is kind
    pixels = torch.randn(2, 3, model.config.image_size, model.config.image_size)
    theirs, last = outputs_of([trunk.norm_pre, *trunk.blocks], lambda: trunk.forward_features(pixels))
    with torch.no_grad():
        ours = model(pixels, output_hidden_states=True)
    assert len(ours.hidden_states) == 3
    for made, wanted in zip(ours.hidden_states, theirs, strict=True):
        assert torch.allclose(made, wanted, rtol=1e-5, atol=1e-5)
    if isinstance(trunk.norm, nn.LayerNorm) and kind is not CLIPVisionModel:  # CLIP's norm is for the class token only
        assert torch.allclose(ours.last_hidden_state, last, rtol=1e-5, atol=1e-4)


def test_a_timm_transformer_becomes_the_same_model_each_time():
    """A ViTModel's pooler has no counterpart in timm; were it random, the identity of the weights would change."""
    trunk = scramble(timm.create_model("vit_tiny_patch16_224", num_classes=0, **SMALL))
    first, second = timm_vision_model(trunk).state_dict(), timm_vision_model(trunk).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not first["pooler.dense.weight"].any()


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("vit_tiny_patch16_224", {**SMALL, "reg_tokens": 2}, "register tokens"),
        ("vit_tiny_patch16_224", {**SMALL, "pos_embed": "none"}, "no position embeddings"),
        ("vit_tiny_patch16_224", {**SMALL, "qk_norm": True}, "norms inside its blocks"),
        ("vit_tiny_patch16_224", {**SMALL, "scale_mlp_norm": True}, "norms inside its blocks"),
        ("vit_base_patch16_siglip_224", {**SMALL, "pre_norm": True}, "but no class token"),
        ("vit_base_patch16_xp_224", SMALL, "timm's ParallelScalingBlock has no counterpart"),
        ("vit_tiny_patch16_224", {**SMALL, "norm_layer": "rmsnorm"}, "norms of class RmsNorm"),
        ("vit_tiny_patch16_224", {**SMALL, "attn_layer": "diff"}, "attention of class DiffAttention"),
        ("deit_tiny_distilled_patch16_224", {}, "VisionTransformerDistilled has no counterpart"),
    ],
)
def test_timm_transformers_that_cannot_be_carried_over_say_why(name, changes, said):
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0, **changes)
    with pytest.raises(WeightsError, match=said):
        timm_vision_config(trunk)
