"""Overlap of an evaluation with training data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvlp.combinations import ItemFilter, Values, values_of

IN_TRAIN, NOT_IN_TRAIN = "in_train", "not_in_train"
NOVELTIES = ("seen", "unseen")
"""Ends of the names of metrics that are over a part of the items: in training data, and of combinations held out of them."""
NOVELTY_FIELD, HOLDOUT_FIELD = "seen", "held_out"
"""Fields of a record, and of subgroups, where combinations were held out of the training data: one of `NOVELTIES`, and the
combination of an item that is unseen."""
MATCHES = ("bytes", "picture", "id", "group")
"""How a sample is in train, the strongest first: by the bytes of an image, by a picture that looks the same, by its id, or
only by its group (patient, article), another sample of which is."""


@dataclass(frozen=True)
class Trained:
    """Overlap of a split with a model's training data.

    matches: key of a sample → how it is in train, one of `MATCHES`.
    compared: folders of the training splits that were compared.
    unknown: training data that could not be.
    unseen: filters that give a reason to items of combinations that no training data have. notes: sentences about combinations
    that only some of them have. values: key of a sample → values of its metadata and labels, where there are such filters.
    """

    matches: Mapping[str, str] = field(default_factory=dict)
    compared: Sequence[str] = ()
    unknown: Sequence[str] = ()
    unseen: Sequence[ItemFilter] = ()
    notes: Sequence[str] = ()
    values: Mapping[str, Values] = field(default_factory=dict)

    def metadata(self, keys: Sequence[str]) -> dict[str, Any]:
        """Its part of a protocol, by samples: each is counted once, though keys may name it several times."""
        matches = [self.matches[key] for key in set(keys) if key in self.matches]
        return {
            "samples": len(set(keys)),
            **{f"same_{match}": matches.count(match) for match in MATCHES},
            "compared": list(self.compared),
            "unknown": list(self.unknown),
        }

    def combination(self, key: str, fields: Mapping[str, Any]) -> str:
        """The combination of an item that is unseen, in words; empty where it is seen. fields: of its record."""
        values = {**self.values.get(key, {}), **values_of(fields)}
        return next((reason for part in self.unseen if (reason := part.reason(values))), "")

    def held_out(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Its part of a protocol about what is held out; nothing where no training data state any."""
        if not self.unseen and not self.notes:
            return {}
        counts = {part.name: sum(record.get(HOLDOUT_FIELD) == part.name for record in records) for part in self.unseen}
        unseen = sum(record.get(NOVELTY_FIELD) == NOVELTIES[1] for record in records)
        return {
            "held_out": {"items": len(records), "unseen": unseen, "combinations": counts, "notes": list(self.notes)}
        }


def marked(records: list[dict[str, Any]], keys: Sequence[str], trained: Trained | None) -> list[dict[str, Any]]:
    """Records with `in_train`, how the item's sample is in train, where it is; and where combinations were held out of the
    training data, with `seen`: seen or unseen (and then `held_out`, which of them), also among the fields of subgroups.

    keys: of each record's sample.
    """
    if trained is None:
        return records
    rows = []
    for record, key in zip(records, keys, strict=True):
        row = record | {"in_train": trained.matches[key]} if key in trained.matches else record
        if trained.unseen:
            fields = record.get("fields", {})
            reason = trained.combination(key, fields)
            novelty = {NOVELTY_FIELD: NOVELTIES[bool(reason)], **({HOLDOUT_FIELD: reason} if reason else {})}
            row = row | novelty | {"fields": novelty | fields}
        rows.append(row)
    return rows


def is_trained_on(record: Mapping[str, Any]) -> bool:
    """Whether the item of a record was trained on itself; another of its group may have been."""
    return record.get("in_train") in MATCHES[:3]


def is_seen(record: Mapping[str, Any]) -> bool:
    """Whether combinations were held out of the training data, and the item of a record is of none of them."""
    return record.get(NOVELTY_FIELD) == NOVELTIES[0]


PARTS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], bool]], ...] = (
    (f"_{IN_TRAIN}", f"_{NOT_IN_TRAIN}", is_trained_on),
    (f"_{NOVELTIES[0]}", f"_{NOVELTIES[1]}", is_seen),
)
"""Endings of the names of metrics over the items of which something is true, and over the others; and what."""


def part_names() -> tuple[str, ...]:
    """Endings of the names of metrics over parts of the items."""
    return tuple(ending for member, remainder, _ in PARTS for ending in (member, remainder))
