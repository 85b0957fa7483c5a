"""Targets of items from their labels: one class each, or the state of several, and what is no class counted by name.

Legend: N items, L labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medvlp.config.rules import fold
from medvlp.data.labels import WILDCARD, ClassLabels, UnknownLabel, name_of
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import mistaken, slip
from medvlp.eval.items import Item
from medvlp.eval.metrics import Array, Indices


@dataclass(frozen=True)
class Targets:
    """The targets of some items.

    rows: of the items that have one. target_NL: of these, 1, 0, or NaN where a label is not stated. excluded: why the others
    have none → items. strangers: name that is no class → items that have it.
    """

    rows: Indices
    target_NL: Array
    excluded: Counter[str] = field(default_factory=Counter)
    strangers: Counter[str] = field(default_factory=Counter)

    @property
    def class_N(self) -> Indices:
        """The class of each item that has exactly one."""
        return np.asarray(self.target_NL.argmax(axis=1), np.int64)


def read_targets(
    items: Sequence[Item], label: str, classes: Sequence[str], exclude: Sequence[str] = (), multi_label: bool = False
) -> Targets:
    """The targets of items. A label is looked for among an item's labels, then in its metadata.

    One class: an item with another one, or with none, is excluded. Several: a list names all that an item has, a mapping gives
    1, 0, -1 (uncertain) or null for each; an item is excluded where nothing is stated of any class, or what is stated is no
    state.
    """
    labels = ClassLabels(label, tuple(classes), multi_label, (WILDCARD,))
    rows, targets = [], []
    excluded: Counter[str] = Counter()
    strangers: Counter[str] = Counter()
    for row, item in enumerate(items):
        value = value_of(item, label)
        names = [name for name in names_in(value) if name not in labels.classes]
        strangers.update(filter(None, names))
        try:
            if multi_label:
                state_L = labels.states(item.labels, item.metadata).astype(np.float64)
                reason = f"nothing stated of {label!r}" if np.isnan(state_L).all() else ""
            else:
                index = labels.class_index(item.labels, item.metadata)
                state_L = (np.arange(len(classes)) == index).astype(np.float64)
                reason = _reason(label, names, exclude)
        except UnknownLabel as error:
            reason = f"{label} cannot be read: {error}"
        if reason:
            excluded[reason] += 1
        else:
            rows.append(row)
            targets.append(state_L)
    target_NL = np.array(targets, np.float64).reshape(len(rows), len(classes))
    return Targets(np.array(rows, np.int64), target_NL, excluded, strangers)


def _reason(label: str, names: Sequence[str], exclude: Sequence[str]) -> str:
    if not names:
        return ""
    if not names[0]:
        return f"no label {label!r}"
    note = " (the task's exclude names it)" if names[0] in exclude else ""
    return f"{label} {names[0]!r} is no class of the task{note}"


def value_of(item: Item, label: str) -> Any:
    """What an item says of a label; None where it says nothing."""
    return item.labels[label] if label in item.labels else item.metadata.get(label)


def names_in(value: Any) -> list[str]:
    """The names in a label: of a list its elements, of a mapping its keys, else the one name, empty where there is none."""
    values = value if isinstance(value, list) else list(value) if isinstance(value, Mapping) else [value]
    return [name_of(name) for name in values]


def class_names(items: Sequence[Item], label: str, exclude: Sequence[str] = ()) -> list[str]:
    """All names that items have, in the order of the alphabet, but those to exclude."""
    names = {name for item in items for name in names_in(value_of(item, label))}
    return sorted(names - {"", *exclude})


def refuse_slips(
    task: str,
    folder: object,
    classes: Sequence[str],
    target_NL: Array,
    strangers: Mapping[str, int],
    exclude: Sequence[str],
) -> None:
    """Raises TaskError where a class differs in case, blanks or punctuation only from a name in the data that is no class.

    strangers: such names → items.
    """
    counts = dict(zip(classes, (target_NL == 1).sum(axis=0).tolist(), strict=True))
    folded = {fold(name) for name in classes}
    near = {name: count for name, count in strangers.items() if fold(name) in folded}
    pairs = [pair for pair in mistaken(classes, counts | near, exclude) if fold(pair[0]) == fold(pair[1])]
    if pairs:
        slips = [slip("class", name, counts[name], stranger, count) for name, stranger, count in pairs[:5]]
        raise TaskError(
            f"task {task}: {' '.join(slips)} Write classes as the labels of {folder} are written; name labels that are ignored "
            f"on purpose under exclude"
        )
