"""Decisions about every sample of a data set: its split, whether it stays, and its lines in the ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_prep.draft import FORMATS

PAIRS_SHOWN = 12
"""Of the copies inside the data, and of those that evaluations have."""


@dataclass
class Decisions:
    """What becomes of every sample of the parts."""

    split_N: np.ndarray
    """(N,) int8: position in SPLITS."""
    is_kept_N: np.ndarray
    """(N,) bool."""
    drops: list[dict[str, str]] = field(default_factory=list)
    """Rows of dropped.jsonl."""
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(published split, split) → samples that changed theirs."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(stage, what) → how often, as the units' own counts."""
    vanished: dict[str, dict[str, int]] = field(default_factory=dict)
    """Label → class → samples that came in, of classes that have none left."""
    copies: list[dict[str, Any]] = field(default_factory=list)
    """Rows of copies.jsonl: each copy that was found, and what became of it."""
    pairs: list[dict[str, Any]] = field(default_factory=list)
    """Some of the copies with both pictures, for the report."""
    leakage: dict[str, dict[str, int]] | None = None
    """Held-out split → samples, and those of which an image is in train, see `dedup.leakage`; None: not looked for."""
    leaks: list[dict[str, Any]] = field(default_factory=list)
    """Rows of leakage.jsonl: each of those samples with its training sample."""
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    """Rows of conflicts.jsonl: pairs of samples of one picture whose labels differ."""


def illustrated_pair(
    row: dict[str, Any], members: dict[str, bytes], original_members: dict[str, bytes]
) -> dict[str, Any]:
    """A copy and what it is a copy of, for the report: both pictures, small, and both captions."""
    from medvlp.report.thumbnails import thumbnail

    pair: dict[str, Any] = {"row": row}
    for prefix, content in (("", members), ("other_", original_members)):
        image = next((content[name] for name in sorted(content) if name.rpartition(".")[2] in FORMATS), b"")
        pair[f"{prefix}image"] = thumbnail(image) if image else ""
        pair[f"{prefix}caption"] = content.get("txt", b"").decode("utf-8", "replace")[:500]
    return pair
