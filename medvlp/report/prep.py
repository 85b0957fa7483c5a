"""The page of a prepared source: what came in, what went out, what was dropped and why, and what it looks like."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from medvlp.report.charts import histogram
from medvlp.report.files import NotARun, Row, explained, read_json
from medvlp.report.ledger import Drops, dropped
from medvlp.report.page import write_page
from medvlp.report.pictures import Picture, picture
from medvlp.shards import BadSample, ShardDataset, ShardError

SHOWN = 24
"""Samples in the grid, evenly spaced over all splits."""
CAPTIONS = 20_000
"""Captions read for the most frequent terms, evenly spaced: a pread each, so millions of samples take no longer."""
TERMS = 40

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """about after all also and are arrow arrows before between both but can demonstrated demonstrates due each for
        from has have her his image images into its more not other patient shown showed showing shows than that the
        their there these this through two was were which with within without""",
    )
)


@dataclass(frozen=True)
class Split:
    """One split by the columns of its table."""

    name: str
    manifest_hash: str
    samples: int
    groups: int
    entered: int | None
    drops: Drops


def write_prep_report(folder: str | Path) -> Path:
    """Write `report.html` into the folder above a source's splits, beside `ledger.json`, and return its path.

    Raises:
        NotARun: no finished split is there, or a file is damaged.
    """
    folder = Path(folder)
    ledger = read_json(folder / "ledger.json")
    manifests = sorted(folder.glob("*/manifest.json"))
    if not ledger or not manifests:
        raise NotARun(f"{folder}: expected ledger.json and at least one finished split, as `medvlp prep` leaves them")
    try:
        datasets = [ShardDataset(path.parent) for path in manifests]
    except ShardError as error:
        raise NotARun(str(error)) from None
    with explained(folder / "ledger.json"):
        splits = [_split(dataset, ledger["splits"].get(dataset.folder.name, {})) for dataset in datasets]
        drops = dropped(ledger)
        entered, left = int(ledger["in"]), int(ledger["out"])
    terms, captions = frequent_terms(datasets)
    return write_page(
        folder / "report.html",
        "prep.html",
        title=folder.resolve().name,
        entered=entered,
        left=left,
        drops=drops,
        splits=splits,
        group_kinds=group_kinds(datasets),
        shared=_shared_groups(datasets),
        licences=_counts(datasets, "licence"),
        modalities=_counts(datasets, "modality"),
        charts=_histograms(datasets),
        pictures=_grid(datasets),
        terms=terms,
        captions=captions,
        stages=datasets[0].manifest.stages,
    )


def frequent_terms(datasets: Sequence[ShardDataset]) -> tuple[list[tuple[str, int]], int]:
    """(word, captions that hold it) of the words of three letters or more in most captions; and the captions read."""
    counts: Counter[str] = Counter()
    captions = 0
    for dataset, row in _evenly(datasets, CAPTIONS):
        try:
            caption = dataset.read(row).texts.get("caption", "")
        except BadSample:
            continue  # the grid names what cannot be read; a word list has no place for it
        captions += bool(caption)
        words = set(re.findall(r"[^\W\d_]{3,}", caption.lower())) - STOP_WORDS
        counts.update(sorted(words))
    return counts.most_common(TERMS), captions


def group_kinds(datasets: Sequence[ShardDataset]) -> list[str]:
    """What groups are, such as article or patient, by samples that are evenly spaced over all splits."""
    kinds = set()
    for dataset, row in _evenly(datasets, SHOWN):
        try:
            kinds.add(str(dataset.read(row).metadata.get("group_kind") or "not stated"))
        except BadSample:
            continue  # the grid names it
    return sorted(kinds)


def _evenly(datasets: Sequence[ShardDataset], count: int) -> list[tuple[ShardDataset, int]]:
    total = sum(map(len, datasets))
    chosen = range(total) if total <= count else [number * total // count for number in range(count)]
    found, start, place = [], 0, 0
    for number in chosen:
        while number - start >= len(datasets[place]):
            start += len(datasets[place])
            place += 1
        found.append((datasets[place], number - start))
    return found


def _split(dataset: ShardDataset, ledger: Row) -> Split:
    groups = len(set(dataset.column("group")))
    return Split(dataset.folder.name, dataset.manifest_hash, len(dataset), groups, ledger.get("in"), dropped(ledger))


def _shared_groups(datasets: Sequence[ShardDataset]) -> int:
    splits = Counter(group for dataset in datasets for group in set(dataset.column("group")) if group)
    return sum(count > 1 for count in splits.values())


def _counts(datasets: Sequence[ShardDataset], column: str) -> list[tuple[str, int]]:
    return Counter(str(value or "not stated") for data in datasets for value in data.column(column)).most_common()


def _histograms(datasets: Sequence[ShardDataset]) -> list[Markup]:
    sides = [max(size) for data in datasets for size in zip(data.column("width"), data.column("height"), strict=True)]
    sides = [side for side in sides if side]  # volumes and texts have no width
    lengths = [length for data in datasets for length in data.column("caption_length")]
    charts = [histogram("Caption length", lengths, "characters")] if lengths else []
    return [histogram("Image size", sides, "longest side, pixels"), *charts] if sides else charts


def _grid(datasets: Sequence[ShardDataset]) -> list[Picture]:
    return [picture(dataset, row) for dataset, row in _evenly(datasets, SHOWN)]
