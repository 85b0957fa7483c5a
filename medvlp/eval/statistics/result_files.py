"""Results of earlier evaluations, read from their folder: results.jsonl and the records that its protocols name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medvlp.eval.errors import RecordsError
from medvlp.jsonl import Row, read_rows

RESULTS = "results.jsonl"


@dataclass(frozen=True)
class StoredResult:
    """One model's result on one task and split.

    model: what tables call it. rows: of results.jsonl.
    """

    folder: Path
    model: str
    task: str
    split: str
    protocol: dict[str, Any]
    rows: Sequence[Row]

    def records(self) -> list[Row]:
        """The record of each item.

        Raises:
            RecordsError: no file is named, it is not in the folder, or it is not there.
            BrokenLine: a line of it is no object.
        """
        return list(read_rows(self.records_path()))

    def records_path(self) -> Path:
        """The file of the records. Raises RecordsError: none is named, it is not in the folder, or it is not there."""
        name = self.protocol.get("records")
        if not isinstance(name, str) or not name:
            raise RecordsError(
                f"{self.folder / RESULTS}: the protocol of {self.model} on {self.task} names no records, as an older version "
                f"wrote it; run `medvlp eval` again"
            )
        path = self.folder / name
        try:
            is_inside, is_there = path.resolve().is_relative_to(self.folder.resolve()), path.is_file()
        except (OSError, ValueError) as error:  # a name too long, or with a null byte
            raise RecordsError(
                f"{self.folder / RESULTS}: the records of {self.model} on {self.task} have no name of a file ({error}); run "
                f"`medvlp eval` again"
            ) from None
        if not is_inside:
            raise RecordsError(
                f"{self.folder / RESULTS}: the records of {self.model} on {self.task} are {name!r}, which is outside of "
                f"{self.folder}; they belong under its samples/"
            )
        if not is_there:
            raise RecordsError(
                f"{path} is not there: the records of {self.model} on {self.task}. Copy samples/ next to {RESULTS}, or run "
                f"`medvlp eval` again"
            )
        return path


def read_results(folder: Path) -> list[StoredResult]:
    """The results of a folder in the order of its rows.

    Raises:
        RecordsError: the folder has none, or a row is not a result.
        BrokenLine: a line is no object.
    """
    path = folder / RESULTS
    if not path.is_file():
        problem = "there is no such folder" if not folder.is_dir() else f"it has no {RESULTS}"
        raise RecordsError(f"{folder}: {problem}; give a folder of `medvlp eval`, such as runs/eval/<recipe>")
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for number, row in enumerate(read_rows(path), 1):
        protocol = row.get("protocol")
        texts = [row.get(name) for name in ("checkpoint", "task", "metric")]
        if not isinstance(protocol, dict) or not all(isinstance(text, str) for text in texts):
            raise RecordsError(
                f"{path}, row {number}: not a result (expected checkpoint, task, metric and protocol); remove the row"
            )
        groups.setdefault((texts[0], texts[1], str(protocol.get("split", ""))), []).append(row)  # type: ignore[arg-type]
    return [
        StoredResult(folder, model, task, split, rows[0]["protocol"], rows)
        for (model, task, split), rows in groups.items()
    ]


def find_results(text: str) -> list[StoredResult]:
    """The results that `<folder>` or `<folder>:<model>` names; a part of a model's name that no other has is enough.

    Raises:
        RecordsError: no such folder, no results in it, or not one model of the name.
        BrokenLine: a line of results.jsonl is no object.
    """
    if Path(text).is_dir():
        return read_results(Path(text))
    folder, model = next(
        ((text[:end], text[end + 1 :]) for end, c in enumerate(text) if c == ":" and Path(text[:end]).is_dir()),
        (text, ""),
    )
    results = read_results(Path(folder))
    models = list(dict.fromkeys(result.model for result in results))
    matches = [name for name in models if name == model] or [name for name in models if model in name]
    if len(matches) != 1:
        problem = (
            f"{len(matches)} models have {model!r} in their names" if matches else f"no model has {model!r} in its name"
        )
        raise RecordsError(f"{text}: {problem}; {folder} has {', '.join(models)}")
    return [result for result in results if result.model == matches[0]]


def distinct(results: Sequence[StoredResult]) -> list[StoredResult]:
    """Results each once, with the folder before a model's name where several folders have the name."""
    by_cell = {(result.folder.resolve(), result.model, result.task, result.split): result for result in results}
    folders: dict[str, set[Path]] = {}
    for result in by_cell.values():
        folders.setdefault(result.model, set()).add(result.folder.resolve())
    return [
        replace(result, model=f"{result.folder}:{result.model}") if len(folders[result.model]) > 1 else result
        for result in by_cell.values()
    ]
