"""Which checkpoints stay, without a run."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medvlp.training.callbacks.checkpoints import Checkpoints, Diverged
from tests.training.saved import save


class Trainer(SimpleNamespace):
    """As much of Lightning's as `Checkpoints` uses."""

    def __init__(self) -> None:
        model = nn.Linear(2, 2)
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_idx=0))
        super().__init__(is_global_zero=True, accumulate_grad_batches=1, fit_loop=loop, global_step=0)
        self.lightning_module, self.optimizers = model, [torch.optim.AdamW(model.parameters())]

    def save_checkpoint(self, path) -> None:
        save(path, self.global_step)


def at(step: int, folder, **options) -> tuple[Trainer, Checkpoints]:
    """A run that begins or goes on at a step."""
    trainer, checkpoints = Trainer(), Checkpoints(folder, 1, **options)
    trainer.global_step = step
    checkpoints.on_train_start(trainer, None)
    return trainer, checkpoints


def go_to(step: int, trainer: Trainer, checkpoints: Checkpoints) -> None:
    """The next step, saved."""
    trainer.global_step = step
    checkpoints.save(trainer)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_three_the_best_and_the_last_stay(tmp_path):
    trainer, checkpoints = at(0, tmp_path, monitor="t/acc1")
    for step, value in ((1, 0.5), (2, float("nan")), (3, 0.4), (4, 0.3), (5, 0.2)):
        go_to(step, trainer, checkpoints)
        checkpoints.offer(trainer, value)
    steps = [f"step-00000{n}.ckpt" for n in (3, 4, 5)]
    assert names(tmp_path) == ["best.ckpt", "best.json", "last.ckpt", *steps]
    assert json.loads((tmp_path / "best.json").read_bytes()) == {"monitor": "t/acc1", "value": 0.5, "step": 1}


def test_of_errors_the_lowest_is_the_best(tmp_path):
    trainer, checkpoints = at(0, tmp_path, monitor="t/ece")
    for step, value in ((1, 0.5), (2, 0.2), (3, 0.4), (4, 0.2)):
        go_to(step, trainer, checkpoints)
        checkpoints.offer(trainer, value)
    assert json.loads((tmp_path / "best.json").read_bytes()) == {"monitor": "t/ece", "value": 0.2, "step": 2}


@pytest.mark.parametrize("broken", ["weight", "optimizer"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_what_is_no_number_is_not_saved_over_what_is(tmp_path, broken, value):
    trainer, checkpoints = at(0, tmp_path)
    go_to(1, trainer, checkpoints)
    weight = trainer.lightning_module.weight
    if broken == "weight":
        weight.data[1, 1] = value
    else:
        trainer.optimizers[0].state[weight]["exp_avg"] = torch.full((2, 2), value)
    name = "weight" if broken == "weight" else "the optimizer's exp_avg"
    with pytest.raises(Diverged, match=f"^{name} is not a finite number at step 2, so this step is not saved"):
        go_to(2, trainer, checkpoints)
    assert names(tmp_path) == ["last.ckpt", "step-000001.ckpt"]


def test_checkpoints_of_a_timeline_that_was_left_are_put_aside_under_names_of_their_own(tmp_path):
    trainer, checkpoints = at(0, tmp_path, monitor="t/acc1")
    for step in (1, 2):
        go_to(step, trainer, checkpoints)
    checkpoints.offer(trainer, 0.9)
    for number in range(2):
        trainer, checkpoints = at(1, tmp_path, monitor="t/acc1")
        assert checkpoints.best is None
        go_to(2, trainer, checkpoints)
        assert (tmp_path / "last.ckpt").exists()
        expected = ["set-aside-step-000002.ckpt", "set-aside-1-step-000002.ckpt"][: number + 1]
        assert [name for name in names(tmp_path) if "aside" in name] == sorted(expected)
    assert "best.json" not in names(tmp_path)


def test_the_best_is_sought_anew_where_another_metric_is_monitored(tmp_path, capsys):
    trainer, checkpoints = at(0, tmp_path, monitor="t/acc1")
    go_to(1, trainer, checkpoints)
    checkpoints.offer(trainer, 0.9)
    assert at(1, tmp_path, monitor="t/acc1")[1].best == 0.9
    trainer, checkpoints = at(1, tmp_path, monitor="t/auroc")
    assert checkpoints.best is None
    said = "trainer.monitor was t/acc1, it is t/auroc now: the best is sought again, and the former best.ckpt is set-aside-best"
    assert said in capsys.readouterr().out
    go_to(2, trainer, checkpoints)
    checkpoints.offer(trainer, 0.2)
    assert json.loads((tmp_path / "best.json").read_bytes())["value"] == 0.2


@pytest.mark.parametrize("text", ["", "[]", '{"value": "high"}', '{"step": 1}'])
def test_a_damaged_best_is_said(tmp_path, text, capsys):
    (tmp_path / "best.json").write_text(text)
    assert at(1, tmp_path)[1].best is None
    assert "best.json is damaged" in capsys.readouterr().out
