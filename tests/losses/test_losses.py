"""The table of losses: chosen by name, options typed and checked, all of it before torch is imported."""

import ast
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest
import torch

from medvlp.config import compose
from medvlp.losses import LOSSES, ContrastiveLoss, LossError, Pairs, contrastive_loss
from tests.conftest import REPOSITORY


@dataclass(frozen=True, kw_only=True)
class Shifted(ContrastiveLoss):
    """A dummy with options."""

    shift: float = 1.0
    steps: int = 2

    def check(self):
        if self.shift < 0:
            raise LossError(f"objective.options.shift={self.shift} must not be negative")

    def __call__(self, pairs):
        return (pairs.image_BD - pairs.text_BD).square().mean() + self.shift


@pytest.fixture
def shifted(monkeypatch):
    monkeypatch.setitem(LOSSES, "shifted", f"{__name__}:Shifted")


def test_a_loss_is_built_with_its_options(shifted):
    assert contrastive_loss("shifted", {}) == Shifted()
    assert contrastive_loss("shifted", {"shift": 3}) == Shifted(shift=3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("shiftd", {}, "objective.loss='shiftd' is not a choice; did you mean 'shifted'?"),
        (
            "shifted",
            {"shft": 1.0},
            "objective.options.shft: objective.loss=shifted has none of this name; did you mean 'shift'?",
        ),
        ("shifted", {"shift": "far"}, "objective.options.shift='far' is no float"),
        ("shifted", {"steps": True}, "objective.options.steps=True is no int"),
        ("shifted", {"shift": -1.0}, "objective.options.shift=-1.0 must not be negative"),
        ("info_nce", {"shift": 1.0}, "its options: chunk"),
        ("info_nce", {"chunk": -1}, "must be 0 (by size)"),
        ("sigmoid", {"exchange": "all"}, "Choices: gather, ring"),
        ("sigmoid", {"start_scale": 0.0}, "must be above 0"),
        ("hard_negatives", {"alpha": 2.0}, "at most 1"),
        ("hard_negatives", {"beta": -1.0}, "must not be negative"),
    ],
)
def test_a_slip_is_named_with_the_nearest(shifted, name, options, message):
    with pytest.raises(LossError) as caught:
        contrastive_loss(name, options)
    assert message in str(caught.value)


TRAIN = ["data=rocov2", "model=open_clip", "objective=contrastive", "trainer.max_steps=1"]


def test_the_command_line_chooses_the_loss_and_its_options(shifted):
    config = compose("train", [*TRAIN, "objective.loss=shifted", "objective.options.shift=0.5"])
    assert (config.objective.loss, config.objective.options) == ("shifted", {"shift": 0.5})
    assert compose("train", TRAIN).objective.loss == "info_nce"
    with pytest.raises(LossError, match="did you mean 'shift'"):
        compose("train", [*TRAIN, "objective.loss=shifted", "objective.options.shif=0.5"])


@pytest.mark.parametrize("target", LOSSES.values())
def test_options_are_read_without_torch(target):
    module, _, _ = target.partition(":")
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_page_on_adding_a_loss_is_true(tmp_path, monkeypatch):
    """Its two blocks of Python, a module and a line of the table, make a loss that can be chosen and called."""
    page = (REPOSITORY / "docs/how-to/add-a-loss.md").read_text(encoding="utf-8")
    module, line = (textwrap.dedent(block) for block in re.findall(r"   ```python\n(.*?)   ```", page, re.DOTALL))
    (tmp_path / "distance_of_the_page.py").write_text(module, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    ((name, target),) = ast.literal_eval("{" + line + "}").items()
    assert target == f"medvlp.losses.{name}:Distance"
    monkeypatch.setitem(LOSSES, name, "distance_of_the_page:Distance")
    with pytest.raises(LossError, match="must be above 0"):
        contrastive_loss(name, {"pull": -1.0})
    loss = contrastive_loss(name, {"pull": 2})
    features = torch.eye(3)
    assert float(loss(Pairs(image_BD=features, text_BD=features, logit_scale=torch.tensor(1.0)))) == pytest.approx(
        -4 / 3
    )  # six of nine are 2 apart
