"""Training texts of a sample, and their ids."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample
from medvlp.wording.joined import LABEL, METADATA, JoinedTemplate, field_text, names_in, words_of
from medvlp.wording.label_captions import NoCaption, Templates, fold


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
    for pattern in fields:
        names = _numbered(sample, pattern.removesuffix("*")) if pattern.endswith("*") else [pattern]
        texts |= {name: text for name in names if (text := sample.texts.get(name, "").strip())}
    return texts


def _numbered(sample: Sample, field: str) -> list[str]:
    numbers = [name.removeprefix(f"{field}_") for name in sample.texts if name.startswith(f"{field}_")]
    return [field, *(f"{field}_{n}" for n in sorted((n for n in numbers if n.isdecimal()), key=lambda n: (len(n), n)))]


@dataclass(frozen=True)
class Candidate:
    """A text that a sample may be trained on.

    weight: how likely it is, next to the sample's others. missing: fields that the configuration names and the sample lacks.
    """

    text: str
    weight: float = 1.0
    missing: tuple[str, ...] = ()


Probe = Callable[[], Sequence[Sample]]
"""Reads samples from all over a source, without their images."""


class SourceTexts(Protocol):
    """The texts that a source's samples are trained on (picklable, for loader workers)."""

    def candidates(self, sample: Sample) -> list[Candidate]:
        """Of a sample, in a fixed order. Raises BadSample: none can be made."""

    def check(self, key: str, probe: Probe, origin: str) -> None:
        """Compare what is named with some samples. key: of the source; probe: reads them; origin: where they are from.

        Raises UserError: a name that none of them has.
        """


@dataclass(frozen=True)
class FieldTexts:
    """Text fields as they are.

    fields: as in `texts_of`. weights: of fields; what several numbered ones share.
    """

    fields: tuple[str, ...]
    weights: Mapping[str, float] = field(default_factory=dict)

    def candidates(self, sample: Sample) -> list[Candidate]:
        present: dict[str, tuple[str, float]] = {}
        missing = []
        for name in self.fields:
            texts = texts_of(sample, [name])
            if not texts and len(self.fields) > 1:
                missing.append(name)
            for text_name, text in texts.items():
                present.setdefault(text_name, (text, self.weights.get(name, 1.0) / (len(texts) if self.weights else 1)))
        if not present:
            raise BadSample("empty_caption", key=sample.key, detail=f"no text in {', '.join(self.fields)}")
        return [Candidate(text, weight, tuple(missing)) for text, weight in present.values()]

    def check(self, key: str, probe: Probe, origin: str) -> None:
        """Fields may be rare: nothing is compared."""


@dataclass(frozen=True)
class JoinedTexts:
    """Texts that templates join of several fields.

    templates: by name. weights: of templates.
    """

    templates: Mapping[str, JoinedTemplate]
    weights: Mapping[str, float] = field(default_factory=dict)

    def candidates(self, sample: Sample) -> list[Candidate]:
        texts: list[tuple[str, float]] = []
        lacks: dict[str, None] = {}
        for name, template in self.templates.items():
            text, empty = template.filled(lambda gap: field_text(sample, gap))
            lacks |= dict.fromkeys(empty)
            if text:
                texts.append((text, self.weights.get(name, 1.0)))
        if not texts:
            detail = f"no template can be filled; empty are {', '.join(lacks)}"
            raise BadSample("empty_caption", key=sample.key, detail=detail)
        return [Candidate(text, weight, tuple(lacks)) for text, weight in texts]

    def check(self, key: str, probe: Probe, origin: str) -> None:
        samples = probe()
        names = dict.fromkeys(name for sample in samples for name in names_in(sample))
        for name, template in self.templates.items():
            if unknown := [gap for gap in template.fields if gap not in names]:
                raise UserError(
                    f"{key}.text_templates.{name}={template.text!r}: none of {len(samples)} samples of {origin} has "
                    f"{unknown[0]!r}{suggestion(unknown[0], names)}; they have {', '.join(names)}"
                )


@dataclass(frozen=True)
class LabelTexts:
    """Captions that a file of templates makes of a label: one for every template.

    label: the label, or else the metadata.
    """

    label: str
    templates: Templates

    def candidates(self, sample: Sample) -> list[Candidate]:
        classes = words_of(
            sample.labels[self.label] if self.label in sample.labels else sample.metadata.get(self.label)
        )
        if not classes:
            raise BadSample(
                "empty_caption", key=sample.key, detail=f"it has no label {self.label!r} to make a caption of"
            )
        values = {name: self._value(sample, name) for name in self.templates.columns()}
        # next to findings, a class that says that there are none is not named
        findings = [name for name in classes if fold(name) not in self.templates.normal_labels]
        try:
            captions = self.templates.captions(findings or classes, sample.key, values)
        except NoCaption as fault:
            raise BadSample(fault.reason, key=sample.key, detail=fault.detail) from None
        missing = [name for name, value in values.items() if not value and name not in (self.templates.fields or {})]
        return [Candidate(caption, missing=tuple(missing)) for caption in captions]

    def check(self, key: str, probe: Probe, origin: str) -> None:
        samples = probe()
        columns = {
            name for sample in samples for mapping in (sample.texts, sample.labels, sample.metadata) for name in mapping
        }
        if self.label not in columns:
            labels = dict.fromkeys(name for sample in samples for name in sample.labels)
            raise UserError(
                f"{key}.label_captions={self.label}: none of {len(samples)} samples of {origin} has it"
                f"{suggestion(self.label, labels)}; their labels are {', '.join(labels) or 'none'}"
            )
        self.templates.check_gaps(sorted(columns))

    @staticmethod
    def _value(sample: Sample, name: str) -> str:
        return next(filter(None, (field_text(sample, f"{prefix}{name}") for prefix in ("", LABEL, METADATA))), "")


def suggestion(name: str, names: Iterable[str]) -> str:
    """`, but 'x'?` for the nearest name; empty where none is near."""
    close = get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def choose_text(sample: Sample, texts: SourceTexts, rng: np.random.Generator) -> Candidate:
    """One of the sample's texts: a random one, by their weights, where it has several.

    Raises:
        BadSample: `empty_caption` where none of the fields holds a text, and others where none can be made of its label.
    """
    candidates = texts.candidates(sample)
    if len(candidates) == 1:
        return candidates[0]
    weights = [candidate.weight for candidate in candidates]
    if len(set(weights)) == 1:
        return candidates[int(rng.integers(len(candidates)))]
    ends = np.cumsum(weights)
    return candidates[int(np.searchsorted(ends, rng.random() * ends[-1], side="right").clip(max=len(ends) - 1))]


def text_id(text: str) -> int:
    """A 63-bit number that is equal for equal texts, apart from letter case and white space."""
    return _number(" ".join(text.lower().split()))


def class_values(sample: Sample, positives: str) -> list[str]:
    """What a sample shares with those that are right for it: `sample` (it is another image of the same one), `group` (its
    article, patient or study), `label.<name>` or `metadata.<name>`, each element of it where it is a list; none where it has
    none, or unknown ones."""
    kind, _, name = positives.partition(".")
    if kind == "sample":
        return [sample.key.partition("#")[0]]
    fields = sample.labels if kind == "label" else sample.metadata
    value = fields.get(name or kind)
    values = value if isinstance(value, list) else [value]
    return [str(item) for item in values if item is not None and str(item).casefold() not in ("", "unknown")]


def class_ids(sample: Sample, positives: str) -> list[int]:
    """63-bit numbers that are equal for equal `class_values`; a sample without one has a number of its own."""
    values = [f"{positives}={value}" for value in class_values(sample, positives)]
    return sorted({_number(value) for value in values or [f"key={sample.key}"]})


def components(sources: Sequence[Texts], texts: Sequence[SourceTexts]) -> NDArray[np.int64]:
    """For every sample of all sources, by its number in the order, which others may show the text that it may show.

    Samples that share any of the texts that they may be trained on, directly or through others, have one number. One that
    cannot be read has its own.

    Args:
        sources: rows with texts.
        texts: of each source, what it is trained on.
    """
    parents: list[int] = []
    first: dict[int, int] = {}

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for source, source_texts in zip(sources, texts, strict=True):
        for row in range(len(source)):
            number = len(parents)
            parents.append(number)
            with suppress(BadSample):
                for candidate in source_texts.candidates(source.read(row)):
                    parents[root(number)] = root(first.setdefault(text_id(candidate.text), number))
    return np.array([root(number) for number in range(len(parents))], np.int64)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
