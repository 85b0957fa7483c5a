"""Texts that a configuration makes of fields and labels, over whole runs."""

from dataclasses import replace

import pytest
import torch

from tests.datasets import pairs, write_split
from tests.models.tiny import tiny_architecture
from tests.runs import rows, run_here, tiny_words, weights

JOINED = 'data.sources.made.text_templates={both: "{caption}[, as {references}]", kind: "{label.kind}[ {references}]"}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("texts")
    samples = [
        replace(pair, texts=pair.texts | ({"references": f"see {row}"} if row % 2 else {}))
        for row, pair in enumerate(pairs(24))
    ]
    write_split(made / "made" / "train", samples)
    (made / "kinds.yaml").write_text(
        "templates: ['a {label}', '{label} here', 'one {label}']\nlabels: {k0: lump, k1: cyst}"
    )
    tiny_architecture(made)
    return made


def words(folder, name, *more):
    return [
        *tiny_words(folder),
        JOINED,
        "data.sources.made.text_weights={both:3,kind:1}",
        f"data.sources.labelled.path={folder}/made/train",
        "data.sources.labelled.label_captions=kind",
        f"data.sources.labelled.label_templates={folder}/kinds.yaml",
        "data.sources.labelled.weight=0.5",
        f"run_name={name}",
        "optim.schedule=constant",
        *more,
    ]


def test_what_texts_lack_is_counted(folder):
    assert run_here(words(folder, "run", "trainer.max_steps=4", "trainer.accumulate=2", "trainer.log_every=2")) == 0
    metrics = [row for row in rows(folder / "runs/run/metrics.jsonl") if row["split"] == "train"]
    samples = rows(folder / "runs/run/samples.jsonl")
    for row in metrics:
        keys = [key for step in samples if row["step"] - 2 < step["step"] <= row["step"] for key in step["keys"]]
        assert row["samples/made"] + row["samples/labelled"] == len(keys) == 16
        assert 0 < row["missing/made/references"] < row["samples/made"]
        assert [name for name in row if name.startswith("missing")] == ["missing/made/references"]


@pytest.mark.slow
def test_a_resumed_run_draws_the_same_texts(folder, capsys):
    assert run_here(words(folder, "whole", "trainer.max_steps=9")) == 0
    assert run_here(words(folder, "parts", "trainer.max_steps=6")) == 0
    assert run_here(words(folder, "parts", "trainer.max_steps=9", "resume=auto")) == 0
    whole, parts = (weights(folder / "runs" / name) for name in ("whole", "parts"))
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    metrics = [rows(folder / "runs" / name / "metrics.jsonl") for name in ("whole", "parts")]
    counts = [[row.get("missing/made/references") for row in run if row["split"] == "train"] for run in metrics]
    assert counts[0] == counts[1]
    (folder / "kinds.yaml").write_text("templates: ['the {label}']\nlabels: {k0: lump, k1: cyst}")
    assert run_here(words(folder, "parts", "trainer.max_steps=12", "resume=auto")) == 1
    assert "the content of data.sources.labelled.label_templates differ" in capsys.readouterr().err
