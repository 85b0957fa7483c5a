"""Counts of prepared sources: samples in, out and dropped, from the `ledger.json` above their splits."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from medvlp.report.files import NotARun, Row, explained, read_json

Drops = list[tuple[str, str, int]]
"""(stage, reason, samples)."""


@dataclass(frozen=True)
class Count:
    """A split of a prepared source, by the columns of its table."""

    source: str
    split: str
    samples_in: int
    samples_out: int
    drops: Drops


def drops_of(ledger: Row) -> Drops:
    """The drops of a ledger, or of one of its splits, that happened."""
    stages = ledger.get("drops", {})
    return [(stage, reason, count) for stage, reasons in stages.items() for reason, count in reasons.items() if count]


def data_counts(split_folders: Iterable[str]) -> tuple[list[Count], list[str]]:
    """Counts of every split of the sources that these splits belong to, and notes on the ledgers that are damaged.

    A folder that is gone or has no ledger next to it has no counts. A link is followed to where the data are.
    """
    counts: list[Count] = []
    notes: list[str] = []
    for source in dict.fromkeys(Path(folder).resolve().parent for folder in split_folders):
        path = source / "ledger.json"
        try:
            with explained(path):
                pages = {"all": ledger, **ledger["splits"]} if (ledger := read_json(path)) else {}
                counts += [
                    Count(source.name, name, page["in"], page["out"], drops_of(page)) for name, page in pages.items()
                ]
        except NotARun as error:
            notes.append(f"Counts of the data are skipped: {error}.")
    return counts, notes
