"""Duplicates: copies of a sample are dropped or reported; leakage and conflicting labels are counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from data_prep.dataset_stages.decisions import PAIRS_SHOWN, Decisions, illustrated_pair
from data_prep.dataset_stages.part_samples import PartSamples
from data_prep.dedup.duplicates import Copies, find_copies, resolve_copies
from data_prep.dedup.fingerprints import Fingerprints
from data_prep.dedup.leakage import BYTES, PICTURE, find_conflicts, find_leaks
from data_prep.dedup.visual_matches import Limits
from medvlp.shards.vocabulary import SPLITS


def drop_duplicates(decisions: Decisions, samples: PartSamples, entry: dict[str, Any]) -> None:
    """Copies of a sample: dropped from the splits that the entry names, or only reported. Then, of what stays, which is in
    train too, and of all that came, which copies are labelled differently."""
    fingerprints = Fingerprints(samples.fingerprint_files())
    copies = find_copies(fingerprints, Limits(radius=entry["radius"]), scratch=samples.folder)
    if copies.pooled:
        decisions.counts["duplicates", "pictures compared with the leaders of a crowd only"] = copies.pooled
    dropped_from = {SPLITS.index(name) for name in entry["in"]}
    _add_conflicts(decisions, samples, copies, fingerprints)
    resolved = resolve_copies(copies, decisions.split_N, decisions.is_kept_N, dropped_from)
    keys = samples.keys([row for copy in resolved for row in (copy.row, copy.original)])
    illustrated = 0
    for copy, key, original in zip(resolved, keys[::2], keys[1::2], strict=True):
        split = decisions.split_N[copy.row]
        is_dropped = entry["action"] == "drop" and split in dropped_from
        row: dict[str, Any] = {
            "key": key,
            "split": SPLITS[split],
            "other": original,
            "other_split": SPLITS[decisions.split_N[copy.original]],
            "kind": copy.kind.removesuffix("_duplicate"),
            "distance": copy.distance,
            "action": "dropped" if is_dropped else "kept",
        }
        if is_dropped:
            decisions.is_kept_N[copy.row] = False
            drop = {"split": row["split"], "name": key, "stage": "duplicates", "reason": copy.kind}
            decisions.drops.append({**drop, "detail": f"of {original}"})
        decisions.copies.append(row)
        if illustrated < PAIRS_SHOWN:
            decisions.pairs.append(illustrated_pair(row, samples.members(copy.row), samples.members(copy.original)))
            illustrated += 1
    _add_leakage(decisions, samples, copies)


def _add_conflicts(decisions: Decisions, samples: PartSamples, copies: Copies, fingerprints: Fingerprints) -> None:
    """One picture under two labels: a finding about the publisher's labels, whatever becomes of the copies."""
    pairs = find_conflicts(copies, fingerprints)
    keys = samples.keys([row for pair in pairs for row in (pair.row, pair.original)])
    for pair, key, original in zip(pairs, keys[::2], keys[1::2], strict=True):
        split, original_split = (SPLITS[decisions.split_N[row]] for row in (pair.row, pair.original))
        row: dict[str, Any] = {"key": key, "split": split, "other": original, "other_split": original_split}
        row |= {"match": pair.match, "labels": pair.labels}
        decisions.conflicts.append(row)
        if len(decisions.conflicts) <= PAIRS_SHOWN:
            decisions.pairs.append(
                illustrated_pair(
                    {**row, "kind": "conflict", "action": ""}, samples.members(pair.row), samples.members(pair.original)
                )
            )


def _add_leakage(decisions: Decisions, samples: PartSamples, copies: Copies) -> None:
    """The one count of leakage, of the samples that stay."""
    is_train_N = decisions.split_N == SPLITS.index("train")
    held_out_splits = np.unique(decisions.split_N[~is_train_N & decisions.is_kept_N]).tolist()
    leaks = find_leaks(copies, is_train_N & decisions.is_kept_N, ~is_train_N & decisions.is_kept_N)
    keys = samples.keys([row for leak in leaks for row in (leak.row, leak.train_row)])
    counts = Counter((SPLITS[decisions.split_N[leak.row]], leak.match) for leak in leaks)
    decisions.leakage = {
        SPLITS[split]: {
            "samples": int(np.count_nonzero(decisions.is_kept_N[decisions.split_N == split])),
            "same_bytes": counts[SPLITS[split], BYTES],
            "same_picture": counts[SPLITS[split], PICTURE],
        }
        for split in held_out_splits
    }
    decisions.leaks += [
        {"split": SPLITS[decisions.split_N[leak.row]], "key": key, "match": leak.match, "train_key": train_key}
        for leak, key, train_key in zip(leaks, keys[::2], keys[1::2], strict=True)
    ]
