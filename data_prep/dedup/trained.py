"""Leakage between any two splits: held-out samples that a model was trained on, also of separate preparations.

Splits of one preparation have the answer above them (leakage.jsonl). For others, checksums and perceptual hashes of the
tables propose pairs, and thumbnails of the pictures in question decide, as in a preparation. Ids and groups are compared
where both splits have them from one publisher: two folders of files may well use the same names for different things.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.contamination import fingerprint_sample
from data_prep.dedup.hamming import within
from data_prep.dedup.leakage import BYTES, PICTURE
from data_prep.dedup.similarity import SIDE
from data_prep.dedup.visual_matches import Limits, compared
from data_prep.errors import PrepError
from medvlp.jsonl import read_rows
from medvlp.shards import BadSample, ShardDataset, ShardError
from medvlp.shards.index import open_index
from medvlp.shards.manifest import LEAKAGE, LEDGER

EXTRA_RADIUS = 6
"""Bits beyond a preparation's radius: the hashes of tables are plain ones, and there is none of the inner picture."""
PMC_ARTICLE = re.compile(r"PMC\d+")
NEAREST = 32
"""Training pictures that a held-out one is compared with, those of the nearest hashes: a copy is among the first."""


ID, GROUP = "id", "group"
"""A sample that is in train by its name, and one of which another of its group (patient, article) is."""
MATCHES = (BYTES, PICTURE, ID, GROUP)
"""The strongest first; a sample is counted once."""


def trained_on(train: Sequence[ShardDataset], held_out: ShardDataset) -> dict[str, str]:
    """Key → one of `MATCHES`, for the samples of a split that any of the training splits has.

    Of splits that were not prepared together, all images are compared by bytes, and the first of each sample as pictures,
    with a preparation's limits.

    Raises:
        ShardError: a table cannot be read, or leakage.jsonl is gone.
    """
    matches_by_key: dict[str, str] = {}
    for dataset in train:
        matches = _leaks_of_one_preparation(dataset, held_out)
        matches = matches if matches is not None else _leaks_of_two_preparations(dataset, held_out, Limits())
        for of_dataset in (matches, shared_names(dataset, held_out)):
            for key, match in of_dataset.items():
                matches_by_key[key] = min(match, matches_by_key.get(key, match), key=MATCHES.index)
    return matches_by_key


def shared_names(train: ShardDataset, held_out: ShardDataset) -> dict[str, str]:
    """Key → "id" or "group", for the held-out samples whose key is in train, or else whose group.

    Nothing for splits of two preparations unless publishers gave the names of both. A group counts within its source (the
    first part of a key); an article of PubMed Central is the same in every source.
    """
    is_one_preparation = train.folder.resolve().parent == held_out.folder.resolve().parent
    if not is_one_preparation and not (has_published_names(train) and has_published_names(held_out)):
        return {}
    train_keys, train_groups = set(train.keys), set(_groups(train))
    matches = {}
    for key, group in zip(held_out.keys, _groups(held_out), strict=True):
        if key in train_keys:
            matches[key] = ID
        elif group[1] and group in train_groups:
            matches[key] = GROUP
    return matches


def has_published_names(dataset: ShardDataset) -> bool:
    """Whether keys and groups of a split are a publisher's, as its ledger says, and not made of the names of anyone's files."""
    try:
        ledger: dict[str, Any] = json.loads((dataset.folder.resolve().parent / LEDGER).read_bytes())
        return bool(ledger["source"].get("publication"))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _groups(dataset: ShardDataset) -> list[tuple[str, str]]:
    """(source, group) of each sample."""
    pairs = zip(dataset.keys, dataset.column("group"), strict=True)
    return [("" if PMC_ARTICLE.fullmatch(group) else key.split("__")[0], group) for key, group in pairs]


def _leaks_of_one_preparation(train: ShardDataset, held_out: ShardDataset) -> dict[str, str] | None:
    """What the preparation of both has found; None where they are of two, or have changed, or nobody looked."""
    folder = held_out.folder.resolve().parent
    if train.folder.resolve() != folder / "train":
        return None
    try:
        ledger: dict[str, Any] = json.loads((folder / LEDGER).read_bytes())
        hashes = {name: ledger["splits"][name]["manifest_sha256"] for name in ("train", held_out.folder.resolve().name)}
        looked = held_out.manifest.split in ledger["leakage"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not looked or list(hashes.values()) != [train.manifest_hash, held_out.manifest_hash]:
        return None
    return _rows(folder / LEAKAGE, held_out.manifest.split)


def _rows(path: Path, split: str) -> dict[str, str]:
    if not path.is_file():
        raise ShardError(f"{path} is gone, which says what of {split} is in train; restore it, or prepare again")
    try:
        return {str(row["key"]): str(row["match"]) for row in read_rows(path) if row["split"] == split}
    except KeyError as error:
        raise ShardError(f"{path}: a row has no {error}; restore it, or prepare again") from None


def _leaks_of_two_preparations(train: ShardDataset, held_out: ShardDataset, limits: Limits) -> dict[str, str]:
    keys = held_out.keys
    train_hashes = {sha256 for sha256, _ in image_hashes(train)}
    match_by_key = {key: BYTES for sha256, key in image_hashes(held_out) if sha256 in train_hashes}
    rows_T, hash_T = _hashes(train)
    rows_H, hash_H = _hashes(held_out)
    is_unmatched = np.array([keys[row] not in match_by_key for row in rows_H], bool)
    rows_H, hash_H = rows_H[is_unmatched], hash_H[is_unmatched]
    pairs = [
        np.stack([query, base, distance])
        for query, base, distance in within(hash_H, hash_T, limits.radius + EXTRA_RADIUS)
    ]
    if not pairs:
        return match_by_key
    query, base, distance = np.concatenate(pairs, 1)
    order = np.lexsort((base, distance, query))
    query, base = query[order], base[order]
    first = np.searchsorted(query, query)
    near = np.arange(len(query)) - first < NEAREST

    @cache
    def thumbnail_of(dataset: ShardDataset, row: int) -> tuple[NDArray[np.uint8], int] | None:
        """(1, S, S) thumbnail and the picture's shorter side; None of what shows nobody a picture."""
        try:
            fingerprints = fingerprint_sample(dataset, row)
        except PrepError:  # damaged: reading the split says so
            return None
        data, side = fingerprints["thumbnail"][0], fingerprints["side"][0]
        return None if data is None else (np.frombuffer(data, np.uint8).reshape(1, SIDE, SIDE), side)

    for held_out_row, train_row in zip(rows_H[query[near]].tolist(), rows_T[base[near]].tolist(), strict=True):
        if keys[held_out_row] in match_by_key:
            continue
        held_out_picture, train_picture = thumbnail_of(held_out, held_out_row), thumbnail_of(train, train_row)
        if held_out_picture is None or train_picture is None:
            continue
        sides_P = np.array([min(held_out_picture[1], train_picture[1])])
        if compared(held_out_picture[0], train_picture[0], 1.0, sides_P, limits)[0]:
            match_by_key[keys[held_out_row]] = PICTURE
    return match_by_key


def _hashes(dataset: ShardDataset) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """(rows, hashes) of the samples that have one."""
    column = dataset.column("perceptual_hash")
    rows = [row for row, text in enumerate(column) if text]
    return np.array(rows, np.int64), np.array([int(column[row], 16) for row in rows], np.uint64)


def image_hashes(dataset: ShardDataset) -> Iterator[tuple[str, str]]:
    """(sha256, key) of every image of a split. The table knows each sample's first image, so only samples with several
    are read."""
    rows_with_several = _with_several_images(dataset)
    for row, first in enumerate(dataset.column("sha256")):
        if first:
            yield first, dataset.key(row)
        if row in rows_with_several:
            try:
                sample = dataset.read(row)
            except BadSample:  # reading the split says so
                continue
            yield from ((hashlib.sha256(data).hexdigest(), sample.key) for data in sample.images.values())


def _with_several_images(dataset: ShardDataset) -> set[int]:
    positions: dict[str, set[int]] = {}
    for tar in dataset.manifest.shards:
        try:
            index = open_index(dataset.local_file(str(Path(tar).with_suffix(".idx"))))
        except (OSError, ValueError):  # as above
            continue
        text_members = [name.encode() for name in dataset.form.text_members]
        images = index["sample"][~np.isin(index["member"], text_members)]
        positions[tar] = set(np.flatnonzero(np.bincount(images, minlength=1) > 1).tolist())
    if not any(positions.values()):
        return set()
    located = enumerate(map(dataset.locate, range(len(dataset))))
    return {row for row, (tar, position) in located if position in positions.get(tar, ())}
