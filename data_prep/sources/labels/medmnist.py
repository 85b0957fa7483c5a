"""MedMNIST v2, 2D (Yang et al., Scientific Data 2023): `<set>.npz` with {train,val,test}_{images,labels}.

Images are uint8, (N, H, W) or (N, H, W, 3); labels are (N, 1), (N,) in re-saved files, or (N, C) of 0 and 1 where an
image may have several. Images become PNG without loss; captions are made from the labels. Labels of a sample:
`label` (an int, or the list of C zeros and ones) and `label_name` (the publisher's name, or the list of names).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep.errors import PrepError
from data_prep.png import encode_png
from data_prep.readers.clutter import glob
from data_prep.readers.fields import IGNORED
from data_prep.readers.guarded import digest_file, readable
from data_prep.source import Dropped, Options, Source, Unit, chunks
from data_prep.sources.labels.medmnist_tables import FLAVOURS, TEMPLATES
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication

SPLITS = {"train": "train", "valid": "val", "test": "test"}
"""Our name → the publisher's."""
ADVICE = "a MedMNIST npz is expected; download it again"


@dataclass(frozen=True)
class MedMnistOptions(Options):
    """Options of the source medmnist."""

    set: str = ""
    """Which set, such as breastmnist, where the file's name does not say it or the folder holds several."""


class MedMnist(Source):
    """One MedMNIST npz file, given itself or by the folder that it is in."""

    name = "medmnist"
    description = "MedMNIST: a 2D npz, captions made from its labels"
    page = "https://medmnist.com"
    files = "<set>.npz, such as breastmnist.npz"
    publication = Publication(
        title="MedMNIST v2: A large-scale lightweight benchmark for 2D and 3D biomedical image classification",
        authors="Yang J. et al.",
        venue="Scientific Data",
        year=2023,
        url="https://doi.org/10.1038/s41597-022-01721-8",
    )
    option_type = MedMnistOptions
    flag_option = "set"
    choices: MedMnistOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        self.path = find_npz(input, self.choices.set)
        self.set = self.choices.set or infer_set(self.path)
        self.flavour = FLAVOURS[self.set]
        with readable(self.path, ADVICE), zipfile.ZipFile(self.path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        missing = [k for s in SPLITS.values() for k in (f"{s}_images", f"{s}_labels") if k not in names]
        if missing:
            raise PrepError(f"{self.path} lacks the arrays {', '.join(missing)}; it has {', '.join(names)}")
        known_arrays = {f"{name}_{part}" for name in SPLITS.values() for part in ("images", "labels")}
        self.input_counts = {f"{IGNORED}: {name}": 1 for name in names if name not in known_arrays}
        with readable(self.path, ADVICE), np.load(self.path, allow_pickle=False) as arrays:
            self.labels = {split: arrays[f"{array_name}_labels"] for split, array_name in SPLITS.items()}
        self._images = {
            split: ImageStream(self.path, f"{array_name}_images.npy") for split, array_name in SPLITS.items()
        }
        for split, labels in self.labels.items():
            self._check(split, labels, self._images[split].shape)

    def options(self) -> dict[str, Any]:
        """Which set, and the size of shards."""
        return {"flag": self.set, **super().options()}

    def fingerprint(self) -> dict[str, str]:
        """The file's content."""
        return {self.path.name: digest_file(self.path)}

    def units(self) -> list[Unit]:
        """Consecutive rows, in the publisher's order."""
        return [unit for split in SPLITS for unit in chunks(split, len(self.labels[split]), self.samples_per_shard)]

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Every row as a sample, or as a drop where its label is none of the set's."""
        start, stop = unit.selection
        classes = len(self.flavour.labels)
        for row, pixels in enumerate(self._images[unit.split].rows(start, stop), start):
            numbers = np.atleast_1d(self.labels[unit.split][row]).tolist()
            original = f"{unit.split}_{row:06d}"
            bad = [n for n in numbers if not 0 <= n < (classes if len(numbers) == 1 else 2)]
            if bad:
                yield Dropped(original, "unknown_label", f"label {bad[0]} is none of the {classes} of {self.set}")
                continue
            key = make_key(self.set, unit.split, f"{row:06d}")
            yield Sample(
                key=key,
                images={"png": encode_png(pixels)},
                texts={"caption": self.caption(key, numbers)},
                labels=self._named(numbers),
                metadata={
                    "group": original,
                    "group_kind": "row",
                    "licence": self.flavour.licence,
                    "source": self.name,
                    "flag": self.set,
                    "original_name": original,
                    "modality": self.flavour.modality,
                    "templated": ["caption"],
                },
            )

    def caption(self, key: str, numbers: list[int]) -> str:
        """A sentence from the label; which template says it depends on the key alone."""
        if len(numbers) == 1:
            finding = self.flavour.phrase(numbers[0])
        else:
            findings = [self.flavour.phrase(i) for i, present in enumerate(numbers) if present]
            finding = " and ".join([", ".join(findings[:-1]), findings[-1]] if findings[1:] else findings)
            finding = finding or self.flavour.no_finding
        template = TEMPLATES[int(hashlib.sha256(key.encode()).hexdigest(), 16) % len(TEMPLATES)]
        return template.format(subject=self.flavour.subject, finding=finding)

    def _named(self, numbers: list[int]) -> dict[str, Any]:
        names = self.flavour.labels
        if len(numbers) == 1:
            return {"label": numbers[0], "label_name": names[numbers[0]]}
        return {"label": numbers, "label_name": [names[i] for i, present in enumerate(numbers) if present]}

    def _check(self, split: str, labels: np.ndarray, images: tuple[int, ...]) -> None:
        columns = len(self.flavour.labels) if self.flavour.no_finding else 1
        shape = labels.shape if columns > 1 else labels.reshape(len(labels), -1).shape
        if shape != (images[0], columns) or labels.dtype.kind not in "iu":
            raise PrepError(
                f"{self.path}: {split} labels are {labels.dtype} {labels.shape} for {images[0]} images; expected "
                f"integers of shape ({images[0]}, {columns}){'' if columns > 1 else f' or ({images[0]},)'} "
                f"for {self.set}"
            )


class ImageStream:
    """Rows of an array inside an npz, read in order without holding the array: the 224-pixel sets take gigabytes."""

    def __init__(self, path: Path, member: str) -> None:
        self.path, self.member = path, member
        self._file: IO[bytes] | None = None
        self._next = 0
        self._reopen().close()

    def _reopen(self) -> IO[bytes]:
        header = np.lib.format
        with readable(self.path, ADVICE):
            with zipfile.ZipFile(self.path) as archive:  # the member stays readable until it is closed itself
                file = archive.open(self.member)
            is_version_1 = header.read_magic(file) == (1, 0)
            shape, fortran, dtype = (header.read_array_header_1_0 if is_version_1 else header.read_array_header_2_0)(
                file
            )
        grey, colour = len(shape) == 3, len(shape) == 4 and shape[3] == 3
        if dtype != np.uint8 or fortran or not (grey or colour):
            raise PrepError(
                f"{self.path}: {self.member} is {dtype} {shape}{' in Fortran order' if fortran else ''}; expected "
                "uint8 (N, H, W) or (N, H, W, 3) in C order; the 3D sets are not 2D images"
            )
        self.shape: tuple[int, ...] = shape
        self._file, self._next = file, 0
        return file

    def rows(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Images start to stop. Going on from where the last call ended costs nothing extra; going back re-reads."""
        file = self._file
        if file is None or file.closed or self._next > start:
            file = self._reopen()
        size = int(np.prod(self.shape[1:]))
        while self._next < stop:
            with readable(self.path, ADVICE):
                data = file.read(size)
            if len(data) != size:
                raise PrepError(
                    f"{self.path}: {self.member} ends at image {self._next} of {self.shape[0]}; download it again"
                )
            self._next += 1
            if self._next > start:
                yield np.frombuffer(data, np.uint8).reshape(self.shape[1:])


def infer_set(path: Path) -> str:
    """The set that a file's name begins with: breastmnist.npz, pathmnist_224.npz, pneumoniamnist_3882.npz."""
    for name in sorted(FLAVOURS, key=len, reverse=True):
        if path.stem.lower().startswith(name):
            return name
    raise PrepError(
        f"{path.name} does not begin with the name of a set; say which with options.set=<{'|'.join(FLAVOURS)}>"
    )


def find_npz(input: str, name: str) -> Path:
    """The one file that input and the set's name mean."""
    if name and name not in FLAVOURS:
        close = get_close_matches(name, FLAVOURS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PrepError(f"unknown options.set={name}{hint} available: {', '.join(FLAVOURS)}")
    path = Path(input)
    if input and path.is_file():
        return path
    if not input or not path.is_dir():
        raise PrepError(f"input={input or '(not given)'} should be a MedMNIST npz file, or a folder that holds one")
    files = [file for file in glob(path, "*.npz", {}) if file.stem.lower().startswith(name)]
    if len(files) == 1:
        return files[0]
    names = ", ".join(file.name for file in files) or "none"
    raise PrepError(
        f"{path} should hold one npz file{f' whose name begins with {name}' if name else ''}, it holds {names}; "
        "give the file itself as input, or choose with options.set=<name>"
    )
