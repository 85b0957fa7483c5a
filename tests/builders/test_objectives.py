"""The table of objectives, and what every one of them gets: parts, settings, a start."""

import pytest
import torch
from torch import nn

from medvlp.builders import OBJECTIVES, build_objective, init_from, optimizer_settings
from medvlp.config import ConfigError, OptimConfig, PartConfig, as_dict, compose
from medvlp.config.kinds import KINDS
from medvlp.training.checkpoints import CheckpointError
from medvlp.training.module import Objective, TrainingModule


def test_every_kind_of_configuration_has_a_builder():
    assert set(OBJECTIVES) == set(KINDS["objective"]) - {"toy_causal"}  # a test's, which registers both


def test_an_objective_knows_its_model_and_its_configuration(clip_words):
    config = compose("train", clip_words)
    objective = build_objective(config)
    assert isinstance(objective, Objective)
    assert set(objective.metadata) == {"preprocess", "tokenizer", "model_cfg"}
    assert objective.module.metadata == {**objective.metadata, "config": as_dict(config)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.parts.vison.freeze=true", "unknown part 'vison'"),
        ("init_parts=[eyes]", "unknown part 'eyes'"),
    ],
)
def test_unknown_parts_are_named(clip_words, override, message):
    with pytest.raises(ConfigError, match=message):
        build_objective(compose("train", [*clip_words, override]))


def test_a_model_that_cannot_learn_is_refused(clip_words):
    parts = ("vision", "vision_head", "text", "text_head", "logit_scale", "logit_bias")
    frozen = [f"optim.parts.{part}.freeze=true" for part in parts]
    with pytest.raises(ConfigError, match=r"freezes every part|unknown part 'logit_bias'"):
        build_objective(compose("train", [*clip_words, *frozen]))


def test_settings_of_parts_reach_the_optimizer():
    parts = {"vision": PartConfig(freeze=True), "text": PartConfig(lr=1e-5), "logit_scale": PartConfig()}
    settings = optimizer_settings(OptimConfig(lr=1e-3, beta1=0.8, parts=parts))
    assert (settings.lr, settings.betas[0]) == (1e-3, 0.8)
    assert (settings.lrs, settings.frozen) == ({"text": 1e-5}, ("vision",))


class Pair(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.first, self.second = nn.Linear(width, 2), nn.Linear(2, 2)


PARTS = {"first": ("first",), "second": ("second",)}


def saved(monkeypatch, tensors):
    content = {"state_dict": tensors, "medvlp": {}}
    monkeypatch.setattr("medvlp.builders.objectives.load_checkpoint", lambda path: content)


def module_of(model):
    return TrainingModule(model, PARTS, optimizer_settings(OptimConfig()), 0)


def test_named_parts_come_from_the_checkpoint_and_others_stay(monkeypatch):
    source, module = Pair().state_dict(), module_of(Pair())
    fresh = {name: value.clone() for name, value in module.state_dict().items()}
    saved(monkeypatch, source)
    init_from(module, PARTS, "a.ckpt", ["first"], {})
    for name, value in module.state_dict().items():
        assert torch.equal(value, source[name] if name.startswith("first") else fresh[name])


def test_a_part_of_another_shape_is_named(monkeypatch):
    saved(monkeypatch, Pair(width=3).state_dict())
    with pytest.raises(CheckpointError, match=r"init_from=a.ckpt does not fit: .* other shape \['first.weight'\]"):
        init_from(module_of(Pair()), PARTS, "a.ckpt", [], {})
