"""Score tables: columns about a split's samples, in Parquet files next to its shards, which they never change.

<split>/scores/<name>.parquet    key, and columns of numbers or texts
<split>/scores/<name>.json       of which version of the split, by which model, and the table's sha256

Tables that others wrote have no description; they are joined by their `key`, too.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medvlp.shards import ShardError
from medvlp.shards.atomic import write_text
from medvlp.shards.manifest import is_segment
from medvlp.shards.schema import strict_json
from medvlp.shards.writer import FileMark, mark_file

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SCORES = "scores"
FORMAT = 1


@dataclass
class ScoreDescription:
    """What a score table is of."""

    manifest: str
    """sha256 of the split's manifest."""
    columns: dict[str, str]
    """Column → what it is, in words."""
    table: FileMark
    model: dict[str, Any] = field(default_factory=dict)
    """What computed them: name, weights, options."""
    counts: dict[str, int] = field(default_factory=dict)
    """Samples, and those without a score by reason."""
    format: int = FORMAT


@dataclass(frozen=True)
class ScoreTable:
    """A score table that is there. manifest: of the split it was computed for; "" where nothing says so."""

    path: Path
    mark: FileMark
    manifest: str = ""

    @property
    def name(self) -> str:
        """As conditions have it before a column: `biomedclip.similarity`."""
        return self.path.stem

    def open(self) -> pq.ParquetFile:
        """The table. Raises ShardError: it is none, or has no column of keys."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"{self.path} is no table ({error}); expected Parquet with a column key") from None
        names = table.schema_arrow.names
        if names.count("key") != 1 or len(set(names)) < len(names):
            raise ShardError(f"{self.path} has the columns {', '.join(names)}; expected one column key, and each once")
        return table


def score_tables(folder: Path, paths: tuple[str, ...] = ()) -> list[ScoreTable]:
    """The score tables of a split.

    Args:
        folder: of the split; what is in its folder of scores is taken.
        paths: tables elsewhere, or folders of tables.
    Raises:
        ShardError: a table that is not there, or not what its description says; two of one name.
    """
    files = sorted((folder / SCORES).glob("*.parquet"))
    for path in map(Path, paths):
        files += sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    tables: dict[str, ScoreTable] = {}
    for path in dict.fromkeys(file.resolve() for file in files):
        table = _checked(path)
        if table.name in tables:
            raise ShardError(
                f"two score tables are called {table.name}: {tables[table.name].path} and {path}; rename one"
            )
        tables[table.name] = table
    return list(tables.values())


def _checked(path: Path) -> ScoreTable:
    try:
        mark = mark_file(path)
    except OSError as error:
        raise ShardError(f"score table {path}: {error.strerror}") from None
    description = read_description(path)
    if description is None:
        return ScoreTable(path, mark)
    if description.table != mark:
        raise ShardError(
            f"{path} is not the table that {path.with_suffix('.json').name} was written for (its sha256 or size differs); "
            f"score the split again"
        )
    return ScoreTable(path, mark, description.manifest)


def read_description(path: Path) -> ScoreDescription | None:
    """What is said of a table; None where nothing is. Raises ShardError: not in a form that is read."""
    file = path.with_suffix(".json")
    try:
        content = strict_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ShardError(f"{file} cannot be read: {error}; score the split again") from None
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, this medvlp reads {FORMAT}")
        description = ScoreDescription(**{**content, "table": FileMark(**content["table"])})
        if not isinstance(description.manifest, str) or not isinstance(description.columns, dict):
            raise ValueError("manifest should be a text, columns texts by name")
        return description
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{file} describes no score table ({error}); score the split again") from None


def write_description(path: Path, description: ScoreDescription) -> None:
    """Declare a table finished."""
    write_text(path.with_suffix(".json"), json.dumps(asdict(description), indent=1, ensure_ascii=False) + "\n")


def check_table_name(name: str) -> None:
    """Raises ShardError unless a name can stand before a column in a condition."""
    if not (name.isidentifier() and name.isascii() and is_segment(name)):
        raise ShardError(f"name={name!r}: expected letters, digits and _, as in biomedclip")
