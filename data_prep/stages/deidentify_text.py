"""The stage that takes identifiers of persons out of everything in a sample that is free text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_prep.deidentify.text import deidentify
from data_prep.draft import Draft

PROVENANCE = frozenset(
    [
        *(
            "source",
            "licence",
            "licence_text",
            "licence_url",
            "url",
            "group",
            "group_kind",
            "original_name",
            "reencoded_from",
            "rendered",
            "blacked",
        ),
        *(
            "article",
            "article_version",
            "article_title",
            "article_doi",
            "article_type",
            "pmid",
            "doi",
            "journal",
            "year",
        ),
        *("authors", "citation", "figure", "figure_id", "figure_label", "panel", "published_split", "retracted"),
        *("modality", "modality_from", "language", "deidentified"),
    ]
)
"""Metadata that says where a sample was published: licences ask for the authors' names. Every other string is cleaned."""


def deidentify_text(draft: Draft) -> Draft:
    """[DATE], [NAME], [ID], ... in place of identifiers in texts, turns, labels and metadata; counted by kind.

    Keys of dictionaries, numbers and the provenance of published samples stay. A find in one text of the sample is
    removed from its other texts as well.
    """
    sample = draft.sample
    descriptive = {name: value for name, value in sample.metadata.items() if name not in PROVENANCE}
    turns = [[turn.text for turn in conversation.turns] for conversation in sample.conversations]
    question_metadata = [conversation.metadata for conversation in sample.conversations]
    strings = [sample.texts, sample.labels, descriptive, turns, question_metadata]

    texts, counts = deidentify(list(_strings(strings)))
    if not counts:
        return draft
    sample.texts, sample.labels, descriptive, turns, question_metadata = _with_strings(strings, iter(texts))
    sample.metadata |= descriptive
    for conversation, its_turns, its_metadata in zip(sample.conversations, turns, question_metadata, strict=True):
        conversation.metadata = its_metadata
        for turn, text in zip(conversation.turns, its_turns, strict=True):
            turn.text = text
    for kind, times in sorted(counts.items()):
        draft.count("deidentify_text", kind, times)
    return draft


def _strings(value: Any) -> Iterator[str]:
    """Every string in nested lists and dictionaries, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _with_strings(value: Any, strings: Iterator[str]) -> Any:
    """The same structure with other strings, in the order of `_strings`."""
    if isinstance(value, str):
        return next(strings)
    if isinstance(value, dict):
        return {name: _with_strings(inner, strings) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_strings(inner, strings) for inner in value]
    return value
