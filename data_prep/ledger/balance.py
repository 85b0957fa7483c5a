"""The ledger's pages: in = out + Σ drops, for every split and for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlp.shards.vocabulary import SPLITS

if TYPE_CHECKING:
    from data_prep.dataset_stages.decisions import Decisions
    from data_prep.jobs import Part

WORST = 8
"""Images that lost most to `deidentify_pixels`, which the ledger names and the report shows."""


def make_ledger(parts: Sequence[Part], decisions: Decisions) -> dict[str, Any]:
    """What came in, what went out, what was dropped where and why; in = out + Σ drops is checked, for every split.

    {"in", "rows", "panels", "out", "drops": {stage: {reason: n}}, "counts": {stage: {what: n}}, "moved": {"a→b": n},
    "splits": {split: {"in", "out", "drops"}}}; in = rows of the source + panels that figures were split into. Where
    copies were looked for, also "leakage": {split: {"samples", "same_bytes", "same_picture"}} and "conflicting_labels": n;
    where pixels were blacked out, "blacked": the images that lost most.
    """
    drops: dict[str, Counter[tuple[str, str]]] = {part.split: Counter() for part in parts}
    counts: Counter[tuple[str, str]] = Counter(decisions.counts)
    samples_in: Counter[str] = Counter()
    for part in parts:
        samples_in[part.split] += part.samples_in
        counts.update(_flat(part.counts))
        drops[part.split].update(_flat(part.drops))
    out = {SPLITS[n]: int(np.count_nonzero(decisions.is_kept_N[decisions.split_N == n])) for n in range(len(SPLITS))}
    for drop in decisions.drops:
        drops.setdefault(drop["split"], Counter())[drop["stage"], drop["reason"]] += 1
    splits = {}
    for split in [*drops, *(name for name, number in out.items() if number and name not in drops)]:
        drops_of_split = drops.get(split, Counter())
        gain = sum(count * ((new == split) - (old == split)) for (old, new), count in decisions.moves.items())
        split_in = samples_in[split] + gain
        splits[split] = {"in": split_in, "out": out.get(split, 0), "drops": nested(drops_of_split)}
        _check(split, split_in, out.get(split, 0), drops_of_split.total())
    total: Counter[tuple[str, str]] = sum(drops.values(), Counter())
    _check("all splits", samples_in.total(), sum(out.values()), total.total())
    moves = {f"{old}→{new}": count for (old, new), count in sorted(decisions.moves.items())}
    rows = sum(part.rows for part in parts)
    page: dict[str, Any] = {
        "in": samples_in.total(),
        "rows": rows,
        "panels": samples_in.total() - rows,
        "out": sum(out.values()),
    }
    if decisions.vanished:
        page["vanished"] = decisions.vanished
    blacked = worst(image for part in parts for image in part.blacked)
    page |= {"blacked": blacked} if blacked else {}
    page |= {"drops": nested(total), "counts": nested(counts), "moved": moves, "splits": splits}
    if decisions.leakage is None:
        return page
    return {**page, "leakage": decisions.leakage, "conflicting_labels": len(decisions.conflicts)}


def _check(name: str, samples_in: int, samples_out: int, drops: int) -> None:
    if samples_in != samples_out + drops:
        raise AssertionError(f"ledger of {name}: {samples_in} came in, {samples_out} went out, {drops} were dropped")


def _flat(nested: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(stage, subject): count for stage, page in nested.items() for subject, count in page.items()}


def worst(blacked: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of images that lost pixels, those that lost most."""
    return sorted(blacked, key=lambda image: (-image["share"], image["key"], image["image"]))[:WORST]


def nested(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts as pages of the ledger hold them: {stage: {what: how often}}, sorted."""
    page: dict[str, dict[str, int]] = {}
    for (stage, subject), count in sorted(counts.items()):
        page.setdefault(stage, {})[subject] = count
    return page
