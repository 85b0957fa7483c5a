"""Class labels of samples: which there are, and what of them a classifier cannot learn from."""

from collections import Counter
from collections.abc import Iterator, Mapping

from medvlp.data.audit.problems import Problem
from medvlp.data.classification import summary
from medvlp.data.labels import (
    ClassLabels,
    TextRows,
    UnknownLabel,
    UnreadableLabel,
    name_of,
    names_in,
    read_labels,
    samples_of,
)
from medvlp.shards import ShardDataset

MOST_FIELDS, MOST_VALUES = 20, 10
"""Labels, and values of each, in a list; the others are counted."""
LONGEST_VALUE = 60


def label_problems(name: str, dataset: ShardDataset, heads: Mapping[str, ClassLabels]) -> Iterator[Problem]:
    """Labels that are no class, samples without any label, and classes that no sample shows.

    name: of the source.
    """
    for row, sample in samples_of(dataset):
        shard, _ = dataset.locate(row)
        problems, is_labelled = [], False
        for head_name, head in heads.items():
            try:
                states = head.states(sample.labels, sample.metadata) if head.multi_label else None
                index = 0 if head.multi_label else head.class_index(sample.labels, sample.metadata)
                is_labelled |= bool((states == states).any()) if states is not None else index >= 0
            except UnreadableLabel as error:
                problems.append(Problem("unreadable_label", "", f"head {head_name}: {error}"))
            except UnknownLabel as error:
                problems.append(Problem("unknown_class", "", f"head {head_name}: {str(error)!r}"))
        if not problems and not is_labelled:
            problems.append(Problem("no_label", "", f"of no head ({', '.join(heads)})"))
        for problem in problems:
            yield problem.at(name, str(dataset.folder / shard), sample.key)
    for head_name, table in zip(heads, read_labels(dataset, list(heads.values())), strict=True):
        for cls, (count, _) in table.counts().items():
            if not count:
                yield Problem("absent_class", "", f"head {head_name}: {cls!r}", name, str(dataset.folder))


def head_summaries(datasets: Mapping[str, TextRows], heads: Mapping[str, ClassLabels]) -> list[str]:
    """A line for each source and head: samples with a label, missing ones, and how often each class occurs."""
    return [
        f"{source}: {summary(name, [table])}"
        for source, dataset in datasets.items()
        for name, table in zip(heads, read_labels(dataset, list(heads.values())), strict=True)
    ]


def label_values(dataset: TextRows) -> list[str]:
    """A line for each label that samples have: its values, the most frequent first, and how many of the samples have none.

    Of a list every name counts, of a mapping every class with its state.
    """
    counts: dict[str, Counter[str]] = {}
    totals: Counter[str] = Counter()
    for _, sample in samples_of(dataset):
        for field, value in sample.labels.items():
            names = counts.setdefault(field, Counter())
            if not names_in(value) and value != []:
                continue
            totals[field] += 1
            if isinstance(value, Mapping):
                names.update(f"{name}={name_of(state) or 'null'}" for name, state in value.items())
            else:
                names.update(names_in(value))
    lines = []
    for field, names in list(counts.items())[:MOST_FIELDS]:
        texts = [f"{shortened(name)!r} {count}" for name, count in names.most_common(MOST_VALUES)]
        if len(names) > MOST_VALUES:
            texts.append(f"and {len(names) - MOST_VALUES} others")
        missing = (
            f"; {len(dataset) - totals[field]} of {len(dataset)} have none" if totals[field] < len(dataset) else ""
        )
        lines.append(f"label {field}: {', '.join(texts)}{missing}")
    if len(counts) > MOST_FIELDS:
        lines.append(f"and {len(counts) - MOST_FIELDS} other labels")
    return lines


def shortened(text: str) -> str:
    """At most `LONGEST_VALUE` characters."""
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
