"""Overlap of an evaluation with training data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

IN_TRAIN, NOT_IN_TRAIN = "in_train", "not_in_train"
"""Ends of the names of metrics that are over a part of the items."""
MATCHES = ("bytes", "picture", "id", "group")
"""How a sample is in train, the strongest first: by the bytes of an image, by a picture that looks the same, by its id, or
only by its group (patient, article), another sample of which is."""


@dataclass(frozen=True)
class Trained:
    """Overlap of a split with a model's training data.

    matches: key of a sample → how it is in train, one of `MATCHES`.
    compared: folders of the training splits that were compared.
    unknown: training data that could not be.
    """

    matches: Mapping[str, str] = field(default_factory=dict)
    compared: Sequence[str] = ()
    unknown: Sequence[str] = ()

    def metadata(self, keys: Sequence[str]) -> dict[str, Any]:
        """Its part of a protocol, by samples: each is counted once, though keys may name it several times."""
        matches = [self.matches[key] for key in set(keys) if key in self.matches]
        return {
            "samples": len(set(keys)),
            **{f"same_{match}": matches.count(match) for match in MATCHES},
            "compared": list(self.compared),
            "unknown": list(self.unknown),
        }


def marked(records: list[dict[str, Any]], keys: Sequence[str], trained: Trained | None) -> list[dict[str, Any]]:
    """Records with `in_train`, how the item's sample is in train, where it is; keys: of each record's sample."""
    matches = trained.matches if trained else {}
    return [
        record | {"in_train": matches[key]} if key in matches else record
        for record, key in zip(records, keys, strict=True)
    ]


def is_trained_on(record: Mapping[str, Any]) -> bool:
    """Whether the item of a record was trained on itself; another of its group may have been."""
    return record.get("in_train") in MATCHES[:3]


def part_names() -> tuple[str, str]:
    """Endings of the names of metrics over the items that were trained on, and over the others."""
    return f"_{IN_TRAIN}", f"_{NOT_IN_TRAIN}"
