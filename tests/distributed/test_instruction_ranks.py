"""Two ranks train as one does: every variant of what learns, of packing and of weighting, and batches without images."""

import json

import pytest
import torch

from tests.assistants import assistant_words, vqa_samples
from tests.datasets import write_split
from tests.runs import finish, losses, rows, run_here, start, weights

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every variant on one rank and on two, in runs/<number>-<ranks>."""
    folder = tmp_path_factory.mktemp("ranks")
    words = assistant_words(folder)
    text = write_split(folder / "text/train", vqa_samples(14, images=0, source="text"))
    jobs = []
    for number, (name, changes) in enumerate(VARIANTS.items()):
        more = [f"data.sources.text.path={text}", "data.sources.text.weight=2"] if "no image" in name else []
        jobs.append([*words, *COMMON, *changes, *more, f"run_name={number}"])
    for job in jobs:
        assert run_here([*job[:-1], f"{job[-1]}-1"]) == 0
    doubled = [
        [*job[:-1], f"{job[-1]}-2", f"trainer.accumulate={ACCUMULATED.get(name, 1)}"]
        for name, job in zip(VARIANTS, jobs, strict=True)
    ]
    (folder / "jobs.json").write_text(json.dumps(doubled))
    process = start([f"{folder}/jobs.json"], ranks=2, module="tests.distributed.several")
    try:
        code, output = finish(process, seconds=900)  # what hangs, hangs longer
    finally:
        process.terminate()
    assert code == 0, output
    return {name: [folder / f"runs/{number}-{ranks}" for ranks in (1, 2)] for number, name in enumerate(VARIANTS)}


@pytest.mark.parametrize("name", VARIANTS)
def test_two_ranks_are_one(runs, name):
    one, two = runs[name]
    assert len(losses(one)) == (20 if "no image" in name else 10)
    assert losses(two) == pytest.approx(losses(one), rel=1e-9)
    assert rows(two / "samples.jsonl") == rows(one / "samples.jsonl")
    norms = [[row["grad_norm"] for row in rows(run / "metrics.jsonl")] for run in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-8)
    assert max(norms[0]) > 1  # clipping took part
    before, after = weights(one), weights(two)
    for key, value in before.items():
        assert torch.allclose(value, after[key], rtol=1e-7, atol=1e-9), key


@pytest.mark.parametrize("name", [name for name in VARIANTS if "no image" in name])
def test_batches_were_without_images_on_one_rank_and_on_both(runs, name):
    keys = [row["keys"] for row in rows(runs[name][0] / "samples.jsonl")]
    assert {sum(key.startswith("made") for key in step) for step in keys} == {0, 1, 2}
    names = "tree" if "tree" in name else "adapters"
    learned = {"tree": "model.multi_modal_projector.linear_1.weight", "adapters": "lora_B.default.weight"}[names]
    assert any(learned in key for key in weights(runs[name][0]))


def test_what_is_frozen_stays(runs):
    begun = weights(runs["everything learns, tree"][1])
    alone = weights(runs["projector alone, tree"][1])
    language = weights(runs["language model alone, unpacked"][1])
    lora = weights(runs["adapters and projector, sequence, by sample"][1])
    name, query = "model.multi_modal_projector.linear_1.weight", "model.language_model.layers.0.self_attn.q_proj"
    assert torch.equal(lora[f"{query}.base_layer.weight"], alone[f"{query}.weight"])
    assert not torch.equal(language[f"{query}.weight"], alone[f"{query}.weight"])
    assert not torch.equal(begun[f"{query}.weight"], alone[f"{query}.weight"])
    assert not torch.equal(alone[name], language[name])
    assert not torch.equal(lora[name], language[name])
    assert lora[f"{query}.lora_B.default.weight"].abs().max() > 0
