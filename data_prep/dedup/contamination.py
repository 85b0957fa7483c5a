"""Training samples that stand in an evaluation set: by id, bytes, picture or text."""

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

from data_prep.dedup.fingerprints import FINGERPRINT_SCHEMA, Fingerprints, fingerprint, text_digest, unsigned
from data_prep.dedup.visual_matches import Ints, Limits, Pictures, find_visual_matches, on_one_thread
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

_REFERENCE = FINGERPRINT_SCHEMA.insert(0, pa.field("folder", pa.string()))
_DATASETS = b"made_from"
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
    similarity: float = 1.0


class Reference:
    """The fingerprints of evaluation sets, made once and kept in a file."""

    def __init__(self, file: Path) -> None:
        self.fingerprints = Fingerprints([file])

    @classmethod
    def build(cls, folders: Mapping[str, Path], file: Path, max_pixels: int = 64_000_000) -> Reference:
        """Take fingerprints of the samples of finished splits, given by name, or take the file if it was made from just these.

        A picture that cannot be decoded is known by its bytes alone. Raises PrepError if a folder is not a finished split or
        has a damaged sample: an evaluation set that was read in part would let contamination through unseen.
        """
        try:
            datasets = {name: ShardDataset(folder) for name, folder in folders.items()}
        except ShardError as error:
            raise PrepError(f"decontamination needs finished splits: {error}") from None
        made_from = json.dumps([[name, dataset.manifest_hash] for name, dataset in datasets.items()]).encode()
        if not _is_made_from(file, made_from, max_pixels):
            columns = _REFERENCE.with_metadata({_DATASETS: made_from, b"max_pixels": str(max_pixels).encode()})
            write_tables(file, _tables(datasets, columns, max_pixels), columns)
        return cls(file)


def _is_made_from(file: Path, made_from: bytes, max_pixels: int) -> bool:
    try:
        schema = pq.read_schema(file)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    metadata = schema.metadata or {}
    pixels = str(max_pixels).encode()
    return schema.equals(_REFERENCE) and (metadata.get(_DATASETS), metadata.get(b"max_pixels")) == (made_from, pixels)


def _tables(datasets: Mapping[str, ShardDataset], columns: pa.Schema, max_pixels: int) -> Iterator[pa.Table]:
    for name, dataset in datasets.items():
        for start in range(0, len(dataset), _ROWS_AT_ONCE):
            numbers = range(start, min(start + _ROWS_AT_ONCE, len(dataset)))
            rows = [{"folder": name, **fingerprint_sample(dataset, number, max_pixels)} for number in numbers]
            yield pa.Table.from_pylist(rows, columns)


def fingerprint_sample(dataset: ShardDataset, number: int, max_pixels: int = 64_000_000) -> dict[str, Any]:
    """The fingerprints of a sample of a finished split; a picture that cannot be decoded is known by its bytes alone.

    Raises:
        PrepError: the sample is not what was written.
    """
    try:
        draft = Draft(dataset.read(number))
    except BadSample as error:
        raise PrepError(f"{dataset.folder}: {error}; `medvlp verify {dataset.folder}` says more") from None
    if not _is_decoded(draft, max_pixels):
        draft.__dict__["pictures"] = {}
    return fingerprint(draft)


def _is_decoded(draft: Draft, max_pixels: int) -> bool:
    try:
        for picture in draft.pictures.values():
            if picture.width * picture.height > max_pixels:
                return False
            picture.load()
    except Exception:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error, ...
        return False
    return True


def find_matches(
    fingerprints: Fingerprints,
    reference: Reference,
    limits: Limits,
    scratch: Path | None = None,
    kinds: Collection[str] = (ID, SHA256, PERCEPTUAL, TEXT),
) -> list[Match]:
    """Every sample that matches an evaluation sample, once for each kind, in the order of the samples and the kinds.

    Ids match where both name the same article, or come from the same source with the same group. Texts match in words (see
    `fingerprints.normalised`) from `MIN_WORDS` on, unless templates made them (their source says so) or more than
    `MAX_GROUPS` groups share them, on either side. Of several matches of a kind the best is given, then the earliest.
    limits: of pictures. kinds: of matches that count.
    """
    pictures, evaluation_pictures = Pictures(fingerprints, scratch), Pictures(reference.fingerprints, scratch)
    matches_by_kind: dict[str, MatchByRow] = {
        ID: _by_id(fingerprints, reference.fingerprints),
        SHA256: _by_bytes(pictures, evaluation_pictures),
        PERCEPTUAL: {},
        TEXT: _by_text(fingerprints, reference.fingerprints),
    }
    if PERCEPTUAL in kinds:
        matches_by_kind[PERCEPTUAL] = _by_picture(pictures, evaluation_pictures, limits)
    matches_by_kind = {kind: match_by_row for kind, match_by_row in matches_by_kind.items() if kind in kinds}
    names = [
        (folder, key)
        for table in reference.fingerprints.columns("folder", "key")
        for folder, key in zip(table["folder"].to_pylist(), table["key"].to_pylist(), strict=True)
    ]
    matches = []
    for row in sorted(set().union(*matches_by_kind.values())):
        for kind, match_by_row in matches_by_kind.items():
            if row in match_by_row:
                evaluation_row, distance, similarity = match_by_row[row]
                folder, key = names[evaluation_row]
                matches.append(Match(row, key, folder, kind, distance, similarity))
    return matches


MatchByRow = dict[int, tuple[int, int, float]]
"""Sample → evaluation sample, distance, similarity."""


def _by_id(fingerprints: Fingerprints, evaluations: Fingerprints) -> MatchByRow:
    row_by_name: dict[tuple[str, ...], int] = {}
    for number, names in _ids(evaluations):
        for name in names:
            row_by_name.setdefault(name, number)
    return {
        number: (min(row_by_name[name] for name in names if name in row_by_name), 0, 1.0)
        for number, names in _ids(fingerprints)
        if any(name in row_by_name for name in names)
    }


def _ids(fingerprints: Fingerprints) -> Iterator[tuple[int, list[tuple[str, ...]]]]:
    number = 0
    for table in fingerprints.columns("source", "group", "article"):
        for source, group, article in zip(*(column.to_pylist() for column in table.columns), strict=True):
            names: list[tuple[str, ...]] = [("article", article)] if article else []
            yield number, names + ([("group", source, group)] if source and group else [])
            number += 1


def _by_bytes(pictures: Pictures, evaluation_pictures: Pictures) -> MatchByRow:
    evaluation_rows = evaluation_pictures.rows()[evaluation_pictures.first_D]
    row_by_hash = {bytes(half): int(row) for half, row in zip(evaluation_pictures.sha_D2, evaluation_rows, strict=True)}
    matched = [
        (content, row_by_hash[bytes(half)])
        for content, half in enumerate(pictures.sha_D2)
        if bytes(half) in row_by_hash
    ]
    contents, evaluation_rows_E = (np.array([pair[side] for pair in matched], np.int64) for side in (0, 1))
    return _spread(
        pictures, contents, evaluation_rows_E, np.zeros(len(matched), np.uint8), np.ones(len(matched), np.float32)
    )


@on_one_thread
def _by_picture(pictures: Pictures, evaluation_pictures: Pictures, limits: Limits) -> MatchByRow:
    pairs = find_visual_matches(
        pictures,
        evaluation_pictures,
        limits,
        np.flatnonzero(pictures.comparable_D),
        np.flatnonzero(evaluation_pictures.comparable_D),
    )
    # Pairs of equal bytes are told by these already.
    same_E = (pictures.sha_D2[pairs.first_E] == evaluation_pictures.sha_D2[pairs.second_E]).all(1)
    first_E, distance_E, similarity_E = (
        column[~same_E] for column in (pairs.first_E, pairs.distance_E, pairs.similarity_E)
    )
    evaluation_row_E = evaluation_pictures.rows()[evaluation_pictures.first_D][pairs.second_E[~same_E]]
    return _spread(pictures, first_E, evaluation_row_E, distance_E, similarity_E)


def _spread(
    pictures: Pictures, contents: Ints, evaluation_rows: Ints, distances: NDArray[np.uint8], scores: NDArray[np.float32]
) -> MatchByRow:
    """From distinct images to the samples that have them."""
    best: MatchByRow = {}
    for content, evaluation_row, distance, score in zip(
        *(column.tolist() for column in (contents, evaluation_rows, distances, scores)), strict=True
    ):
        new = (evaluation_row, distance, score)
        best[content] = min(best.get(content, new), new, key=lambda match: (-match[2], match[0]))
    images = np.flatnonzero(np.isin(pictures.content_I, np.fromiter(best, np.int64, len(best))))
    match_by_row: MatchByRow = {}
    for row, content in zip(pictures.rows()[images].tolist(), pictures.content_I[images].tolist(), strict=True):
        new = best[content]
        match_by_row[row] = min(match_by_row.get(row, new), new, key=lambda match: (-match[2], match[0]))
    return match_by_row


def _by_text(fingerprints: Fingerprints, evaluations: Fingerprints) -> MatchByRow:
    evaluation_rows, evaluation_texts = _rare_texts(evaluations)
    known_texts, first = np.unique(evaluation_texts, return_index=True)  # stable: the earliest sample with the text
    rows, texts = _rare_texts(fingerprints)
    position = np.searchsorted(known_texts, texts)
    hits = np.flatnonzero(np.isin(texts, known_texts))
    match_by_row: MatchByRow = {}
    for hit in hits.tolist():
        match = (int(evaluation_rows[first[position[hit]]]), 0, 1.0)
        match_by_row[int(rows[hit])] = min(match_by_row.get(int(rows[hit]), match), match)
    return match_by_row


def _rare_texts(fingerprints: Fingerprints) -> tuple[Ints, NDArray[np.uint64]]:
    """(sample, digest) of each text of enough words that no more than `MAX_GROUPS` groups have."""
    rows, texts = _long_texts(fingerprints)
    if not len(rows):
        return rows, texts
    group_N = np.array([text_digest("\0".join(names)) for names in _groups(fingerprints)], np.uint64)
    order = np.lexsort((group_N[rows], texts))
    text_T, group_T = texts[order], group_N[rows][order]
    is_new_T = np.ones(len(order), bool)
    is_new_T[1:] = (text_T[1:] != text_T[:-1]) | (group_T[1:] != group_T[:-1])
    distinct_texts, groups = np.unique(text_T[is_new_T], return_counts=True)
    is_rare = np.isin(texts, distinct_texts[groups <= MAX_GROUPS])
    return rows[is_rare], texts[is_rare]


def _groups(fingerprints: Fingerprints) -> Iterator[tuple[str, ...]]:
    """What keeps each sample together with others; one without a group is a group of its own."""
    for table in fingerprints.columns("source", "group", "key"):
        for source, group, key in zip(*(column.to_pylist() for column in table.columns), strict=True):
            yield (source, group) if group else ("", "", key)


def _long_texts(fingerprints: Fingerprints) -> tuple[Ints, NDArray[np.uint64]]:
    """(sample, digest) of each text of enough words."""
    rows, digests, start = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], 0
    for lengths, (text, words) in fingerprints.lists("text", "words"):
        long = pc.greater_equal(words, MIN_WORDS).to_numpy(zero_copy_only=False)
        rows.append((start + np.repeat(np.arange(len(lengths)), lengths))[long])
        digests.append(unsigned(text)[long])
        start += len(lengths)
    return np.concatenate(rows), np.concatenate(digests)
