"""A summary of the texts of some samples, evenly spaced over all splits: millions of samples take no longer."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medvlp.report.dataset.citations import removed_by_source
from medvlp.shards import BadSample, ShardDataset

CAPTIONS = 20_000
"""Samples read at most."""
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
class TextSummary:
    """Counts over the samples that were read."""

    samples: int
    captions: int
    terms: list[tuple[str, int]]
    """(word, captions that hold it) of the words of three letters or more in most captions."""
    languages: list[tuple[str, int]]
    group_kinds: list[str]
    """What groups are, such as article or patient."""
    removals: list[tuple[str, int]]
    """What the source's reader took out of files, by kind."""


def summarise(datasets: Sequence[ShardDataset]) -> TextSummary:
    """Read samples; those that cannot be read are skipped."""
    words: Counter[str] = Counter()
    languages: Counter[str] = Counter()
    kinds: set[str] = set()
    removals: Counter[str] = Counter()
    samples = captions = 0
    for dataset, row in evenly(datasets, CAPTIONS):
        try:
            sample = dataset.read(row)
        except BadSample:
            continue  # the grid names it
        samples += 1
        caption = sample.texts.get("caption", "")
        captions += bool(caption)
        words.update(set(re.findall(r"[^\W\d_]{3,}", caption.lower())) - STOP_WORDS)
        languages[str(sample.metadata.get("language") or "not stated")] += 1
        removals.update(removed_by_source(sample.metadata))
        kinds.add(str(sample.metadata.get("group_kind") or "not stated"))
    return TextSummary(samples, captions, _most(words)[:TERMS], _most(languages), sorted(kinds), _most(removals))


def evenly(datasets: Sequence[ShardDataset], count: int) -> Iterator[tuple[ShardDataset, int]]:
    """(data set, row) of `count` samples that are evenly spaced over all, or of all if they are fewer."""
    total = sum(map(len, datasets))
    start = index = 0
    for number in range(total) if total <= count else (number * total // count for number in range(count)):
        while number - start >= len(datasets[index]):
            start += len(datasets[index])
            index += 1
        yield datasets[index], number - start


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most frequent first; equally frequent ones by name, so that the page is the same every time."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
