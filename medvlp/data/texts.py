"""Training texts of a sample, and their ids."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medvlp.shards import BadSample, Sample


class Texts(Protocol):
    """Rows that hold texts, such as a `ShardDataset`'s."""

    def __len__(self) -> int:
        """Rows."""

    def read(self, i: int, /) -> Sample:
        """Row i; raises BadSample."""


def texts_of(sample: Sample, fields: Sequence[str]) -> dict[str, str]:
    """Field → text of the fields that are named, in their order, without empty ones.

    `caption*` names `caption` and what is numbered after it, `caption_1`, `caption_2`, …: what templates and publishers
    with several captions an image give.
    """
    texts: dict[str, str] = {}
    for field in fields:
        names = _numbered(sample, field.removesuffix("*")) if field.endswith("*") else [field]
        texts |= {name: text for name in names if (text := sample.texts.get(name, "").strip())}
    return texts


def _numbered(sample: Sample, field: str) -> list[str]:
    numbers = [name.removeprefix(f"{field}_") for name in sample.texts if name.startswith(f"{field}_")]
    return [field, *(f"{field}_{n}" for n in sorted((n for n in numbers if n.isdecimal()), key=lambda n: (len(n), n)))]


def choose_text(sample: Sample, fields: Sequence[str], rng: np.random.Generator) -> str:
    """One of the sample's texts; a random one where it has several of the named fields (see `texts_of`).

    Raises:
        BadSample: `empty_caption` where none of the fields holds a text.
    """
    present = list(texts_of(sample, fields).values())
    if not present:
        raise BadSample("empty_caption", key=sample.key, detail=f"no text in {list(fields)}")
    return present[int(rng.integers(len(present)))] if len(present) > 1 else present[0]


def text_id(text: str) -> int:
    """A 63-bit number that is equal for equal texts, apart from letter case and white space."""
    return _number(" ".join(text.lower().split()))


def class_values(sample: Sample, positives: str) -> list[str]:
    """What a sample shares with those that are right for it: `group` (its article, patient or study), `label.<name>` or
    `metadata.<name>`, each element of it where it is a list; none where it has none, or unknown ones."""
    kind, _, name = positives.partition(".")
    fields = sample.labels if kind == "label" else sample.metadata
    value = fields.get(name or kind)
    values = value if isinstance(value, list) else [value]
    return [str(item) for item in values if item is not None and str(item).casefold() not in ("", "unknown")]


def class_ids(sample: Sample, positives: str) -> list[int]:
    """63-bit numbers that are equal for equal `class_values`; a sample without one has a number of its own."""
    values = [f"{positives}={value}" for value in class_values(sample, positives)]
    return sorted({_number(value) for value in values or [f"key={sample.key}"]})


def components(sources: Sequence[Texts], fields: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """For every sample of all sources, by its number in the order, which others may show the text that it may show.

    Samples that share any of the texts that they may be trained on, directly or through others, have one number. One that
    cannot be read has its own.

    Args:
        sources: rows with texts.
        fields: of each source, the text fields to train on.
    """
    parents: list[int] = []
    first: dict[int, int] = {}

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for source, names in zip(sources, fields, strict=True):
        for row in range(len(source)):
            number = len(parents)
            parents.append(number)
            with suppress(BadSample):
                for text in texts_of(source.read(row), names).values():
                    parents[root(number)] = root(first.setdefault(text_id(text), number))
    return np.array([root(number) for number in range(len(parents))], np.int64)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
