"""Decontamination: samples outside of test that an evaluation split has too, by id, bytes, picture or text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.dataset_stages.decisions import PAIRS_SHOWN, Decisions, illustrated_pair
from data_prep.dataset_stages.part_samples import PartSamples
from data_prep.dedup.contamination import MATCHED_BY, Reference, find_matches
from data_prep.dedup.fingerprints import Fingerprints
from data_prep.dedup.visual_matches import Limits
from data_prep.plan import digest_of
from medvlp.shards import ShardDataset, to_members
from medvlp.shards.vocabulary import SPLITS


def decontaminate(
    decisions: Decisions, samples: PartSamples, entry: dict[str, Any], evaluations: Sequence[str]
) -> None:
    """Drop the matches, or only report them. entry: of the plan. evaluations: folders, in the order of its `against`."""
    folders = dict(zip(entry["against"], map(Path, evaluations), strict=True))
    reference = Reference.build(folders, samples.folder / f"evaluations-{digest_of(entry['against'])}.parquet")
    kinds = [MATCHED_BY[criterion] for criterion in entry["by"]]
    matches = find_matches(
        Fingerprints(samples.fingerprint_files()),
        reference,
        Limits(radius=entry["radius"]),
        scratch=samples.folder,
        kinds=kinds,
    )
    matches = [match for match in matches if SPLITS[decisions.split_N[match.row]] != "test"]
    unillustrated = Counter(match.row for match in matches)
    keys = samples.keys([match.row for match in matches])
    positions = {name: {key: n for n, key in enumerate(ShardDataset(folder).keys)} for name, folder in folders.items()}
    for match, key in zip(matches, keys, strict=True):
        split = SPLITS[decisions.split_N[match.row]]
        row: dict[str, Any] = {"key": key, "split": split, "other": match.key, "folder": match.folder}
        row |= {
            "kind": match.kind,
            "distance": match.distance,
            "action": "dropped" if entry["action"] == "drop" else "kept",
        }
        decisions.copies.append(row)
        if entry["action"] == "drop" and decisions.is_kept_N[match.row]:
            decisions.is_kept_N[match.row] = False
            drop = {"split": split, "name": key, "stage": "decontaminate", "reason": f"same_{match.kind}"}
            decisions.drops.append({**drop, "detail": f"as {match.key} of {match.folder}"})
        if len(decisions.pairs) < PAIRS_SHOWN and unillustrated.pop(match.row, 0):
            evaluation = ShardDataset(folders[match.folder])
            original = to_members(evaluation.read(positions[match.folder][match.key]))
            decisions.pairs.append(illustrated_pair(row, samples.members(match.row), original))
