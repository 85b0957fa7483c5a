"""Class labels of a sample: the one class that it shows, or the state of each of several. N: samples; C: classes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medvlp.shards import BadSample, Sample

MISSING = -1
"""Index of the class of a sample that has none."""
WILDCARD = "*"
"""Under `exclude`: every name that is no class."""
UNCERTAIN = {"missing": float("nan"), "negative": 0.0, "positive": 1.0}
"""Policy → the state of a class that is said to be uncertain (CheXpert, Irvin 2019: ignore, zeros, ones)."""
STATES = {"1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0}


class UnknownLabel(Exception):
    """A label that is neither a class nor excluded; its only argument is the name, for messages."""


class UnreadableLabel(UnknownLabel):
    """A value that is no label at all; its only argument says why."""


@dataclass(frozen=True)
class ClassLabels:
    """Where labels stand in a sample, and what they may be.

    field: the label that holds them, or the metadata where a sample has no such label; with `multi_label`, "" where each class is
        a label of its own.
    classes: names, in the order of a model's outputs.
    multi_label: a sample may show several classes, or none; else it shows one.
    exclude: names that are no class on purpose; `*` stands for all of them. Without `multi_label`, such a sample has no label.
    uncertain: of `UNCERTAIN`, what -1 means.
    """

    field: str
    classes: tuple[str, ...]
    multi_label: bool = False
    exclude: tuple[str, ...] = ()
    uncertain: str = "missing"

    def class_index(self, labels: Mapping[str, Any], metadata: Mapping[str, Any]) -> int:
        """The index of a sample's class; MISSING where it has none, or an excluded one.

        Raises:
            UnknownLabel: another name.
            UnreadableLabel: several names, or a mapping.
        """
        value = self._value(labels, metadata)
        names = names_in(value)
        if isinstance(value, Mapping) or len(names) > 1:
            kind = "a mapping" if isinstance(value, Mapping) else f"{len(names)} names"
            raise UnreadableLabel(f"{kind} where one class is expected")
        if not names:
            return MISSING
        if names[0] in self.classes:
            return self.classes.index(names[0])
        self._check(names[0])
        return MISSING

    def states(self, labels: Mapping[str, Any], metadata: Mapping[str, Any]) -> NDArray[np.float32]:
        """(C,) 1 where a sample shows a class, 0 where it does not, NaN where that is not known.

        A list names all classes that are shown, so that the others are 0; blank names say nothing, and where there are only
        such, no class is known. A mapping gives a state for each class: 1, 0, -1 (uncertain), or null, blank or NaN; what it
        leaves out is not known.

        Raises:
            UnknownLabel: a name that is neither a class nor excluded.
            UnreadableLabel: something else for a state.
        """
        if not self.field:
            return self._stated({name: labels.get(name) for name in self.classes})
        value = self._value(labels, metadata)
        if isinstance(value, Mapping):
            return self._stated(value)
        names = names_in(value)
        if not names and value != []:
            return np.full(len(self.classes), np.nan, np.float32)
        for name in names:
            self._check(name)
        return np.array([name in names for name in self.classes], np.float32)

    def _value(self, labels: Mapping[str, Any], metadata: Mapping[str, Any]) -> Any:
        return labels[self.field] if self.field in labels else metadata.get(self.field)

    def _stated(self, values: Mapping[str, Any]) -> NDArray[np.float32]:
        for name in values:
            self._check(name)
        return np.array([self._state(name, values.get(name)) for name in self.classes], np.float32)

    def _state(self, name: str, value: Any) -> float:
        text = name_of(value).lower()
        if text in ("-1", "-1.0"):
            return UNCERTAIN[self.uncertain]
        if text in ("", "nan"):
            return float("nan")
        if isinstance(value, list | Mapping) or text not in STATES:
            raise UnreadableLabel(f"{name}={value!r}"[:80])
        return STATES[text]

    def _check(self, name: str) -> None:
        if name not in self.classes and not self._is_excluded(name):
            raise UnknownLabel(name)

    def _is_excluded(self, name: str) -> bool:
        return name in self.exclude or WILDCARD in self.exclude

    def metadata(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        values = asdict(self)
        return {**values, "classes": list(self.classes), "exclude": list(self.exclude)}

    @classmethod
    def from_metadata(cls, values: Mapping[str, Any]) -> "ClassLabels":
        """What `metadata` gave."""
        return cls(**{**values, "classes": tuple(values["classes"]), "exclude": tuple(values["exclude"])})


def name_of(value: Any) -> str:
    """A label as text, without blanks at its ends; empty for null and NaN. Whole numbers have no decimals."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def names_in(value: Any) -> list[str]:
    """The names in a label: of a list its elements, of a mapping its keys, else the one name; blank ones are none."""
    values = list(value) if isinstance(value, list | Mapping) else [value]
    return list(filter(None, map(name_of, values)))


class TextRows(Protocol):
    """Rows that can be read without their images, such as a `ShardDataset`'s."""

    def __len__(self) -> int:
        """Rows."""

    def read_text(self, i: int, /) -> Sample:
        """Row i without images; raises BadSample."""


@dataclass
class LabelTable:
    """The labels of all rows of a dataset, as one `ClassLabels` reads them.

    target_N: int64, the class of each row or MISSING; of several, states_NC as float32 with NaN where they are not known.
    unknown: label that is neither a class nor excluded → rows. unreadable: why a value is no label → rows. Both count as
    missing.
    """

    labels: ClassLabels
    target: NDArray[Any]
    unknown: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)

    @property
    def is_labelled_N(self) -> NDArray[np.bool_]:
        """Rows with a label at all."""
        if not self.labels.multi_label:
            return np.asarray(self.target != MISSING)
        return np.asarray(~np.isnan(self.target).all(axis=1))

    def counts(self) -> dict[str, tuple[int, int]]:
        """Class → rows that show it, and rows that are known not to."""
        if self.labels.multi_label:
            pairs = np.stack([(self.target == 1).sum(axis=0), (self.target == 0).sum(axis=0)], axis=1)
        else:
            count_C = np.bincount(self.target[self.target != MISSING], minlength=len(self.labels.classes))
            pairs = np.stack([count_C, count_C.sum() - count_C], axis=1)
        return {name: (int(a), int(b)) for name, (a, b) in zip(self.labels.classes, pairs, strict=True)}

    def take(self, rows: NDArray[np.int64]) -> "LabelTable":
        """Of some rows."""
        return LabelTable(self.labels, self.target[rows], self.unknown, self.unreadable)


def read_labels(dataset: TextRows, heads: Sequence[ClassLabels]) -> list[LabelTable]:
    """The labels of every row of a dataset, one table a head. A row that cannot be read has none."""
    tables = [
        LabelTable(
            head,
            np.full((len(dataset), len(head.classes)), np.nan, np.float32)
            if head.multi_label
            else np.full(len(dataset), MISSING, np.int64),
        )
        for head in heads
    ]
    for row, sample in samples_of(dataset):
        for table in tables:
            read = table.labels.states if table.labels.multi_label else table.labels.class_index
            try:
                table.target[row] = read(sample.labels, sample.metadata)
            except UnreadableLabel as error:
                table.unreadable[str(error)] += 1
            except UnknownLabel as error:
                table.unknown[str(error)] += 1
    return tables


def samples_of(dataset: TextRows) -> Iterator[tuple[int, Sample]]:
    """Each readable row with its number, without images."""
    for row in range(len(dataset)):
        try:
            yield row, dataset.read_text(row)
        except BadSample:
            continue
