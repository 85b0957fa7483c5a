"""Costs before a training: FLOPs against the formula, bytes against torch's own, and what `medvlp plan` says."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from medvlp.builders.planned import planned_model
from medvlp.config import compose
from medvlp.costs.counts import ModelBytes, TowerCounts, bytes_of, count_tower
from medvlp.costs.devices import GPUS, LINKS, Machine
from medvlp.costs.step import Step, memory_of, seconds_of
from medvlp.verbs.plan import main

WIDTH, LAYERS, PATCH, SIDE, CONTEXT, EMBED = 32, 2, 8, 32, 16, 24
TINY = {
    "embed_dim": EMBED,
    "vision_cfg": {"image_size": SIDE, "layers": LAYERS, "width": WIDTH, "head_width": 16, "patch_size": PATCH},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": 2, "layers": LAYERS},
}
MACHINE = Machine(compute=1e12, loss=1e11, activations=None, memory=1e12, link=1e9, images=100.0)


def blocks(tokens: int) -> int:
    """FLOPs of a transformer's blocks: twice the products of the projections (4 D²), of the MLP (8 D²) and of attention."""
    return LAYERS * (2 * tokens * 12 * WIDTH**2 + 2 * 2 * tokens**2 * WIDTH)


PATCHES = (SIDE // PATCH) ** 2
VISION = blocks(PATCHES + 1) + 2 * PATCHES * 3 * PATCH**2 * WIDTH + 2 * WIDTH * EMBED
TEXT = blocks(CONTEXT) + 2 * WIDTH * EMBED


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    (folder / "tiny-plan.json").write_text(json.dumps(TINY))
    return [
        "model=open_clip",
        f"model.name={folder}/tiny-plan.json",
        f"data.sources.made.path={folder}/made/train",
        "data.global_batch_size=64",
        "trainer.max_epochs=2",
    ]


@pytest.fixture(scope="module")
def planned(arguments):
    return planned_model(compose("plan", arguments))


def test_flops_are_the_formulas(planned):
    assert (planned.vision.forward, planned.text.forward) == (VISION, TEXT)
    # backward has two products for each of forward, attention in one kernel one more, and the first layer one less
    assert 2 * TEXT <= planned.text.backward <= 2 * TEXT + LAYERS * 2 * CONTEXT**2 * WIDTH
    assert 1.8 * VISION < planned.vision.backward < 2.1 * VISION


def test_bytes_are_torchs(planned):
    assert all(size > 0 for size in (planned.vision.activations, planned.text.activations))
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3, bias=False))
    model[0].bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad])
    model(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    assert bytes_of([model]) == ModelBytes(
        sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]),
        sum(parameter.grad.nbytes for parameter in model.parameters() if parameter.grad is not None),
        sum(tensor.nbytes for tensor in states),
    )


def test_kept_bytes_are_the_graphs():
    """Of a linear layer, a GELU and another: the inputs of the three, without the weights."""
    with torch.device("meta"):
        layers = nn.Sequential(nn.Linear(10, 40), nn.GELU(), nn.Linear(40, 5))
        parameters = list(layers.parameters())
        single = count_tower(lambda batch: layers(torch.zeros(batch, 10)), parameters)
        mixed = count_tower(lambda batch: layers(torch.zeros(batch, 10)), parameters, torch.bfloat16)
    assert single == TowerCounts(2 * (10 * 40 + 40 * 5), 2 * (10 * 40 + 2 * 40 * 5), 4 * (10 + 40 + 40), 0)
    assert mixed.activations == 2 * (10 + 40 + 40)
    assert mixed.constants in (2 * 40 * 5, 2 * (10 * 40 + 40 * 5))  # the converted weights that backward reads


@pytest.mark.parametrize(
    ("override", "is_checkpointed"),
    [("optim.parts.vision.freeze=true", False), ("model.gradient_checkpointing=true", True)],
)
def test_what_does_not_learn_costs_no_backward(arguments, planned, override, is_checkpointed):
    changed = planned_model(compose("plan", [*arguments, override, "optim.parts.vision_head.freeze=true"]))
    assert changed.vision.forward == planned.vision.forward
    assert changed.vision.activations < planned.vision.activations
    if is_checkpointed:  # computed again
        assert changed.vision.backward > planned.vision.backward
    else:
        assert changed.vision.backward == 0
        assert changed.model.optimizer < planned.model.optimizer


def step(**changes) -> Step:
    towers = TowerCounts(10**9, 2 * 10**9, 1000, 10)
    values = Step(towers, towers, ModelBytes(400, 300, 604), 64, 2, 1, 512, 32, 8, 2)
    return replace(values, **changes)


def test_seconds_by_hand():
    seconds = seconds_of(step(), MACHINE)
    assert seconds["towers"] == pytest.approx(32 * 6e9 / 1e12)
    assert seconds["loss"] == pytest.approx(8 * 32 * 64 * 512 / 1e11)
    assert seconds["all-gather"] == pytest.approx(2 * 0.5 * 2 * 4 * 64 * 512 / 1e9)
    assert seconds["gradients"] == 0  # behind the backward pass
    assert seconds["data"] == pytest.approx(32 / 200)
    assert seconds["step"] == max(
        seconds["data"], sum(seconds[n] for n in ("towers", "loss", "all-gather", "optimizer"))
    )
    in_parts = seconds_of(step(parts=4), MACHINE)
    assert in_parts["towers"] == pytest.approx(32 * 8e9 / 1e12)  # forward twice
    alone = seconds_of(step(ranks=1), MACHINE)
    assert alone["all-gather"] == alone["gradients"] == 0


def test_memory_by_hand():
    memory = memory_of(step())
    assert memory["activations"] == 2 * (32 * 1000 + 10)
    assert memory["total"] == sum(size for name, size in memory.items() if name != "total")
    assert memory_of(step(parts=4))["activations"] == 2 * (8 * 1000 + 10)
    assert memory_of(step(ema=True))["average"] == 400
    assert memory_of(step(ranks=1))["gradients in exchange"] == 0


def test_every_gpu_has_its_link_and_source():
    assert all(gpu.link in LINKS and gpu.source for gpu in GPUS.values())


def test_what_is_printed(arguments, capsys):
    assert main([*arguments, "gpus=2", "gpu=a100"]) == 0
    text = capsys.readouterr().out
    assert all(
        words in text for words in ("2 × a100", "32 a GPU", "all-gather", "is not prepared; give samples=", "not known")
    )
    assert main([*arguments, "gpus=2", "samples=6400", "tokens=8"]) == 0
    text = capsys.readouterr().out
    assert "200 steps" in text
    assert "takes texts of its whole context" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gpu=h1000", "h100"),
        ("gpus=3", "cannot be divided evenly among 3 ranks"),
        ("mfu=1.5", "mfu=1.5 must be above 0 and at most 1"),
        ("model=classifier", "objective"),
        ("trainer.precision=64-true", "another precision"),
    ],
)
def test_what_is_wrong_is_said(arguments, override, message, capsys):
    assert main([*arguments[2:], *([] if override == "model=classifier" else arguments[:2]), override]) == 1
    assert message in capsys.readouterr().err
