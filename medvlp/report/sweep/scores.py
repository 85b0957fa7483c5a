"""The numbers of an evaluation by model, task and metric, with names that fit a table."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

from medvlp.config.evaluation.metric_names import direction, main_metrics
from medvlp.jsonl import Row
from medvlp.report.sweep.evaluation import Evaluation, cell_of, split_of

LONGEST_NAME = 44
"""Characters of a model's name in a table; the middle of a longer one is left out where names stay different."""

KINDS = {
    "zero_shot": "Zero-shot classification",
    "classification": "Trained classification",
    "multi_label": "Several labels, zero-shot",
    "probe": "Probes",
    "retrieval": "Retrieval",
    "text_retrieval": "Text retrieval",
    "composed_retrieval": "Composed retrieval",
    "vqa": "Questions",
    "text": "Written text",
    "error_check": "Errors in texts",
}
LABELS = {
    "acc1": "accuracy",
    "auroc": "AUROC",
    "map": "mAP",
    "f1": "F1",
    "16shot_acc1": "16-shot accuracy",
    "knn_acc1": "kNN accuracy",
    "exact_match": "exact match",
    "closed_accuracy": "closed",
    "open_token_recall": "open recall",
    "generated_accuracy": "choice",
    "letter_likelihood_accuracy": "choice by letter",
    "number_accuracy": "number",
    "set_f1": "set F1",
    "box_iou": "box IoU",
    "box_accuracy@0.5": "boxes right",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "cider_d": "CIDEr-D",
    "findings_f1_micro": "findings F1",
    "flag_accuracy": "error flag",
    "sentence_accuracy": "error sentence",
    "correction_rouge_1_composite": "correction ROUGE-1",
    "correction_aggregate_composite": "correction aggregate",
    "judge_accuracy": "judged right",
    "judge_relative": "judged, relative",
}
"""Metric → its heading in a leaderboard; others have their own names."""
GRADED = {"ndcg": "nDCG", "recall": "R", "hit": "hit"}


@dataclass(frozen=True)
class Task:
    """A task on one split, as the models' rows describe it."""

    task: str
    split: str
    name: str
    """With the split, where the evaluation has several."""
    kind: str
    metrics: tuple[str, ...]
    """All that any model has, in the order of the rows."""

    @property
    def main(self) -> tuple[str, ...]:
        """Metrics of the leaderboard; of a kind that is not known, the first."""
        return tuple(main_metrics(self.kind, self.metrics)) or self.metrics[:1]


class Scores:
    """Rows of an evaluation by cell and metric."""

    def __init__(self, evaluation: Evaluation) -> None:
        self.evaluation = evaluation
        self.models = checkpoints_of([*evaluation.results, *evaluation.failures])
        """Checkpoints in the order of their results; after them, those that only failed."""
        self.names = checkpoint_names([*evaluation.results, *evaluation.failures])
        self.rows: dict[tuple[str, str, str, str], Row] = {}
        """(checkpoint, task, split, metric) → row."""
        self.protocols: dict[tuple[str, str, str], dict[str, Any]] = {}
        """(checkpoint, task, split) → protocol."""
        for row in evaluation.results:
            self.rows[*cell_of(row), row["metric"]] = row
            self.protocols.setdefault(cell_of(row), row.get("protocol") or {})
        self.failures = {cell_of(row): row["reason"] for row in evaluation.failures}

    @cached_property
    def tasks(self) -> list[Task]:
        """Tasks in the order of the rows."""
        names = task_names(self.evaluation.results)
        metrics: dict[tuple[str, str], dict[str, None]] = {}
        kinds: dict[tuple[str, str], str] = {}
        for row in self.evaluation.results:
            pair = row["task"], split_of(row)
            metrics.setdefault(pair, {})[row["metric"]] = None
            kinds[pair] = kinds.get(pair) or str((row.get("protocol") or {}).get("kind") or "")
        return [Task(*pair, names[pair], kinds[pair], tuple(metrics[pair])) for pair in metrics]

    def row(self, model: str, task: Task, metric: str) -> Row | None:
        """One row, or None where the model has none."""
        return self.rows.get((model, task.task, task.split, metric))

    def protocol(self, model: str, task: Task) -> dict[str, Any] | None:
        """The protocol of a cell; None where there is no such cell."""
        return self.protocols.get((model, task.task, task.split))

    def failure(self, model: str, task: Task) -> str:
        """Why a cell failed; empty where it did not."""
        return self.failures.get((model, task.task, task.split)) or self.failures.get((model, task.task, "")) or ""

    def values(self, task: Task, metric: str) -> dict[str, float]:
        """The defined values of a column, by model."""
        rows = ((model, self.row(model, task, metric)) for model in self.models)
        return {model: float(row["value"]) for model, row in rows if row and row["value"] is not None}

    def ranked(self, task: Task, metric: str) -> list[str]:
        """Models that have the metric, best first; equals in their order."""
        values, sign = self.values(task, metric), direction(metric)
        return sorted(values, key=lambda model: -sign * values[model])


def label(metric: str) -> str:
    """A metric's heading in a leaderboard."""
    if match := re.fullmatch(r"(image|text)_to_(image|text)_recall@(\d+)", metric):
        return f"{match[1]} → {match[2]} R@{match[3]}"
    if match := re.fullmatch(r"(ndcg|recall|hit)@(\d+)", metric):
        return f"{GRADED[match[1]]}@{match[2]}"
    return LABELS.get(metric, metric)


def checkpoints_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The checkpoints of rows, each once, in order."""
    return list(dict.fromkeys(str(row["checkpoint"]) for row in rows))


def checkpoint_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Checkpoint → a short name: `<run>/<file>` of a path, the last part of a model of others; all of it where that is
    ambiguous."""
    short = {text: _short(text) for text in checkpoints_of(rows)}
    names = list(short.values())
    unique = {text: name if names.count(name) == 1 else text for text, name in short.items()}
    clipped = [_clipped(name) for name in unique.values()]
    return {
        text: clip if clipped.count(clip) == 1 else name
        for (text, name), clip in zip(unique.items(), clipped, strict=True)
    }


def _short(text: str) -> str:
    scheme, _, target = text.partition(":")
    if scheme == "api":
        return target.rpartition("#")[2] or text
    if scheme in ("open_clip", "hf"):
        path, sign, tag = target.partition("@")
        return (path.rstrip("/").rpartition("/")[2] + sign + tag.rpartition("/")[2]) or text
    parts = [part for part in PurePath(text).parts if part != "checkpoints"]
    return "/".join(parts[-2:]).removesuffix(".ckpt") or text


def _clipped(name: str) -> str:
    half = (LONGEST_NAME - 1) // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def task_names(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """(task, split) → the task, with the split where it is not the only one."""
    pairs = dict.fromkeys((row["task"], split_of(row)) for row in rows)
    has_splits = len({split for _, split in pairs}) > 1
    return {(task, split): f"{task} · {split}" if has_splits and split else task for task, split in pairs}
