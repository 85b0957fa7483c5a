"""The ledger's pages: in = out + Σ drops, for every split and for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlp.shards.vocabulary import SPLITS

if TYPE_CHECKING:
    from data_prep.dataset_stages import Settled
    from data_prep.jobs import Part

WORST = 8
"""Images that lost most to `deidentify_pixels`, which the ledger names and the report shows."""


def make_ledger(parts: Sequence[Part], settled: Settled) -> dict[str, Any]:
    """What came in, what went out, what was dropped where and why; in = out + Σ drops is checked, for every split.

    {"in", "rows", "panels", "out", "drops": {stage: {reason: n}}, "counts": {stage: {what: n}}, "moved": {"a→b": n},
    "splits": {split: {"in", "out", "drops"}}}; in = rows of the source + panels that figures were split into. Where
    copies were looked for, also "leakage": {split: {"samples", "same_bytes", "same_picture"}} and "conflicting_labels": n;
    where pixels were blacked out, "blacked": the images that lost most.
    """
    drops: dict[str, Counter[tuple[str, str]]] = {part.split: Counter() for part in parts}
    counts: Counter[tuple[str, str]] = Counter(settled.counts)
    entered: Counter[str] = Counter()
    for part in parts:
        entered[part.split] += part.entered
        counts.update(_flat(part.counts))
        drops[part.split].update(_flat(part.drops))
    out = {SPLITS[n]: int(np.count_nonzero(settled.kept_N[settled.split_N == n])) for n in range(len(SPLITS))}
    for drop in settled.drops:
        drops.setdefault(drop["split"], Counter())[drop["stage"], drop["reason"]] += 1
    splits = {}
    for split in [*drops, *(name for name, number in out.items() if number and name not in drops)]:
        its = drops.get(split, Counter())
        gained = sum(count * ((after == split) - (before == split)) for (before, after), count in settled.moved.items())
        came = entered[split] + gained
        splits[split] = {"in": came, "out": out.get(split, 0), "drops": nested(its)}
        _check(split, came, out.get(split, 0), its.total())
    total: Counter[tuple[str, str]] = sum(drops.values(), Counter())
    _check("all splits", entered.total(), sum(out.values()), total.total())
    moved = {f"{before}→{after}": count for (before, after), count in sorted(settled.moved.items())}
    rows = sum(part.rows for part in parts)
    page: dict[str, Any] = {
        "in": entered.total(),
        "rows": rows,
        "panels": entered.total() - rows,
        "out": sum(out.values()),
    }
    if settled.vanished:
        page["vanished"] = settled.vanished
    blacked = worst(image for part in parts for image in part.blacked)
    page |= {"blacked": blacked} if blacked else {}
    page |= {"drops": nested(total), "counts": nested(counts), "moved": moved, "splits": splits}
    if settled.leakage is None:
        return page
    return {**page, "leakage": settled.leakage, "conflicting_labels": len(settled.conflicts)}


def _check(where: str, entered: int, left: int, dropped: int) -> None:
    if entered != left + dropped:
        raise AssertionError(f"ledger of {where}: {entered} came in, {left} went out, {dropped} were dropped")


def _flat(nested: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(stage, what): count for stage, page in nested.items() for what, count in page.items()}


def worst(blacked: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of images that lost pixels, those that lost most."""
    return sorted(blacked, key=lambda image: (-image["share"], image["key"], image["image"]))[:WORST]


def nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts as pages of the ledger hold them: {stage: {what: how often}}, sorted."""
    page: dict[str, dict[str, int]] = {}
    for (stage, what), count in sorted(counts.items()):
        page.setdefault(stage, {})[what] = count
    return page
