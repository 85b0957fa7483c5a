"""The provenance of a prepared data set: dataset card, Croissant description, attribution. The same bytes for the same data."""

from pathlib import Path

from medvlp.report.dataset.attribution import write_attribution
from medvlp.report.dataset.citations import collected_citations
from medvlp.report.dataset.contents import read_contents
from medvlp.report.dataset.croissant import write_croissant
from medvlp.report.dataset.dataset_card import write_card
from medvlp.report.files import Row


def write_provenance(folder: str | Path, source: Row | None = None) -> list[Path]:
    """Write README.md (the card), croissant.json, ATTRIBUTION.md and attribution.csv next to ledger.json.

    Nothing of engine, workers, time or the folder's name is in them. Memory does not grow with the number of works.
    source: as `read_contents` takes it.

    Raises:
        NotARun: no finished split is there, or a file is damaged.
        ShardError: a tar or table is not what was written, or the disk refuses.
    """
    contents = read_contents(folder, source)
    with collected_citations(contents.datasets, contents.publications) as citations:
        attribution = write_attribution(contents, citations)
        return [write_card(contents, citations), write_croissant(contents, citations.removed_counts), *attribution]
