"""Whole runs of contrastive losses with others next to them: they learn, stop and resume to the bit, and can be evaluated."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from medvlp.builders.clip import load_clip
from medvlp.training.checkpoints import load_checkpoint
from tests.datasets import pairs, write_split
from tests.models.tiny import TINY, tiny_architecture, tiny_text_tower
from tests.runs import equal, losses, rows, run_here, tiny_words, weights

HEAD = ["objective.heads.kind.label=kind", "objective.heads.kind.classes=[k0,k1,k2,k3]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("objectives")
    write_split(path / "made/train", pairs(48))
    tiny_architecture(path)
    tower = tiny_text_tower(path / "bert")
    tokenizer = AutoTokenizer.from_pretrained(tower)
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.save_pretrained(tower)
    text = {**TINY["text_cfg"], "embed_cls": True, "output_tokens": True}
    vision = {**TINY["vision_cfg"], "output_tokens": True}
    description = {**TINY, "text_cfg": text, "vision_cfg": vision, "multimodal_cfg": {**TINY["text_cfg"], "width": 32}}
    (path / "tiny-coca.json").write_text(json.dumps({**description, "custom_text": True}))
    return path


def words_of(folder: Path, kind: str) -> list[str]:
    if kind == "sigmoid":
        return ["objective.loss=sigmoid", "objective.positives=label.kind", *HEAD]
    if kind == "coca":
        return [
            f"model.name={folder}/tiny-coca.json",
            "objective.auxiliary.captioning.weight=2",
            "trainer.accumulate=2",
        ]
    return [
        "model=lite_minilm",
        "model.name=",
        "model.vision.timm=test_vit",
        "model.vision.weights=",
        "model.image.size=32",
        f"model.text.huggingface={folder}/bert",
        "model.text.context_length=24",
        "objective.auxiliary.masked_language.weight=0.5",
        "objective.auxiliary.masked_language.heads=2",
        f"objective.auxiliary.distillation.teacher=open_clip:{folder}/tiny-clip.json",
        "objective.weight=0.5",
        "trainer.accumulate=2",
        *HEAD,
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        ("sigmoid", ["head_kind"]),
        ("coca", ["captioning"]),
        ("bert", ["masked_language", "distillation", "head_kind"]),
    ],
)
def test_a_run_learns_resumes_to_the_bit_and_can_be_evaluated(folder, kind, parts):
    words = [*tiny_words(folder), *words_of(folder, kind)]
    schedule = [*words, f"run_name={kind}-whole", "optim.schedule=constant"]
    first, second = folder / "runs" / f"{kind}-whole", folder / "runs" / f"{kind}-halves"
    assert run_here(schedule) == 0
    trained = [row for row in rows(first / "metrics.jsonl") if row["split"] == "train"]
    assert all(f"loss_{part}" in row for part in ["contrastive", *parts] for row in trained)
    assert losses(first)[-1] < losses(first)[0]
    assert run_here([*schedule, f"run_name={second.name}", "trainer.max_steps=6"]) == 0
    assert run_here([*schedule, f"run_name={second.name}", "resume=auto"]) == 0
    assert losses(first) == losses(second)
    assert equal(weights(first), weights(second))
    ends = [load_checkpoint(run / "checkpoints/last.ckpt") for run in (first, second)]
    if kind != "coca":
        assert all(torch.equal(value, ends[1]["auxiliary"][name]) for name, value in ends[0]["auxiliary"].items())
    clip = load_clip(first / "checkpoints/last.ckpt").clip  # the terms' own modules are no part of the model
    assert (clip.model.logit_bias is not None) == (kind == "sigmoid")
