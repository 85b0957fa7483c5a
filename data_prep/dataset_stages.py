"""What is decided over all samples together, once every unit is done: their splits, and who is a copy of whom.

Decisions are functions of the parts' tables in the data set's order, so they are the same whoever made the parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.draft import FORMATS
from data_prep.errors import PrepError
from data_prep.jobs import Part
from data_prep.plan import digest_of
from data_prep.splits import group_hashes, hold_out, keep_groups_whole, random_splits
from medvlp.shards import ShardDataset, read_members, to_members
from medvlp.shards.vocabulary import SPLITS

if TYPE_CHECKING:
    import pyarrow as pa

    from data_prep.dedup.duplicates import Copies
    from data_prep.dedup.fingerprints import Marks

PAIRS_SHOWN = 12
"""Of the copies inside the data, and of those that evaluations have."""


@dataclass
class Settled:
    """What becomes of every sample of the parts."""

    split_N: np.ndarray
    """(N,) int8: position in SPLITS."""
    kept_N: np.ndarray
    """(N,) bool."""
    drops: list[dict[str, str]] = field(default_factory=list)
    """Rows of dropped.jsonl."""
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)
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
    """Held-out split → samples, and those of which an image is in train, see `settle.leakage`; None: not looked for."""
    leaks: list[dict[str, Any]] = field(default_factory=list)
    """Rows of leakage.jsonl: each of those samples with its training sample."""
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    """Rows of conflicts.jsonl: pairs of samples of one picture whose labels differ."""


class Rows:
    """All samples of the parts, numbered in order."""

    def __init__(self, folder: Path, parts: Sequence[Part]) -> None:
        self.folder = folder
        self.parts = [part for part in parts if part.samples]
        self.starts = [0, *accumulate(part.samples for part in self.parts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def place(self, row: int) -> tuple[Part, int]:
        """The part that holds a sample, and its position there."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[number], row - self.starts[number]

    def published(self) -> np.ndarray:
        """(N,) int8: the splits in which the source gave the samples."""
        return np.repeat(
            np.array([SPLITS.index(part.split) for part in self.parts], np.int8), [part.samples for part in self.parts]
        )

    def column(self, name: str) -> Iterator[str]:
        """A column of the tables, streamed."""
        import pyarrow.parquet as pq

        for part in self.parts:
            yield from pq.read_table(part.file(self.folder, ".parquet"), columns=[name]).column(0).to_pylist()

    def groups(self) -> Iterator[str]:
        """Each sample's group; a sample without one is a group of its own."""
        return (group or f"\0{key}" for group, key in zip(self.column("group"), self.column("key"), strict=True))

    def keys(self, rows: Sequence[int]) -> list[str]:
        """Keys of some samples, a part's table read once for neighbours."""
        import pyarrow.parquet as pq

        found: dict[int, str] = {}
        table: tuple[Part, pa.ChunkedArray] | None = None
        for row in sorted(set(rows)):
            part, position = self.place(row)
            if table is None or table[0] is not part:
                table = part, pq.read_table(part.file(self.folder, ".parquet"), columns=["key"]).column(0)
            found[row] = table[1][position].as_py()
        return [found[row] for row in rows]

    def marks(self) -> list[Path]:
        """Tables of marks in order."""
        return [part.file(self.folder, ".marks.parquet") for part in self.parts]

    def members(self, row: int) -> dict[str, bytes]:
        """A sample's members."""
        part, position = self.place(row)
        return next(iter(read_members(part.file(self.folder, ".tar"), [position])))


def settle(folder: Path, parts: Sequence[Part], stages: list[dict[str, Any]], evaluations: Sequence[str]) -> Settled:
    """Apply the settling stages of a plan. evaluations: folders of the splits that `decontaminate` names, in order."""
    rows = Rows(folder, parts)
    by_name = {entry["stage"]: entry for entry in stages}
    published_N = rows.published()
    settled = Settled(published_N, np.ones(len(rows), bool))
    _settle_splits(settled, rows, by_name["split"])
    settled.moved.update(_moves(published_N, settled.split_N))
    with _room_in(folder):
        if "decontaminate" in by_name and len(rows):
            _settle_contamination(settled, rows, by_name["decontaminate"], evaluations)
        if "duplicates" in by_name and len(rows):
            _settle_duplicates(settled, rows, by_name["duplicates"])
    return settled


@contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    """Thumbnails are spooled to a file without a name, about which the system says nothing when the disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise PrepError(
            f"what copies are recognised by cannot be put in {folder}: {error.strerror}; make room"
        ) from None


def _settle_splits(settled: Settled, rows: Rows, entry: dict[str, Any]) -> None:
    """Give samples to splits, and count each move under what it was made for."""
    if entry["by"] == "random":
        steps = [("at random", random_splits(rows.groups(), entry["fractions"], entry["seed"]))]
    elif entry["by"] == "grouped":
        steps = [("where the rest of their group is", keep_groups_whole(settled.split_N, group_hashes(rows.groups())))]
    else:
        steps = []
    if "holdout" in entry:
        split_N = steps[-1][1] if steps else settled.split_N
        settled.counts["split", "moved train→valid, held out of train"] = 0  # is said, too
        steps.append(("held out of train", hold_out(split_N, rows.groups(), entry["holdout"], entry["seed"])))
    for why, split_N in steps:
        for (before, after), count in _moves(settled.split_N, split_N).items():
            settled.counts["split", f"moved {before}→{after}, {why}"] += count
        settled.split_N = split_N


def _moves(before_N: np.ndarray, after_N: np.ndarray) -> Counter[tuple[str, str]]:
    changed_N = np.flatnonzero(before_N != after_N)
    return Counter((SPLITS[before_N[row]], SPLITS[after_N[row]]) for row in changed_N)


def _settle_contamination(settled: Settled, rows: Rows, entry: dict[str, Any], evaluations: Sequence[str]) -> None:
    """Samples outside of test that an evaluation split has too, by id, bytes, looks or words: dropped, or only reported."""
    from data_prep.dedup.contamination import MATCHED_BY, Reference, find
    from data_prep.dedup.fingerprints import Marks
    from data_prep.dedup.visual_matches import Limits

    folders = dict(zip(entry["against"], map(Path, evaluations), strict=True))
    reference = Reference.build(folders, rows.folder / f"evaluations-{digest_of(entry['against'])}.parquet")
    kinds = [MATCHED_BY[way] for way in entry["by"]]
    limits = Limits(radius=entry["radius"])
    matches = find(Marks(rows.marks()), reference, limits, scratch=rows.folder, kinds=kinds)
    matches = [match for match in matches if SPLITS[settled.split_N[match.row]] != "test"]
    shown = Counter(match.row for match in matches)
    keys = rows.keys([match.row for match in matches])
    places = {name: {key: n for n, key in enumerate(ShardDataset(folder).keys)} for name, folder in folders.items()}
    for match, key in zip(matches, keys, strict=True):
        split = SPLITS[settled.split_N[match.row]]
        page: dict[str, Any] = {"key": key, "split": split, "other": match.key, "folder": match.folder}
        page |= {
            "kind": match.kind,
            "distance": match.distance,
            "action": "dropped" if entry["action"] == "drop" else "kept",
        }
        settled.copies.append(page)
        if entry["action"] == "drop" and settled.kept_N[match.row]:
            settled.kept_N[match.row] = False
            drop = {"split": split, "name": key, "stage": "decontaminate", "reason": f"same_{match.kind}"}
            settled.drops.append({**drop, "detail": f"as {match.key} of {match.folder}"})
        if len(settled.pairs) < PAIRS_SHOWN and shown.pop(match.row, 0):
            other = to_members(ShardDataset(folders[match.folder]).read(places[match.folder][match.key]))
            settled.pairs.append(_pair(page, rows.members(match.row), other))


def _settle_duplicates(settled: Settled, rows: Rows, entry: dict[str, Any]) -> None:
    """Copies of a sample: dropped from the splits that the entry names, or only reported. Then, of what stays, which is in
    train too, and of all that came, which copies are labelled differently."""
    from data_prep.dedup.duplicates import decide, find
    from data_prep.dedup.fingerprints import Marks
    from data_prep.dedup.visual_matches import Limits

    marks = Marks(rows.marks())
    found = find(marks, Limits(radius=entry["radius"]), scratch=rows.folder)
    if found.crowded:
        settled.counts["duplicates", "pictures compared with the leaders of a crowd only"] = found.crowded
    dropped_from = {SPLITS.index(name) for name in entry["in"]}
    _settle_conflicts(settled, rows, found, marks)
    copies = decide(found, settled.split_N, settled.kept_N, dropped_from)
    keys = rows.keys([row for copy in copies for row in (copy.row, copy.other)])
    before = len(settled.pairs)
    for copy, key, other in zip(copies, keys[::2], keys[1::2], strict=True):
        split = settled.split_N[copy.row]
        is_dropped = entry["action"] == "drop" and split in dropped_from
        page: dict[str, Any] = {
            "key": key,
            "split": SPLITS[split],
            "other": other,
            "other_split": SPLITS[settled.split_N[copy.other]],
            "kind": copy.kind.removesuffix("_duplicate"),
            "distance": copy.distance,
            "action": "dropped" if is_dropped else "kept",
        }
        if is_dropped:
            settled.kept_N[copy.row] = False
            drop = {"split": page["split"], "name": key, "stage": "duplicates", "reason": copy.kind}
            settled.drops.append({**drop, "detail": f"of {other}"})
        settled.copies.append(page)
        if len(settled.pairs) - before < PAIRS_SHOWN:
            settled.pairs.append(_pair(page, rows.members(copy.row), rows.members(copy.other)))
    _settle_leakage(settled, rows, found)


def _settle_conflicts(settled: Settled, rows: Rows, copies: Copies, marks: Marks) -> None:
    """One picture under two labels: a finding about the publisher's labels, whatever becomes of the copies."""
    from data_prep.dedup.leakage import conflicts

    pairs = conflicts(copies, marks)
    keys = rows.keys([row for pair in pairs for row in (pair.row, pair.other)])
    for pair, key, other in zip(pairs, keys[::2], keys[1::2], strict=True):
        split, other_split = (SPLITS[settled.split_N[row]] for row in (pair.row, pair.other))
        page: dict[str, Any] = {"key": key, "split": split, "other": other, "other_split": other_split}
        page |= {"match": pair.match, "labels": pair.labels}
        settled.conflicts.append(page)
        if len(settled.conflicts) <= PAIRS_SHOWN:
            shown = {**page, "kind": "conflict", "action": ""}
            settled.pairs.append(_pair(shown, rows.members(pair.row), rows.members(pair.other)))


def _settle_leakage(settled: Settled, rows: Rows, copies: Copies) -> None:
    """The one count of leakage, of the samples that stay."""
    from data_prep.dedup.leakage import BYTES, PICTURE, leaks

    is_train_N = settled.split_N == SPLITS.index("train")
    held_out = np.unique(settled.split_N[~is_train_N & settled.kept_N]).tolist()
    found = leaks(copies, is_train_N & settled.kept_N, ~is_train_N & settled.kept_N)
    keys = rows.keys([row for leak in found for row in (leak.row, leak.other)])
    counts = Counter((SPLITS[settled.split_N[leak.row]], leak.match) for leak in found)
    settled.leakage = {
        SPLITS[split]: {
            "samples": int(np.count_nonzero(settled.kept_N[settled.split_N == split])),
            "same_bytes": counts[SPLITS[split], BYTES],
            "same_picture": counts[SPLITS[split], PICTURE],
        }
        for split in held_out
    }
    settled.leaks += [
        {"split": SPLITS[settled.split_N[leak.row]], "key": key, "match": leak.match, "train_key": other}
        for leak, key, other in zip(found, keys[::2], keys[1::2], strict=True)
    ]


def _pair(page: dict[str, Any], members: dict[str, bytes], other: dict[str, bytes]) -> dict[str, Any]:
    """A copy and what it is a copy of, for the report: both pictures, small, and both captions."""
    from medvlp.report.thumbnails import thumbnail

    shown: dict[str, Any] = {"row": page}
    for prefix, its in (("", members), ("other_", other)):
        image = next((its[name] for name in sorted(its) if name.rpartition(".")[2] in FORMATS), b"")
        shown[f"{prefix}image"] = thumbnail(image) if image else ""
        shown[f"{prefix}caption"] = its.get("txt", b"").decode("utf-8", "replace")[:500]
    return shown
