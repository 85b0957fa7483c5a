import math

import pytest
import torch
from torch import nn

from medvlp.errors import UserError
from medvlp.training.optim import LearningRate, adamw, spared_from_decay

PARTS = {"body": ("body",), "head": ("head",), "scale": ("logit_scale",)}


@pytest.mark.parametrize(
    ("kind", "step", "share"),
    [
        ("cosine", 0, 1 / 4),
        ("cosine", 3, 1.0),
        ("cosine", 4, 1.0),
        ("cosine", 7, 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2),
        ("cosine", 10, 0.1),
        ("cosine", 99, 0.1),
        ("linear", 7, 0.1 + 0.9 / 2),
        ("constant", 9, 1.0),
    ],
)
def test_the_schedule(kind, step, share):
    assert LearningRate(kind, 4, 10, 0.1)(step) == pytest.approx(share)


def test_without_warm_up_it_starts_at_the_peak():
    assert LearningRate("cosine", 0, 10)(0) == 1.0


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
        self.head = nn.Linear(4, 2, bias=False)
        self.logit_scale = nn.Parameter(torch.ones([]))
        self.positional_embedding = nn.Parameter(torch.ones(5, 4))
        self.listed = nn.Parameter(torch.ones(2, 2))

    def no_weight_decay(self):
        return {"listed"}


def test_decay_spares_biases_norms_scalars_positions_and_what_the_model_lists():
    assert spared_from_decay(Model()) == {
        "body.0.bias",
        "body.1.weight",
        "body.1.bias",
        "logit_scale",
        "positional_embedding",
        "listed",
    }


def test_parts_have_their_learning_rates_and_frozen_ones_no_group():
    model = Model()
    model.body[0].weight.requires_grad_(False)
    optimizer = adamw(model, PARTS, 1e-3, {"head": 1e-5}, 0.1, (0.9, 0.98), 1e-6)
    groups = {
        group["name"]: (group["lr"], group["weight_decay"], len(group["params"])) for group in optimizer.param_groups
    }
    assert groups == {
        "body (no decay)": (1e-3, 0.0, 3),
        "head": (1e-5, 0.1, 1),
        "scale (no decay)": (1e-3, 0.0, 1),
        " (no decay)": (1e-3, 0.0, 2),
    }


def test_nothing_to_train_is_refused():
    model = Model().requires_grad_(False)
    with pytest.raises(UserError, match="every part is frozen"):
        adamw(model, PARTS, 1e-3, {}, 0.1, (0.9, 0.98), 1e-6)
