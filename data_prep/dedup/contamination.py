"""Training samples that stand in an evaluation set: by id, by bytes, by looks, or by their words."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data_prep.dedup.fingerprints import MARKS, Marks, describe, text_digest, unsigned
from data_prep.dedup.visual_matches import Ints, Limits, Pictures, alike
from data_prep.draft import Draft
from data_prep.errors import PrepError
from medvlp.shards import BadSample, ShardDataset, ShardError
from medvlp.shards.writer import write_tables

ID, SHA256, PERCEPTUAL, TEXT = "id", "sha256", "perceptual", "text"

MIN_WORDS = 8
"""Shorter texts ("chest x-ray", "is there a fracture? no") are common property and say nothing of where a sample is from."""

MAX_GROUPS = 2
"""So are texts that more articles, patients or images than this have, here or there: a sentence made of a label, a disclaimer,
a question that is asked of every image. A text that was published twice is still known by its words."""

MATCHED_BY = {"id": ID, "bytes": SHA256, "picture": PERCEPTUAL, "text": TEXT}
"""Values of `decontaminate_by` → kinds of matches."""

_REFERENCE = MARKS.insert(0, pa.field("folder", pa.string()))
_MADE_FROM = b"made_from"
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Match:
    """A training sample and the evaluation sample that it matches, with `distance` in bits of the perceptual hash."""

    row: int
    key: str
    """Of the evaluation sample."""
    folder: str
    """The evaluation set's name."""
    kind: str
    """"id", "sha256", "perceptual" or "text"."""
    distance: int = 0
    likeness: float = 1.0


class Reference:
    """The marks of evaluation sets, made once and kept in a file."""

    def __init__(self, file: Path) -> None:
        self.marks = Marks([file])

    @classmethod
    def build(cls, folders: Mapping[str, Path], file: Path, max_pixels: int = 64_000_000) -> Reference:
        """Mark the samples of finished splits, given by name, or take the file if it was made from just these.

        A picture that cannot be decoded is marked by its bytes alone. Raises PrepError if a folder is not a finished split or
        has a damaged sample: an evaluation set that was read in part would let contamination through unseen.
        """
        try:
            datasets = {name: ShardDataset(folder) for name, folder in folders.items()}
        except ShardError as error:
            raise PrepError(f"decontamination needs finished splits: {error}") from None
        made_from = json.dumps([[name, dataset.manifest_hash] for name, dataset in datasets.items()]).encode()
        if not _is_made_from(file, made_from, max_pixels):
            columns = _REFERENCE.with_metadata({_MADE_FROM: made_from, b"max_pixels": str(max_pixels).encode()})
            write_tables(file, _tables(datasets, columns, max_pixels), columns)
        return cls(file)


def _is_made_from(file: Path, made_from: bytes, max_pixels: int) -> bool:
    try:
        found = pq.read_schema(file)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    metadata = found.metadata or {}
    pixels = str(max_pixels).encode()
    return found.equals(_REFERENCE) and (metadata.get(_MADE_FROM), metadata.get(b"max_pixels")) == (made_from, pixels)


def _tables(datasets: Mapping[str, ShardDataset], columns: pa.Schema, max_pixels: int) -> Iterator[pa.Table]:
    for name, dataset in datasets.items():
        for start in range(0, len(dataset), _ROWS_AT_ONCE):
            numbers = range(start, min(start + _ROWS_AT_ONCE, len(dataset)))
            rows = [{"folder": name, **described(dataset, number, max_pixels)} for number in numbers]
            yield pa.Table.from_pylist(rows, columns)


def described(dataset: ShardDataset, number: int, max_pixels: int = 64_000_000) -> dict[str, Any]:
    """The marks of a sample of a finished split; a picture that cannot be decoded is marked by its bytes alone.

    Raises:
        PrepError: the sample is not what was written.
    """
    try:
        draft = Draft(dataset.read(number))
    except BadSample as error:
        raise PrepError(f"{dataset.folder}: {error}; `medvlp verify {dataset.folder}` says more") from None
    if not _is_decoded(draft, max_pixels):
        draft.__dict__["pictures"] = {}
    return describe(draft)


def _is_decoded(draft: Draft, max_pixels: int) -> bool:
    try:
        for picture in draft.pictures.values():
            if picture.width * picture.height > max_pixels:
                return False
            picture.load()
    except Exception:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error, ...
        return False
    return True


def find(
    marks: Marks,
    reference: Reference,
    limits: Limits | None = None,
    min_words: int = MIN_WORDS,
    scratch: Path | None = None,
    kinds: Collection[str] = (ID, SHA256, PERCEPTUAL, TEXT),
) -> list[Match]:
    """Every sample that matches an evaluation sample, once for each kind, in the order of the samples and the kinds.

    Ids match where both name the same article, or come from the same source with the same group. Texts match in words (see
    `marks.normalised`) from min_words on, unless templates made them (their source says so) or more than `MAX_GROUPS` groups
    share them, on either side. Of several matches of a kind the best is given, then the earliest.
    limits None: pictures by their bytes only. kinds: of matches that count.
    """
    ours, theirs = Pictures(marks, scratch), Pictures(reference.marks, scratch)
    found: dict[str, _Found] = {
        ID: _by_id(marks, reference.marks),
        SHA256: _by_bytes(ours, theirs),
        PERCEPTUAL: {},
        TEXT: _by_text(marks, reference.marks, min_words),
    }
    if limits is not None and PERCEPTUAL in kinds:
        found[PERCEPTUAL] = _by_looks(ours, theirs, limits)
    found = {kind: its for kind, its in found.items() if kind in kinds}
    names = [
        (folder, key)
        for table in reference.marks.columns("folder", "key")
        for folder, key in zip(table["folder"].to_pylist(), table["key"].to_pylist(), strict=True)
    ]
    matches = []
    for row in sorted(set().union(*found.values())):
        for kind, its in found.items():
            if row in its:
                other, distance, likeness = its[row]
                folder, key = names[other]
                matches.append(Match(row, key, folder, kind, distance, likeness))
    return matches


_Found = dict[int, tuple[int, int, float]]
"""Sample → evaluation sample, distance, likeness."""


def _by_id(ours: Marks, theirs: Marks) -> _Found:
    known: dict[tuple[str, ...], int] = {}
    for number, names in _ids(theirs):
        for name in names:
            known.setdefault(name, number)
    return {
        number: (min(known[name] for name in names if name in known), 0, 1.0)
        for number, names in _ids(ours)
        if any(name in known for name in names)
    }


def _ids(marks: Marks) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    number = 0
    for table in marks.columns("source", "group", "article"):
        for source, group, article in zip(*(column.to_pylist() for column in table.columns), strict=True):
            names: list[tuple[str, ...]] = [("article", article)] if article else []
            yield number, names + ([("group", source, group)] if source and group else [])
            number += 1


def _by_bytes(ours: Pictures, theirs: Pictures) -> _Found:
    their_rows = theirs.rows()[theirs.first_D]
    known = {bytes(half): int(row) for half, row in zip(theirs.sha_D2, their_rows, strict=True)}
    matched = [(content, known[bytes(half)]) for content, half in enumerate(ours.sha_D2) if bytes(half) in known]
    contents, others = (np.array([pair[side] for pair in matched], np.int64) for side in (0, 1))
    return _spread(ours, contents, others, np.zeros(len(matched), np.uint8), np.ones(len(matched), np.float32))


def _by_looks(ours: Pictures, theirs: Pictures, limits: Limits) -> _Found:
    pairs = alike(ours, theirs, limits, np.flatnonzero(ours.comparable_D), np.flatnonzero(theirs.comparable_D))
    same_E = (ours.sha_D2[pairs.first_E] == theirs.sha_D2[pairs.second_E]).all(1)  # told by their bytes already
    first_E, distance_E, likeness_E = (each[~same_E] for each in (pairs.first_E, pairs.distance_E, pairs.likeness_E))
    others_E = theirs.rows()[theirs.first_D][pairs.second_E[~same_E]]
    return _spread(ours, first_E, others_E, distance_E, likeness_E)


def _spread(
    ours: Pictures, contents: Ints, others: Ints, distances: NDArray[np.uint8], scores: NDArray[np.float32]
) -> _Found:
    """From distinct images to the samples that have them."""
    best: _Found = {}
    for content, other, distance, score in zip(
        *(each.tolist() for each in (contents, others, distances, scores)), strict=True
    ):
        new = (other, distance, score)
        best[content] = min(best.get(content, new), new, key=lambda match: (-match[2], match[0]))
    images = np.flatnonzero(np.isin(ours.content_I, np.fromiter(best, np.int64, len(best))))
    found: _Found = {}
    for row, content in zip(ours.rows()[images].tolist(), ours.content_I[images].tolist(), strict=True):
        new = best[content]
        found[row] = min(found.get(row, new), new, key=lambda match: (-match[2], match[0]))
    return found


def _by_text(ours: Marks, theirs: Marks, min_words: int) -> _Found:
    their_rows, their_texts = _own_texts(theirs, min_words)
    known, first = np.unique(their_texts, return_index=True)  # stable: the earliest sample with the text
    rows, texts = _own_texts(ours, min_words)
    place = np.searchsorted(known, texts)
    hits = np.flatnonzero(np.isin(texts, known))
    found: _Found = {}
    for hit in hits.tolist():
        other = (int(their_rows[first[place[hit]]]), 0, 1.0)
        found[int(rows[hit])] = min(found.get(int(rows[hit]), other), other)
    return found


def _own_texts(marks: Marks, min_words: int) -> tuple[Ints, NDArray[np.uint64]]:
    """(sample, digest) of each text of enough words that no more than `MAX_GROUPS` groups have."""
    rows, texts = _long_texts(marks, min_words)
    if not len(rows):
        return rows, texts
    group_N = np.array([text_digest("\0".join(names)) for names in _groups(marks)], np.uint64)
    order = np.lexsort((group_N[rows], texts))
    text_T, group_T = texts[order], group_N[rows][order]
    is_new_T = np.ones(len(order), bool)
    is_new_T[1:] = (text_T[1:] != text_T[:-1]) | (group_T[1:] != group_T[:-1])
    known, groups = np.unique(text_T[is_new_T], return_counts=True)
    own = np.isin(texts, known[groups <= MAX_GROUPS])
    return rows[own], texts[own]


def _groups(marks: Marks) -> Iterator[tuple[str, ...]]:
    """What keeps each sample together with others; one without a group is a group of its own."""
    for table in marks.columns("source", "group", "key"):
        for source, group, key in zip(*(column.to_pylist() for column in table.columns), strict=True):
            yield (source, group) if group else ("", "", key)


def _long_texts(marks: Marks, min_words: int) -> tuple[Ints, NDArray[np.uint64]]:
    """(sample, digest) of each text of enough words."""
    rows, digests, start = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], 0
    for lengths, (text, words) in marks.lists("text", "words"):
        long = pc.greater_equal(words, min_words).to_numpy(zero_copy_only=False)
        rows.append((start + np.repeat(np.arange(len(lengths)), lengths))[long])
        digests.append(unsigned(text)[long])
        start += len(lengths)
    return np.concatenate(rows), np.concatenate(digests)
