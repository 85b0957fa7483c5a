"""Fields of an item: the labels and metadata by which subgroups can be formed from records alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medvlp.config import ConfigError, suggestion
from medvlp.config.evaluation.groupings import Grouping
from medvlp.shards import BadSample, Sample, ShardDataset

MAX_CHARACTERS = 200
"""Longer texts are no name of a subgroup, and would make records heavy."""

Field = str | int | float | bool


def fields_of(*mappings: Mapping[str, Any]) -> dict[str, Field]:
    """The scalar values of labels and metadata, a later mapping's before an earlier one's, by name.

    Lists, mappings, null, empty texts, NaN, integers beyond 64 bits, and texts of more than `MAX_CHARACTERS` are no fields.
    Neither are `group` and `group_kind`, which a record has by themselves.
    """
    values = {name: value for mapping in mappings for name, value in mapping.items() if _is_field(value)}
    return {name: values[name] for name in sorted(values) if name not in ("group", "group_kind")}


def _is_field(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and len(value) <= MAX_CHARACTERS
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def check_fields(datasets: Sequence[ShardDataset], groupings: Iterable[Grouping]) -> None:
    """That each field occurs in one of the datasets at least, before anything is measured.

    Raises:
        ConfigError: none of their samples and questions has it; the message names the fields that there are.
    """
    missing = {grouping.field: grouping for grouping in groupings}
    names: set[str] = set()
    for dataset in datasets:
        for row in range(len(dataset)):
            if not missing:
                return
            try:
                names |= _names(dataset.read_text(row))
            except BadSample:
                continue
            missing = {name: grouping for name, grouping in missing.items() if name not in names}
    for name, grouping in missing.items():
        folders = ", ".join(str(dataset.folder) for dataset in datasets)
        raise ConfigError(
            f"by or people: {grouping.text}: no sample of {folders} has a label or metadata {name!r}"
            f"{suggestion(name, sorted(names))} Fields there: {', '.join(sorted(names)) or 'none'}"
        )


def _names(sample: Sample) -> set[str]:
    of_questions = [fields_of(conversation.metadata) for conversation in sample.conversations]
    answer_type = {"answer_type"} if of_questions else set()
    return answer_type.union(fields_of(sample.metadata, sample.labels), *of_questions)
