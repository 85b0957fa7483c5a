"""A run from its configuration to its end."""

import pytest

from medvlp.config import compose
from medvlp.training.fit import model_names

SOURCE = "data.sources.a.path=a"


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["model=open_clip", "model.name=ViT-B-32"], "model.kind=clip (ViT-B-32)"),
        (
            ["model=lite_minilm", "model.vision.timm=resnet18", "model.text.huggingface=a/b"],
            "model.kind=clip (resnet18, a/b)",
        ),
        (
            ["model=llava", "objective=instruct", "model.vision.source=a/tower", "model.language.source=a/language"],
            "model.kind=llava (a/tower, a/language)",
        ),
    ],
)
def test_messages_name_every_part_that_was_chosen_by_name(overrides, names):
    objective = [] if "objective=instruct" in overrides else ["objective=contrastive"]
    config = compose("train", [SOURCE, "trainer.max_steps=1", *objective, *overrides])
    assert model_names(config) == names
