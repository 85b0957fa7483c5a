"""Webdataset tars: samples are members that follow each other and share a name.

A member's name is `<key>.<extension>`. Publishers' keys hold dots ("12_0-PMC4441475-3-pone.0127203.g002"), so the
extension is what stands after the last one, where the library takes all from the first.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from data_prep.draft import Counts
from data_prep.errors import BadRow, NotAFile, PrepError
from data_prep.readers.clutter import COUNTED, is_clutter
from data_prep.readers.fields import check_utf8, count_ignored
from data_prep.readers.guarded import readable, regular_only, resolve_below, size_of
from data_prep.readers.image_files import MAX_IMAGE_BYTES
from data_prep.source import Dropped, Source, Unit
from medvlp.shards import Sample

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "tif", "tiff", "bmp")
"""Extensions of members that are a sample's image; what is in them, their first bytes tell."""

MAX_TEXT_BYTES = 64 * 2**20
"""Of a member that is no image; BIOMEDICA's JSON carries the whole article, some megabytes."""

ADVICE = "download the publisher's file again"


@dataclass
class TarSample:
    """The members of one sample."""

    key: str
    members: dict[str, bytes] = field(default_factory=dict)
    """Extension in lower case → bytes; "image" for the image."""
    fault: BadRow | None = None
    """The first member that was not read."""

    def member(self, name: str) -> bytes:
        """The bytes of a member. Raises BadRow: missing_image, missing_<extension>, or the sample's fault."""
        if self.fault:
            raise self.fault
        if name not in self.members:
            raise BadRow(f"missing_{name}", f"{self.key} has {', '.join(sorted(self.members)) or 'nothing'} only")
        return self.members[name]


def find_tars(folder: Path) -> tuple[list[str], dict[str, int]]:
    """(paths of the tars below a folder, relative to it, sorted; what was passed by → how often).

    Links to folders are not followed. What a system left behind, such as Mac's "._" copies, is no tar.
    """
    paths = []
    for parent, _, names in os.walk(folder):
        paths += [Path(parent, name).relative_to(folder).as_posix() for name in names if name.endswith(".tar")]
    tars = sorted(path for path in paths if not is_clutter(path))
    return tars, {COUNTED[1]: len(paths) - len(tars)} if len(tars) < len(paths) else {}


def tar_samples(path: Path, texts: tuple[str, ...], counts: Counts | None = None) -> Iterator[TarSample]:
    """The samples of a tar, one at a time: images, and members with the extensions of `texts`.

    Other members, and files that a system left behind, are passed by and go into `counts`. Of a member that is there
    twice the first counts; the other is a sample with the fault repeated_member.

    A sample may carry a BadRow as its fault: bad_path (a link, a device, a sparse file), image_too_large,
    member_too_large, not_utf8 (of the name), members_apart (members that it lacks stand elsewhere in the tar),
    repeated_key (it was whole before). Raises PrepError where the tar is damaged or cut off, since nobody can say how
    many samples that cost, and BadRow bad_path where it is no regular file.
    """
    counts = Counter() if counts is None else counts
    kinds_by_key = cache(lambda: _kinds_by_key(path, texts))
    keys: set[str] = set()
    split_keys: set[str] = set()
    for key, members in groupby(_members(path, texts, counts), key=itemgetter(0)):
        sample, repeated = TarSample(key), list[str]()
        if key in keys:
            sample.fault = BadRow("repeated_key", f"{key} is in {path.name} before; the first counts")
        for _, kind, member, archive in members:
            if kind in sample.members:
                repeated.append(member.name)
                continue
            try:
                sample.members[kind] = b"" if sample.fault else _read(archive, member, kind, path)
            except BadRow as bad:
                sample.fault = bad
        if key in split_keys:  # which was said when it came first
            continue
        keys.add(key)
        missing = {"image", *texts} - sample.members.keys()
        if missing and sample.fault is None and (distant := sorted(missing & kinds_by_key()[key])):
            split_keys.add(key)
            detail = f"its {' and '.join(distant)} stand apart from it in {path.name}; sort the tar by name"
            sample.fault = BadRow("members_apart", detail)
        yield sample
        if repeated and sample.fault is None:
            detail = f"{', '.join(repeated)} is in {path.name} before; the first counts"
            yield TarSample(key, fault=BadRow("repeated_member", detail))


def _kinds_by_key(path: Path, texts: tuple[str, ...]) -> dict[str, set[str]]:
    """Key → what members it has anywhere in the tar; only headers are read."""
    kinds: dict[str, set[str]] = {}
    for key, kind, _, _ in _members(path, texts, Counter()):
        kinds.setdefault(key, set()).add(kind)
    return kinds


def _members(
    path: Path, texts: tuple[str, ...], counts: Counts
) -> Iterator[tuple[str, str, tarfile.TarInfo, tarfile.TarFile]]:
    """(key, "image" or extension, header, archive) of each member that is read."""
    with _opened(path) as raw, _Capped(raw) as file, _open(path, file) as archive:
        while True:
            with readable(path, ADVICE):
                member = archive.next()
            if member is None:
                break
            archive.members.clear()  # type: ignore[attr-defined]  # it keeps every header otherwise
            name = member.name
            while name.startswith("./"):
                name = name[2:]
            key, _, extension = name.rpartition(".")
            kind = "image" if extension.lower() in IMAGES else extension.lower()
            if member.isdir():
                continue
            if is_clutter(name):
                counts[COUNTED] += 1
            elif key and (kind == "image" or kind in texts):
                yield key, kind, member, archive
            else:
                count_ignored(counts, [f".{extension}" if key else name])
        _check_end(path, file, archive.offset)


def _opened(path: Path) -> io.FileIO:
    try:
        return open(path, "rb", buffering=0, opener=regular_only)
    except NotAFile:
        raise BadRow("bad_path", f"{path.name} is not a regular file") from None


def _open(path: Path, file: io.BufferedReader) -> tarfile.TarFile:
    with readable(path, ADVICE):
        return tarfile.open(fileobj=file, mode="r:")


class _Capped(io.BufferedReader):
    """A file that does not read more at once than a member may have: tarfile believes the sizes in extended headers."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_IMAGE_BYTES:
            raise ValueError(f"a header asks for {size} bytes")
        return super().read(size)


def _check_end(path: Path, file: io.BufferedReader, offset: int) -> None:
    """tarfile takes a damaged header, and the end of a file that was cut off, for the end of the archive."""
    file.seek(offset)
    block = file.read(tarfile.BLOCKSIZE)
    if block != b"\0" * tarfile.BLOCKSIZE:
        problem = "ends without an end-of-archive mark: it was cut off" if not block else "has a damaged header"
        raise PrepError(f"{path} {problem} at byte {offset}; {ADVICE}")


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, kind: str, path: Path) -> bytes:
    check_utf8(member.name, "the member's name")
    if not member.isreg() or member.issparse():
        raise BadRow("bad_path", f"{member.name} is no regular file")
    limit, member_kind = (MAX_IMAGE_BYTES, "image") if kind == "image" else (MAX_TEXT_BYTES, "member")
    if member.size > limit:
        raise BadRow(f"{member_kind}_too_large", f"{member.name} has {member.size} bytes, at most {limit} are read")
    with readable(path, ADVICE):
        file = archive.extractfile(member)
        data = file.read() if file else b""
    if len(data) != member.size:
        raise PrepError(f"{path} is cut off inside {member.name}; {ADVICE}")
    return data


class TarSource(Source):
    """What sources of tars share: `tars` are paths below `folder`; a subclass makes samples of what is in them."""

    texts: tuple[str, ...]
    """Extensions of the members that are read besides the image."""

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.folder = Path(input)
        self.tars, self.input_counts = find_tars(self.folder) if input else ([], {})

    def options(self) -> dict[str, Any]:
        """Nothing to choose: a unit is a tar, whatever samples_per_shard says."""
        return {}

    def sample(self, tar_sample: TarSample, tar: str) -> Sample:
        """The sample of a tar's members. Raises BadRow."""
        raise NotImplementedError

    def fingerprint(self) -> dict[str, str]:
        """The tars by names and sizes: they are terabytes."""
        listing = "\n".join(map(self._fingerprint, self.tars))
        return {"*.tar": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()}

    def units(self) -> list[Unit]:
        """A unit for each tar, by name; it stays done when others come."""
        return [Unit("train", number, tar, self._fingerprint(tar)) for number, tar in enumerate(self.tars)]

    def _fingerprint(self, tar: str) -> str:
        return f"{tar}\t{size_of(self.folder, tar)}"

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Samples, or drops: those of `tar_samples`, of `sample`, and bad_path of a tar that is no file of the folder."""
        self.counts = Counter()
        try:
            for tar_sample in tar_samples(resolve_below(self.folder, unit.selection), self.texts, self.counts):
                try:
                    yield self.sample(tar_sample, unit.selection)
                except BadRow as bad:
                    yield Dropped(f"{unit.selection}: {tar_sample.key}", bad.reason, bad.detail)
        except BadRow as bad:  # a link that leaves the folder, a pipe, a device
            yield Dropped(unit.selection, bad.reason, bad.detail)
