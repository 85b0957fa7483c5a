"""What a source is: it plans units of work, and reads one unit at a time."""

from __future__ import annotations

import errno
import hashlib
import importlib
import inspect
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

from data_prep.errors import NotAFile, PrepError
from medvlp.shards import Sample


@dataclass(frozen=True)
class Unit:
    """A piece of a split that becomes one shard."""

    split: str
    """train, valid or test."""
    number: int
    """Position in the split, from 0."""
    what: Any
    """What to read, in plain JSON values, so that any process on any machine can do it."""
    mark: str = ""
    """What identifies the unit's own part of the input (a digest); empty: the whole input's fingerprint does.

    With a mark, a unit stays done when something else of the input changes."""


@dataclass(frozen=True)
class Dropped:
    """A row of the source that cannot become a sample; stage `read` of the ledger counts it under its reason."""

    name: str
    """The publisher's name of it."""
    reason: str
    detail: str
    words: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Short texts of the row: one of them may name a picture, which then is not without a row."""
    labels: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """As far as they are known, so that a class that loses all its samples is noticed."""


class Source(Protocol):
    """One publisher's layout."""

    name: str
    tools: tuple[str, ...]
    """Distributions, beyond those that every source uses, whose version can change the bytes of a sample."""

    # Three more are optional. `private: bool`: the samples come from patients' records, so that texts and pixels are
    # de-identified, while the source itself gives pseudonyms to keys, groups, names and drops. `counts`: after `read`,
    # {("read", what): how often} of what the unit passed by without its being a row. `planned`: after `units`,
    # {what: how often} of what was passed by in the input as a whole.

    def units(self) -> list[Unit]:
        """The work, in the order of the data set. The same input gives the same list."""

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """The samples of a unit, one after the other; every row of the source comes out, as one or the other."""

    def fingerprint(self) -> dict[str, str]:
        """What identifies the input: file (or group of files) → digest. Two runs with equal ones read the same."""

    def options(self) -> dict[str, Any]:
        """The choices that shape the samples, for the manifest."""


SOURCES: dict[str, tuple[str, str, str]] = {
    "rocov2": ("data_prep.sources.figures.rocov2", "Rocov2", "ROCOv2: radiology figures, captions and UMLS concepts"),
    "medmnist": ("data_prep.sources.labels.medmnist", "MedMnist", "a 2D MedMNIST npz, captions made from its labels"),
    "mni152": (
        "data_prep.sources.labels.mni152",
        "Mni152",
        "brain MRI slices of the MNI152 template in nilearn's wheel",
    ),
    "vqa_rad": (
        "data_prep.sources.questions.vqa_rad",
        "VqaRad",
        "VQA-RAD: clinicians' questions about radiology images",
    ),
    "slake": (
        "data_prep.sources.questions.slake",
        "Slake",
        "SLAKE: questions in English and Chinese about CT, MRI and X-ray",
    ),
    "llava_json": (
        "data_prep.sources.questions.llava_json",
        "LlavaJson",
        "conversations in LLaVA's JSON or JSON lines",
    ),
    "pathvqa": (
        "data_prep.sources.questions.pathvqa",
        "PathVqa",
        "PathVQA: questions about pathology, the parquet release",
    ),
    "kvasir_vqa": (
        "data_prep.sources.questions.kvasir_vqa",
        "KvasirVqa",
        "Kvasir-VQA: questions about endoscopy of the gut",
    ),
    "pmc_vqa": (
        "data_prep.sources.questions.pmc_vqa",
        "PmcVqa",
        "PMC-VQA: multiple choice about figures of PubMed Central",
    ),
    "pmc": (
        "data_prep.sources.figures.pmc",
        "Pmc",
        "PubMed Central open access: articles → figures, captions, references",
    ),
    "pmc_oa": (
        "data_prep.sources.figures.pmc_oa",
        "PmcOa",
        "PMC-OA (PMC-CLIP's release): figures or subfigures with captions",
    ),
    "roco": (
        "data_prep.sources.figures.roco",
        "Roco",
        "ROCO: figures of articles with captions, keywords and UMLS concepts",
    ),
    "quilt": ("data_prep.sources.figures.quilt", "Quilt", "Quilt-1M: histopathology with several texts an image"),
    "biomedica": (
        "data_prep.sources.figures.biomedica",
        "Biomedica",
        "BIOMEDICA: figures of PubMed Central in webdataset tars",
    ),
    "unimed": (
        "data_prep.sources.figures.unimed",
        "UniMed",
        "UniMed: the tars that its scripts write, several captions an image",
    ),
    "image_folder": (
        "data_prep.sources.own_files.image_folder",
        "ImageFolder",
        "<label>/<image>, captions made from labels",
    ),
    "csv": (
        "data_prep.sources.own_files.csv_table",
        "CsvTable",
        "a table of images with captions, or with labels for templates",
    ),
    "dicom": ("data_prep.sources.own_files.dicom", "Dicom", "DICOM studies with reports, de-identified, as PNG"),
    "nifti": ("data_prep.sources.own_files.nifti", "Nifti", "volumes (.nii.gz), with a table of reports or labels"),
    "omnimedvqa": (
        "data_prep.sources.questions.omnimedvqa",
        "OmniMedVqa",
        "OmniMedVQA: multiple choice, open-access part",
    ),
}
"""Name → (module, class, one line for a listing). A module is imported when its source is chosen."""


def descriptions() -> dict[str, str]:
    """Name → one line, for a listing."""
    return {name: line for name, (_, _, line) in SOURCES.items()}


def source_help(name: str) -> str:
    """What a source reads and its options, from its own documentation."""
    constructor = _constructor(name)
    module = inspect.getmodule(constructor)
    texts = [name, inspect.getdoc(module) or "", inspect.getdoc(constructor) or ""]
    options = _options_of(constructor)
    texts.append(
        "options: " + ", ".join(f"options.{option}" for option in options) if options else "It has no options."
    )
    return "\n\n".join(text for text in texts if text)


def _constructor(name: str) -> Callable[..., Source]:
    module, cls, _ = SOURCES[name]
    constructor: Callable[..., Source] = getattr(importlib.import_module(module), cls)
    return constructor


def _options_of(constructor: Callable[..., Source]) -> list[str]:
    return [p.name for p in inspect.signature(constructor).parameters.values() if p.kind is p.KEYWORD_ONLY]


def _as_typed(constructor: Callable[..., Source], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with numbers, true and false as the texts they were typed as, where a source takes texts only: a column
    may be called 2024."""
    parameters = inspect.signature(constructor, eval_str=True).parameters
    plain = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}
    takes_text = {name for name in options if parameters[name].annotation in (str, list[str] | str)}
    return {
        name: plain[name] if name in takes_text and isinstance(value, bool | int | float) else value
        for name, value in options.items()
    }


def open_source(
    name: str, input: str, samples_per_shard: int = 1000, flag: str = "", options: Mapping[str, Any] | None = None
) -> Source:
    """The source by name. Raises PrepError if there is none, its input is not what it should be, or an option unknown."""
    if name not in SOURCES:
        close = get_close_matches(name, SOURCES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PrepError(f"unknown source {name!r}{hint} available: {', '.join(sorted(SOURCES))}")
    if samples_per_shard < 1:
        raise PrepError(f"samples_per_shard is {samples_per_shard}, expected 1 or more")
    constructor = _constructor(name)
    known = _options_of(constructor)
    for option in options or {}:
        if option not in known:
            takes = f"its options are {', '.join(known)}" if known else "it has no options"
            raise PrepError(f"source {name} does not know options.{option}; {takes}")
    try:
        return constructor(input, samples_per_shard, flag, **_as_typed(constructor, options or {}))
    except (TypeError, AttributeError, ValueError) as error:
        if not options:
            raise
        given = ", ".join(f"options.{option}={value!r}" for option, value in options.items())
        raise PrepError(f"source {name} cannot take {given}: {error}; `medvlp prep source={name} --help`") from None


def chunks(split: str, rows: int, samples_per_shard: int) -> list[Unit]:
    """Units of consecutive rows; `what` is [start, stop]."""
    starts = range(0, rows, samples_per_shard)
    return [Unit(split, n, [start, min(start + samples_per_shard, rows)]) for n, start in enumerate(starts)]


def refuse_flag(name: str, flag: str) -> None:
    """For sources that come in one flavour."""
    if flag:
        raise PrepError(f"source {name} has no flags, but flag is {flag!r}; leave it out")


@contextmanager
def readable(path: Path, advice: str) -> Iterator[None]:
    """For the calls of a library on the publisher's file: whatever they raise, damage is a PrepError with its name."""
    try:
        yield
    except Exception as error:  # OSError, EOFError, ValueError, BadZipFile, zlib.error, TokenError, KeyError, ...
        raise PrepError(f"{path} cannot be read ({type(error).__name__}: {error}); {advice}") from None


def regular_only(path: str, flags: int) -> int:
    """Opener for `open` that neither waits for the writer of a pipe nor reads devices. Raises NotAFile."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        # Faults of the name; others (permissions, a failing disk) are the system's.
        if error.errno not in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO):
            raise
        raise NotAFile(f"{path} is not a file ({error.strerror}); put the publisher's file there") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(f"{path} is not a regular file but a folder, a pipe or a device; put the publisher's file there")
    return descriptor


def digest_file(path: Path) -> str:
    """sha256 of a file's content. Raises NotAFile."""
    with open(path, "rb", opener=regular_only) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
