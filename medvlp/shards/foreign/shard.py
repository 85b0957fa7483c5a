"""The index of one tar of others: where its samples' members are, their rows of the table, and what cannot be used."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from medvlp.shards.errors import BadSample
from medvlp.shards.foreign.form import FIRST, ForeignForm, is_image
from medvlp.shards.foreign.tars import Member, walk
from medvlp.shards.schema import MAX_MEMBER_NAME, make_key
from medvlp.shards.writer import MAX_SAMPLE_BYTES, FileMark, Row, columns_of, mark_file

MAX_TEXT_BYTES = 2**26
"""Of a member that is no image; some JSON carries a whole article."""
Measure = Callable[[bytes], tuple[int, int]]
"""Encoded image → (height, width); raises BadSample."""


@dataclass(frozen=True)
class DroppedSample:
    """A sample, or a part of a tar, that is not in the index, and why."""

    shard: str
    key: str
    reason: str
    detail: str


@dataclass
class ShardIndex:
    """What indexing one tar gives."""

    mark: FileMark
    entries: list[tuple[int, bytes, int, int, int]] = field(default_factory=list)
    """Rows of the index: (sample, member, offset, size, crc32)."""
    rows: list[Row] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Of each row, the sample's name in the tar."""
    drops: list[DroppedSample] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    """Members that no one asked for, by extension."""


def index_shard(path: Path, name: str, split: str, form: ForeignForm, measure: Measure | None = None) -> ShardIndex:
    """Index one tar, which is read from its beginning to its end.

    Args:
        path: the tar on this disk.
        name: its name below the folder of the tars, with `.tar`.
        form: what in it is a caption, a licence, …
        measure: without it, width and height are 0.

    Raises:
        OSError: it cannot be read.
    """
    contents = walk(path)
    index = ShardIndex(mark_file(path))
    index.drops += [
        DroppedSample(name, member, "no_regular_file", "a link, a device or a sparse file")
        for member in contents.special
    ]
    if contents.clutter:
        index.ignored["what systems leave behind"] = contents.clutter
    with open(path, "rb", buffering=0) as file:
        for key, members in _samples(contents.members, name, form, index).items():
            try:
                _add(index, file.fileno(), name, split, key, members, form, measure)
            except BadSample as bad:
                index.drops.append(DroppedSample(name, key, bad.reason, bad.detail))
    if contents.broken:
        index.drops.append(DroppedSample(name, "", "broken_tar", f"{contents.broken}; what follows is not known"))
    return index


def _samples(members: list[Member], name: str, form: ForeignForm, index: ShardIndex) -> dict[str, dict[str, Member]]:
    """Sample's name → its members by extension in lower case, wherever in the tar they stand."""
    samples: dict[str, dict[str, Member]] = {}
    for member in members:
        key, extension = _parts(member.name, form)
        if not (is_image(extension) or extension in form.text_members) or len(extension) > MAX_MEMBER_NAME or not key:
            index.ignored[f".{extension}" if extension else member.name] += 1
        elif extension in samples.setdefault(key, {}):
            detail = f"{member.name} is in the tar before; the first counts"
            index.drops.append(DroppedSample(name, key, "repeated_member", detail))
        else:
            samples[key][extension] = member
    return samples


def _parts(name: str, form: ForeignForm) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".") if form.dots == FIRST else base.rpartition(".")
    if form.dots != FIRST and base.lower().endswith(".nii.gz"):
        stem, extension = base[:-7], "nii.gz"
    return f"{folder}{slash}{stem}" if stem else "", extension.lower()


def _add(
    index: ShardIndex,
    handle: int,
    name: str,
    split: str,
    key: str,
    members: dict[str, Member],
    form: ForeignForm,
    measure: Measure | None,
) -> None:
    for extension, member in members.items():
        if member.size > (MAX_SAMPLE_BYTES if is_image(extension) else MAX_TEXT_BYTES):
            raise BadSample("too_large", key=key, detail=f"{member.name} has {member.size} bytes")
    if sum(member.size for member in members.values()) > MAX_SAMPLE_BYTES:
        raise BadSample("too_large", key=key, detail=f"it has more than {MAX_SAMPLE_BYTES} bytes")
    contents = {extension: os.pread(handle, member.size, member.offset) for extension, member in members.items()}
    # With the split: counters of tars begin again in each, and equal keys would be taken for the same samples.
    sample = form.sample(make_key(form.name, f"{split}-{name.removesuffix('.tar')}", key), contents)
    sizes = {image: measure(data) for image, data in sample.images.items()} if measure else {}
    height, width = sizes.get(min(sample.images), (0, 0))
    row = Row(shard=name, split=split, width=width, height=height, perceptual_hash="", **columns_of(sample))
    for extension, member in sorted(members.items(), key=lambda item: item[1].offset):
        crc = zlib.crc32(contents[extension])
        index.entries.append((len(index.rows), extension.encode(), member.offset, member.size, crc))
    index.rows.append(row)
    index.names.append(key)
