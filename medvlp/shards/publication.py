"""Who published a data set: stands in its ledger, for the credit that licences and good manners ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Publication:
    """A publication that describes a data set."""

    title: str
    authors: str
    venue: str
    year: int
    url: str

    @property
    def citation(self) -> str:
        """One line."""
        return f"{self.authors} {self.title}. {self.venue}, {self.year}."
