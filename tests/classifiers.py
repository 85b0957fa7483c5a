"""Classifiers small enough for every test: samples with labels, and a run's words."""

from pathlib import Path
from typing import Any

import numpy as np

from medvlp.shards import Sample
from tests.assistants import tiny_tower
from tests.datasets import pairs, write_split

FINDINGS = ("effusion", "nodule", "mass")
KINDS = ("k0", "k1", "k2", "k3")


def labelled_samples(count: int, missing: bool = True) -> list[Sample]:
    """Images with a `kind` (k0 … k3) and a mapping `findings`; with `missing`, some have no kind, some lack findings, and every
    eleventh has neither."""
    samples, chance = pairs(count), np.random.default_rng(0)
    for number, sample in enumerate(samples):
        findings: dict[str, Any] = {name: int(chance.random() < 0.4) for name in FINDINGS}
        if missing:
            findings = {name: state for name, state in findings.items() if chance.random() < 0.6}
            if number % 3 == 0 or number % 11 == 0:
                del sample.labels["kind"]
            if number % 11 == 0:
                findings = {}
        sample.labels["findings"] = findings
    return samples


HEADS = [
    "objective.heads.kind.label=kind",
    f"objective.heads.kind.classes=[{','.join(KINDS)}]",
    "objective.heads.kind.class_weights.k1=3",
    "objective.heads.kind.label_smoothing=0.1",
    "objective.heads.findings.kind=multi_label",
    "objective.heads.findings.label=findings",
    f"objective.heads.findings.classes=[{','.join(FINDINGS)}]",
    "objective.heads.findings.balanced=true",
    "objective.heads.findings.weight=0.5",
]


def classifier_words(folder: Path, samples: int = 44) -> list[str]:
    """Overrides of a tiny classifier with two heads on labelled samples, some without labels; writes what it needs."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "tower").exists():
        tiny_tower(folder / "tower")
    if not (folder / "labelled/train").exists():
        write_split(folder / "labelled/train", labelled_samples(samples))
        write_split(folder / "labelled/valid", labelled_samples(12))
    return [
        "model=classifier",
        f"model.vision.source={folder}/tower",
        "objective=classify",
        *HEADS,
        f"data.sources.labelled.path={folder}/labelled/train",
        "data.global_batch_size=8",
        "data.workers=0",
        "data.log_samples=true",
        "optim.lr=2e-3",
        "optim.warmup_steps=2",
        f"run_root={folder}/runs",
        "trainer.max_steps=10",
        "trainer.log_every=1",
        "trainer.checkpoint_every=3",
        "trainer.accelerator=cpu",
    ]
