"""Classes of a label before and after preparation, and those that vanished: a model's evaluation would miss them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlp.shards import read_members

if TYPE_CHECKING:
    from data_prep.jobs import Part

MAX_VALUES = 100
"""Distinct values of a label that is taken for classes; more are free text or measurements."""

Classes = dict[str, Counter[str]]
"""Label → value → samples."""


def add(classes: Classes, labels: Mapping[str, Any]) -> None:
    """Count the labels of one sample: texts, and of `label_name` the items of a list."""
    for name, value in labels.items():
        values = value if isinstance(value, list) and name == "label_name" else [value]
        counter = classes.setdefault(name, Counter())
        if len(counter) <= MAX_VALUES:
            counter.update(text[:80] for text in values if isinstance(text, str))


def page_of(classes: Classes) -> dict[str, dict[str, int]]:
    """Classes as JSON holds them."""
    return {name: dict(sorted(counter.items())) for name, counter in sorted(classes.items()) if counter}


def vanished(folder: Path, parts: Sequence[Part], is_kept_N: np.ndarray) -> dict[str, dict[str, int]]:
    """Label → class → samples that came in, of the classes of which none is left, where others of the label are.

    folder: of the parts. is_kept_N: (N,) bool, whether each sample of the parts stays in the data set.
    """
    classes_in, classes_out = (_total(part.classes.get(side, {}) for part in parts) for side in ("in", "out"))
    if not is_kept_N.all() and any(
        min(counts.values()) <= np.count_nonzero(~is_kept_N) for counts in classes_out.values()
    ):
        for labels in _dropped(folder, parts, is_kept_N):
            dropped_classes: Classes = {}
            add(dropped_classes, labels)
            for name, counts in dropped_classes.items():
                classes_out.get(name, Counter()).subtract(counts)
    classes: dict[str, dict[str, int]] = {}
    for name, counts in classes_in.items():
        remaining = classes_out.get(name, Counter())
        values = {value: count for value, count in sorted(counts.items()) if remaining[value] <= 0}
        if len(counts) <= MAX_VALUES and values and len(values) < len(counts):
            classes[name] = values
    return classes


def _total(pages: Iterable[Mapping[str, Mapping[str, int]]]) -> Classes:
    classes: Classes = {}
    for page in pages:
        for name, counts in page.items():
            classes.setdefault(name, Counter()).update(counts)
    return classes


def _dropped(folder: Path, parts: Sequence[Part], is_kept_N: np.ndarray) -> Iterator[Mapping[str, Any]]:
    """The labels of samples that were dropped after their parts were written."""
    start = 0
    for part in parts:
        positions = np.flatnonzero(~is_kept_N[start : start + part.samples]).tolist()
        start += part.samples
        if positions:
            for members in read_members(part.file(folder, ".tar"), positions):
                yield json.loads(members["json"]).get("labels", {})
