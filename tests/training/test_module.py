"""What every objective shares, without a run."""

from types import SimpleNamespace

import pytest
from torch import nn

from medvlp.training.module import OptimizerSettings, TrainingModule

PARTS = {"body": ("0",), "head": ("1",)}
SETTINGS = {"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.98), "eps": 1e-6, "lrs": {"head": 1e-3}}


def started(settings: dict, total_steps: int, step: int, state: dict | None = None) -> tuple[dict, list[float], str]:
    """The scheduler's state, and the rates, of a run that begins or goes on at a step."""
    module = TrainingModule(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), PARTS, OptimizerSettings(**settings), 0)
    module.total_steps = total_steps
    made = module.configure_optimizers()
    scheduler = made["lr_scheduler"]["scheduler"]
    if state:
        made["optimizer"].load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
    module._trainer = SimpleNamespace(
        global_step=step,
        global_rank=0,
        strategy=SimpleNamespace(),
        lr_scheduler_configs=[SimpleNamespace(scheduler=scheduler)],
    )
    module.on_train_start()
    first = [group["lr"] for group in made["optimizer"].param_groups]
    for _ in range(3):
        made["optimizer"].step()
        scheduler.step()
    after = [group["lr"] for group in made["optimizer"].param_groups]
    return {"optimizer": made["optimizer"].state_dict(), "scheduler": scheduler.state_dict()}, [*first, *after]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"schedule": "linear"},
        {"warmup_steps": 9},
        {"final_lr_fraction": 0.5},
    ],
)
def test_rates_follow_the_configuration_from_the_first_resumed_step(change, capsys):
    before = {**SETTINGS, "schedule": "cosine", "warmup_steps": 1, "final_lr_fraction": 0.0}
    now = {**before, **change}
    state, _ = started(before, total_steps=3, step=0)
    assert state["optimizer"]["param_groups"][0]["lr"] == 0  # the end of the cosine
    capsys.readouterr()
    _, resumed = started(now, total_steps=12, step=3, state=state)
    said = capsys.readouterr().out
    _, fresh = started(now, total_steps=12, step=3)
    assert resumed == fresh
    assert resumed[0] > 0
    assert said.startswith(f"learning rate after step 3: {resumed[0]:.4g}, by the schedule as it is configured now")
    assert "the checkpoint had 0" in said


def test_nothing_is_said_where_nothing_changed(capsys):
    settings = {**SETTINGS, "schedule": "cosine", "warmup_steps": 1, "final_lr_fraction": 0.0}
    state, straight = started(settings, total_steps=9, step=0)
    _, resumed = started(settings, total_steps=9, step=3, state=state)
    assert resumed[:4] == straight[4:]
    assert capsys.readouterr().out == ""
