"""Files of records: which of an input are which split, and that they have the columns that a mapping names."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path

from data_prep.errors import PrepError
from data_prep.readers.clutter import glob
from data_prep.sources.questions.records.mapping import ANY, Mapping, columns_of
from data_prep.sources.questions.records.tables import RecordTable
from data_prep.vocabulary.splits import SPLIT_NAMES

NAMES_SHOWN = 8


def split_of_file(mapping: Mapping, path: Path, split: str) -> str:
    """The split of an input that is one file: the person's, or a column's (`ANY`), or what the file's name or the mapping say.

    Raises PrepError for a split that is none.
    """
    if split and split.lower() not in SPLIT_NAMES:
        raise PrepError(f"options.split={split} is not one of {', '.join(SPLIT_NAMES)}")
    if split or mapping.split:
        return SPLIT_NAMES[split.lower()] if split else ANY
    words = [SPLIT_NAMES[word] for word in re.split("[^a-z]+", path.stem.lower()) if word in SPLIT_NAMES]
    matches = [
        name
        for name, patterns in mapping.files.items()
        if any(fnmatch(path.name, pattern.rpartition("/")[2]) for pattern in patterns)
    ]
    return next(iter([*words, *matches]), "test")


def files_of_folder(mapping: Mapping, folder: Path, counts: dict[str, int]) -> list[tuple[str, Path]]:
    """(split, file) of a folder, in the mapping's order; splits without a file are counted. Raises PrepError for none."""
    files = []
    for split, patterns in mapping.files.items():
        paths = [path for pattern in patterns for path in glob(folder, pattern, counts)]
        paths = [path for path in dict.fromkeys(paths) if path.is_file()]
        if not paths:
            counts[f"splits without a file: {split} ({', '.join(patterns)})"] = 1
        files += [(split, path) for path in paths]
    if not files:
        names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        listing = ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
        origin = ", ".join(mapping.known_from) or "the mapping"
        raise PrepError(
            f"input={folder} has none of the files of {mapping.name} ({mapping.files_in_words()}); it holds "
            f"{listing or 'nothing'}. The layout is that of {origin}{f', read {mapping.read_on}' if mapping.read_on else ''}"
        )
    return files


def require_columns(mapping: Mapping, table: RecordTable, columns: Collection[str]) -> None:
    """Raises PrepError for a table without a column that the mapping names. columns: of it and of those joined to it."""
    terms = [term for term in mapping.columns() if not mapping.is_optional(term)]
    names = [name for term in terms for name in columns_of(term)]
    missing = [name for name in dict.fromkeys(names) if not {name, name.partition(".")[0]} & {*columns}]
    if missing and (columns or table.is_complete):
        raise PrepError(
            f"{table.path} has the columns {', '.join(columns) or 'none'}; {mapping.name} needs {', '.join(missing)}. If the "
            "publisher's layout is another now, copy the mapping, name the columns there, and give it as "
            "options.mapping=<file>.yaml"
        )
