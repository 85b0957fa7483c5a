"""Depths of weights are those by which open_clip unfreezes towers and timm lets rates fall."""

import open_clip
import pytest
import timm
from timm.optim import param_groups_layer_decay
from torch import nn

from medvlp.errors import UserError
from medvlp.models.layers import depths, freeze_but_last, part_depths
from medvlp.models.parts import CLIP_PARTS, freeze
from medvlp.training.optim import adamw
from tests.models.tiny import TINY


def tiny_clip():
    vision, text = ({**TINY[name], "layers": 3} for name in ("vision_cfg", "text_cfg"))
    return open_clip.CustomTextCLIP(TINY["embed_dim"], vision, text)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_blocks_are_those_that_open_clip_unlocks(count):
    """Beyond what is ours to freeze by itself: the head."""
    ours, theirs = tiny_clip(), tiny_clip()
    freeze(ours, CLIP_PARTS, ("vision_head",))
    assert freeze_but_last(ours, CLIP_PARTS, {"vision": count}) == {"vision": 3 - count}
    theirs.lock_image_tower(unlocked_groups=count + 1)  # its last group is the head
    learning = [
        {name for name, p in model.visual.named_parameters() if p.requires_grad and name != "proj"}
        for model in (ours, theirs)
    ]
    assert learning[0] == learning[1]
    assert all(p.requires_grad for p in ours.text.parameters())


def test_rates_fall_as_in_timm():
    trunk = timm.create_model("test_vit", num_classes=0)
    model = nn.Module()
    model.visual = nn.Module()
    model.visual.trunk = trunk
    optimizer = adamw(model, CLIP_PARTS, 1.0, {}, 0.1, (0.9, 0.98), 1e-6, {"vision": 0.5})
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    expected = {
        id(p): group["lr_scale"] for group in param_groups_layer_decay(trunk, layer_decay=0.5) for p in group["params"]
    }
    assert rates == expected
    assert len(set(rates.values())) > 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["text.embeddings.word", "text.transformer.encoder.layer.0.a", "text.transformer.encoder.layer.11.b"], [0, 1, 12]),
        (["positional_embedding", "transformer.resblocks.0.a", "token_embedding.weight", "ln_final.bias"], [0, 1, 0, 1]),
        (["visual.conv1.weight", "visual.layer1.0.a", "visual.layer4.2.conv.weight"], [0, 1, 4]),
        (["visual.trunk.stem.0.weight", "visual.trunk.stages.1.blocks.5.w", "visual.trunk.norm.bias"], [0, 2, 2]),
        (["visual.trunk.conv_stem.weight"], [0]),
    ],
)  # fmt: skip
def test_blocks_of_every_kind_of_tower(names, expected):
    assert list(depths(names).values()) == expected


def test_what_has_no_blocks_is_refused():
    model = tiny_clip()
    with pytest.raises(UserError, match=r"optim.parts.text.last_blocks=4: the part has 3 blocks"):
        freeze_but_last(model, CLIP_PARTS, {"text": 4})
    with pytest.raises(UserError, match="'logit_scale' has no numbered blocks"):
        part_depths(model, CLIP_PARTS, "logit_scale", "optim.parts.logit_scale.layer_decay=0.5")
