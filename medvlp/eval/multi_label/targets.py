"""Targets of items from their labels: one class each, or the state of several, and what is no class counted by name.

Legend: N items, L labels.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medvlp.config.rules import fold
from medvlp.data.labels import MISSING, ClassLabels, UnknownLabel, UnreadableLabel, names_in
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


def read_targets(items: Sequence[Item], labels: ClassLabels, exclude: Sequence[str] = ()) -> Targets:
    """The targets of items. A label is looked for among an item's labels, then in its metadata.

    One class: an item with another one, or with none, is excluded. Several: a list names all that an item has, a mapping gives
    1, 0, -1 (uncertain) or null for each; an item is excluded where nothing is stated of any class, or what is stated is no
    state.

    Args:
        labels: how they are read; `*` under its exclude where names that are no class are counted only.
        exclude: names that are no class on purpose.
    """
    rows, targets = [], []
    excluded: Counter[str] = Counter()
    strangers: Counter[str] = Counter()
    one_hot_CC = np.eye(len(labels.classes))
    for row, item in enumerate(items):
        names = [name for name in names_in(value_of(item, labels.field)) if name not in labels.classes]
        strangers.update(names)
        reason = ""
        try:
            if labels.multi_label:
                state_L = labels.states(item.labels, item.metadata).astype(np.float64)
                if np.isnan(state_L).all():
                    reason = f"nothing stated of {labels.field!r}" if labels.field else "nothing stated of any class"
            elif (index := labels.class_index(item.labels, item.metadata)) == MISSING:
                reason = _no_class(labels.field, names[0], exclude) if names else f"no label {labels.field!r}"
            else:
                state_L = one_hot_CC[index]
        except UnreadableLabel as error:
            reason = f"{labels.field} cannot be read: {error}".lstrip()
        except UnknownLabel as error:
            reason = _no_class(labels.field, str(error), exclude)
        if reason:
            excluded[reason] += 1
        else:
            rows.append(row)
            targets.append(state_L)
    target_NL = np.array(targets, np.float64).reshape(len(rows), len(labels.classes))
    return Targets(np.array(rows, np.int64), target_NL, excluded, strangers)


def _no_class(label: str, name: str, exclude: Sequence[str]) -> str:
    note = " (the task's exclude names it)" if name in exclude else ""
    return f"{label} {name!r} is no class of the task{note}"


def no_target_message(
    task: str, lack: str, excluded: Counter[str], strangers: Counter[str], items: Sequence[Item]
) -> str:
    """What to say where items have no target: what lacks, and what is there. excluded, strangers: as of `Targets`."""
    names = sorted({name for item in items for name in (*item.labels, *item.metadata)})
    return (
        f"task {task}: {lack}; not read: {dict(excluded.most_common(5))}; other names there: "
        f"{dict(strangers.most_common(5))}; labels and metadata there: {names}"
    )


def value_of(item: Item, label: str) -> Any:
    """What an item says of a label; None where it says nothing."""
    return item.labels[label] if label in item.labels else item.metadata.get(label)


def class_names(items: Sequence[Item], label: str, exclude: Sequence[str] = ()) -> list[str]:
    """All names that items have, in the order of the alphabet, but those to exclude."""
    names = {name for item in items for name in names_in(value_of(item, label))}
    return sorted(names - {*exclude})


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
