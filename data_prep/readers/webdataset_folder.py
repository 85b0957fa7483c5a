"""Sources that are folders of webdataset tars: a tar is a unit, and a member's sample is what a subclass makes of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from data_prep.draft import Counts
from data_prep.errors import BadRow
from data_prep.readers.files import resolve_below, size_of
from data_prep.readers.webdataset import TarSample, find_tars, tar_samples
from data_prep.source import Dropped, Unit
from medvlp.shards import Sample


class TarFolder:
    """What readers of tars share: `tars` are paths below `folder`; a subclass makes samples of what is in them."""

    name: str
    tools: tuple[str, ...] = ()
    texts: tuple[str, ...]
    """Extensions of the members that are read beside the image."""

    def __init__(self, input: str) -> None:
        self.folder = Path(input)
        self.tars, self.planned = find_tars(self.folder) if input else ([], {})
        """`planned`: what was passed by when the tars were looked for → how often."""
        self.counts: Counts = Counter()
        """(stage, what) → how often, of the unit that was read last."""

    def sample(self, found: TarSample, tar: str) -> Sample:
        """The sample of a tar's members. Raises BadRow."""
        raise NotImplementedError

    def fingerprint(self) -> dict[str, str]:
        """The tars by names and sizes: they are terabytes."""
        listing = "\n".join(map(self._mark, self.tars))
        return {"*.tar": hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()}

    def units(self) -> list[Unit]:
        """A unit for each tar, by name; it stays done when others come."""
        return [Unit("train", number, tar, self._mark(tar)) for number, tar in enumerate(self.tars)]

    def _mark(self, tar: str) -> str:
        return f"{tar}\t{size_of(self.folder, tar)}"

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Samples, or drops: those of `tar_samples`, of `sample`, and bad_path of a tar that is no file of the folder."""
        self.counts = Counter()
        try:
            for found in tar_samples(resolve_below(self.folder, unit.what), self.texts, self.counts):
                try:
                    yield self.sample(found, unit.what)
                except BadRow as bad:
                    yield Dropped(f"{unit.what}: {found.key}", bad.reason, bad.detail)
        except BadRow as bad:  # a link that leaves the folder, a pipe, a device
            yield Dropped(unit.what, bad.reason, bad.detail)
