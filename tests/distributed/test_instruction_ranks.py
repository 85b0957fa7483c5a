"""Two ranks train as one does: every variant of what learns, of packing and of weighting, and batches without images."""

import pytest
import torch

from medvlp.builders import build_objective
from medvlp.config import from_dict
from tests.assistants import assistant_words, vqa_samples
from tests.datasets import write_split
from tests.distributed.ranks import train_on_ranks
from tests.runs import losses, rows, run_here, weights

COMMON = [
    "trainer.precision=64-true",
    "trainer.max_steps=10",
    "trainer.checkpoint_every=100",
    "optim.clip_norm=1",
    "optim.warmup_steps=2",
]
LORA = ["model.lora.rank=4", "optim.parts.vision.freeze=true"]
MIXED = ["data.global_batch_size=2", "trainer.max_steps=20", "optim.parts.projector.lr=1e-2"]
VARIANTS = {
    "everything learns, tree": ["objective.packing=tree"],
    "adapters and projector, sequence, by sample": [*LORA, "objective.packing=sequence", "objective.weighting=sample"],
    "projector alone, tree": ["optim.parts.vision.freeze=true", "optim.parts.language.freeze=true"],
    "language model alone, unpacked": [
        "optim.parts.vision.freeze=true",
        "optim.parts.projector.freeze=true",
        "objective.packing=none",
        "objective.weighting=sample",
    ],
    "some batches have no image, tree": MIXED,
    "some batches have no image, adapters": [*MIXED, *LORA, "objective.packing=sequence"],
}
ACCUMULATED = {"everything learns, tree": 2, "language model alone, unpacked": 4}
"""Batches of a step on each of two ranks; one elsewhere, and always one on one rank."""


QUICK = (
    "everything learns, tree",
    "adapters and projector, sequence, by sample",
    "some batches have no image, tree",
)
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in VARIANTS]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return on_one_and_two(tmp_path_factory.mktemp("quick"), QUICK)


@pytest.fixture(scope="module")
def thorough(tmp_path_factory):
    return on_one_and_two(tmp_path_factory.mktemp("thorough"), [name for name in VARIANTS if name not in QUICK])


@pytest.fixture
def runs(request):
    """Variant → its folders on one rank and on two; starts what the test needs."""
    chosen = request.node.callspec.params["name"]
    return request.getfixturevalue("quick" if chosen in QUICK else "thorough")


def on_one_and_two(folder, names):
    """Train these variants on one rank, then on two."""
    words = assistant_words(folder)
    text = write_split(folder / "text/train", vqa_samples(14, images=0, source="text"))
    blend = [f"data.sources.text.path={text}", "data.sources.text.weight=2"]
    jobs = {name: [*words, *COMMON, *VARIANTS[name], *(blend if "no image" in name else [])] for name in names}
    for number, job in enumerate(jobs.values()):
        assert run_here([*job, f"run_name={number}-1"]) == 0
    doubled = [
        [*job, f"run_name={number}-2", f"trainer.accumulate={ACCUMULATED.get(name, 1)}"]
        for number, (name, job) in enumerate(jobs.items())
    ]
    code, output = train_on_ranks(doubled)
    assert code == 0, output
    return {name: [folder / f"runs/{number}-{ranks}" for ranks in (1, 2)] for number, name in enumerate(jobs)}


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_are_one(runs, name):
    one_rank, two_ranks = runs[name]
    assert len(losses(one_rank)) == (20 if "no image" in name else 10)
    assert losses(two_ranks) == pytest.approx(losses(one_rank), rel=1e-9)
    assert rows(two_ranks / "samples.jsonl") == rows(one_rank / "samples.jsonl")
    norms = [[row["grad_norm"] for row in rows(run / "metrics.jsonl")] for run in (one_rank, two_ranks)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-8)
    assert max(norms[0]) > 1  # clipping took part
    before, after = weights(one_rank), weights(two_ranks)
    for key, value in before.items():
        assert torch.allclose(value, after[key], rtol=1e-7, atol=1e-9), key


@pytest.mark.parametrize("name", [name for name in NAMES if "no image" in name.values[0]])
def test_batches_were_without_images_on_one_rank_and_on_both(runs, name):
    keys = [row["keys"] for row in rows(runs[name][0] / "samples.jsonl")]
    assert {sum(key.startswith("made") for key in step) for step in keys} == {0, 1, 2}


FROZEN = {
    "everything learns, tree": set(),
    "adapters and projector, sequence, by sample": {"vision", "language"},
    "some batches have no image, tree": set(),
    "projector alone, tree": {"vision", "language"},
    "language model alone, unpacked": {"vision", "projector"},
    "some batches have no image, adapters": {"vision", "language"},
}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_frozen_stays_and_the_rest_learns(runs, name):
    two = runs[name][1]
    checkpoint = torch.load(two / "checkpoints/last.ckpt", weights_only=True)
    torch.manual_seed(0)
    begun = build_objective(from_dict(checkpoint["medvlp"]["config"])).module.model.state_dict()
    watched = {
        "vision": "model.vision_tower.encoder.layers.0.mlp.fc1.weight",
        "projector": "model.multi_modal_projector.linear_1.weight",
        "language": next(
            key for key in begun if "language_model.layers.0.self_attn.q_proj" in key and "lora_" not in key
        ),
    }
    same = {part for part, key in watched.items() if torch.equal(begun[key].double(), checkpoint["state_dict"][key])}
    assert same == FROZEN[name]
    adapters = [value for key, value in checkpoint["state_dict"].items() if ".lora_B." in key]
    assert all(value.abs().max() > 0 for value in adapters)
    assert bool(adapters) == ("adapters" in name)
