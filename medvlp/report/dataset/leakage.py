"""Images of held-out splits that are in train, in the words that every command and page uses."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.report.files import NotARun, Row, explained, read_json
from medvlp.shards.manifest import LEDGER


@dataclass(frozen=True)
class Leakage:
    """The samples of a split of which an image is in train: as the same bytes, or else as the same picture. Of those
    without, the ones whose id or group is in train."""

    split: str
    samples: int
    same_bytes: int
    same_picture: int
    same_id: int = 0
    same_group: int = 0

    @property
    def in_train(self) -> int:
        """All kinds."""
        return self.same_bytes + self.same_picture + self.same_id + self.same_group

    @property
    def sentence(self) -> str:
        """`247 of 394 samples of test have an image that is in train: 88 the same bytes, 159 the same picture`."""
        if not self.in_train:
            return f"none of {self.samples} samples of {self.split} has an image that is in train"
        verb = "has" if self.in_train == 1 else "have"
        counts = (("id", self.same_id), ("group (such as article or patient)", self.same_group))
        relations = [f"{count} the same {name}" for name, count in counts if count]
        thing = "an image, an id or a group" if relations else "an image"
        return (
            f"{self.in_train} of {self.samples} samples of {self.split} {verb} {thing} that is in train: "
            + ", ".join([f"{self.same_bytes} the same bytes", f"{self.same_picture} the same picture", *relations])
        )


def leakage_of(ledger: Mapping[str, Any]) -> list[Leakage] | None:
    """What a preparation counted, by held-out split; None where it did not look.

    Raises:
        TypeError, ValueError, KeyError: another shape than the ledger's.
    """
    pages = ledger.get("leakage")
    if pages is None:
        return None
    return [
        Leakage(str(split), *(int(page[name]) for name in ("samples", "same_bytes", "same_picture")))
        for split, page in pages.items()
    ]


def leakage_lines(ledger: Row) -> list[str]:
    """A sentence a held-out split, or that nobody looked. Nothing for a data set of one split."""
    pages = leakage_of(ledger)
    if pages is None:
        held_out = [split for split, page in ledger.get("splits", {}).items() if split != "train" and page["out"]]
        if not held_out or "train" not in ledger.get("splits", {}):
            return []
        return [f"whether images of {' and '.join(held_out)} are in train was not looked for (duplicates=off)"]
    return [leakage.sentence for leakage in pages]


def leakage_notes(splits: Mapping[str, Path]) -> list[str]:
    """What of the held-out splits next to each source's train split is in it, as its preparation counted.

    Args:
        splits: the folders that are trained on, by source.
    """
    notes = []
    for name, split in splits.items():
        path = split.resolve().parent / LEDGER
        with suppress(NotARun, OSError), explained(path):  # the ledger is no part of what is trained on
            ledger = read_json(path)
            lines = leakage_lines(ledger) if ledger and split.resolve().name == "train" else []
            notes += [f"data.sources.{name}: {line}" for line in lines]
    return notes


def conflict_line(count: int) -> str:
    """About pairs of one picture that are labelled in two ways."""
    return f"{count} {'pair' if count == 1 else 'pairs'} of the same picture with different labels: conflicts.jsonl"
