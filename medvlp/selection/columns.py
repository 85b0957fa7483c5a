"""Columns that conditions ask for: of samples.parquet, of score tables, and what follows from width and height.

Read a stretch of rows at a time, and only those that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medvlp.selection.scores import ScoreTable
from medvlp.selection.syntax import ConditionError
from medvlp.shards import ShardError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROWS = 2**20
"""Rows of a stretch: all of them as objects would be gigabytes."""


def _sides(order: str) -> Callable[[Any, Any], Any]:
    def side(width: Any, height: Any) -> Any:
        import pyarrow.compute as pc

        return getattr(pc, order)(width, height)

    return side


def _aspect_ratio(width: Any, height: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    longer = pc.max_element_wise(width, height, skip_nulls=False).cast(pa.float64())
    return pc.divide(longer, pc.min_element_wise(width, height, skip_nulls=False).cast(pa.float64()))


COMPUTED = {
    "shorter_side": _sides("min_element_wise"),
    "longer_side": _sides("max_element_wise"),
    "aspect_ratio": _aspect_ratio,
}
"""Column → from width and height, which are pixels; the ratio is the longer side by the shorter one."""
PIXELS = ("width", "height")
"""0 where a sample has no flat image, which is no value."""


class Columns:
    """The columns of a split.

    Args:
        table: path of samples.parquet.
        samples: rows that it should have.
        scores: tables that are joined by key.
        manifest_hash: of the split, which scores should be of.
    Raises:
        ShardError: a table that is none.
    """

    def __init__(self, table: Path, samples: int, scores: Sequence[ScoreTable], manifest_hash: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path, self.samples = table, samples
        try:
            self.file = pq.ParquetFile(table)
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"{table} cannot be read ({error}); restore it, or prepare the split again") from None
        self.types = {field.name: field.type for field in self.file.schema_arrow}
        if self.file.metadata.num_rows != samples:
            raise ShardError(f"{table} has {self.file.metadata.num_rows} rows, its manifest says {samples} samples")
        self.scores = {score.name: score for score in scores}
        self.manifest_hash = manifest_hash
        self.score_types = {
            score.name: {field.name: field.type for field in score.open().schema_arrow if field.name != "key"}
            for score in scores
        }
        self._score_columns: dict[tuple[str, str], Any] = {}

    @property
    def names(self) -> list[str]:
        """All that can be asked for."""
        return [
            *self.types,
            *COMPUTED,
            *(f"{table}.{name}" for table, types in self.score_types.items() for name in types),
        ]

    def resolve(self, name: str, key: str) -> tuple[str, str]:
        """(table, column) of a name; ("", column) of samples.parquet and of what is computed.

        Raises:
            ConditionError: no such column; the message names those that there are. Or one in several score tables.
        """
        table, _, column = name.rpartition(".")
        if table:
            if column in self.score_types.get(table, {}):
                return table, column
        elif name in self.types or name in COMPUTED:
            return "", name
        else:
            tables = [table for table, types in self.score_types.items() if name in types]
            if len(tables) == 1:
                return tables[0], name
            if tables:
                choices = " or ".join(f"{table}.{name}" for table in tables)
                raise ConditionError(f"{key}: {len(tables)} score tables have a column {name}; say {choices}")
        short = {full.rpartition(".")[2]: full for full in self.names}
        close = get_close_matches(name, [*self.names, *short], n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise ConditionError(
            f"{key}: there is no column {name}{hint} Columns of {self.path.parent}: {', '.join(self.names)}"
        )

    def type_of(self, table: str, column: str) -> pa.DataType:
        """The Arrow type of a resolved column."""
        import pyarrow as pa

        if table:
            return self.score_types[table][column]
        return self.types.get(column, pa.float64())

    def stretches(self, columns: Iterable[tuple[str, str]]) -> Iterator[dict[tuple[str, str], pa.Array]]:
        """The rows in their order, some at a time: resolved column → its values there."""
        columns = list(dict.fromkeys(columns))
        for table in {table for table, _ in columns if table}:
            self._join(table, [column for name, column in columns if name == table])
        names = {column for table, column in columns if not table and column in self.types}
        names |= {side for table, column in columns if not table and column in COMPUTED for side in PIXELS}
        start = 0
        for batch in batches_of(self.file, sorted(names) or ["key"]):
            values: dict[tuple[str, str], Any] = {}
            for table, column in columns:
                if table:
                    values[table, column] = self._score_columns[table, column].slice(start, batch.num_rows)
                elif column in COMPUTED:
                    values[table, column] = COMPUTED[column](*(_without_zeros(batch.column(side)) for side in PIXELS))
                else:
                    array = batch.column(column)
                    values[table, column] = _without_zeros(array) if column in PIXELS else array
            yield values
            start += batch.num_rows

    def _join(self, name: str, columns: Sequence[str]) -> None:
        """Read columns of a score table in the order of the split's rows; null where it has no row."""
        import pyarrow as pa

        score, unread = self.scores[name], [column for column in columns if (name, column) not in self._score_columns]
        if not unread:
            return
        if score.manifest and score.manifest != self.manifest_hash:
            raise ConditionError(
                f"{score.path} was computed for another version of {self.path.parent} (its manifest.json differs); "
                f"compute it again"
            )
        file = score.open()
        try:
            arrays = {column: file.read(columns=[column]).column(0) for column in unread}
            indices = self._positions(file)
        except pa.ArrowException as error:
            raise ShardError(f"{score.path} cannot be read ({error}); score the split again") from None
        for column, array in arrays.items():
            column_values = array if indices is None else array.take(indices)
            self._score_columns[name, column] = one_array(column_values)

    def _positions(self, file: pq.ParquetFile) -> pa.Array | None:
        """The row of a score table for each row of the split, null where it has none; None where the rows are the same."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if file.metadata.num_rows == self.samples:
            pairs = zip(batches_of(self.file, ["key"]), batches_of(file, ["key"]), strict=False)
            if all(_text(first.column(0)).equals(_text(second.column(0))) for first, second in pairs):
                return None
        keys = pc.cast(file.read(columns=["key"]).column(0), pa.large_string()).combine_chunks()
        if pc.count_distinct(keys).as_py() < len(keys):
            raise ConditionError("a score table has a key twice; each sample has one row at most")
        positions = [pc.index_in(_text(batch.column(0)), value_set=keys) for batch in batches_of(self.file, ["key"])]
        indices = one_array(pa.chunked_array(positions, pa.int32()))
        if indices.null_count == len(indices):
            raise ConditionError(f"no key of a score table is one of {self.path.parent}: is it of another split?")
        return indices


def one_array(values: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


def batches_of(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows of a table in their order, ROWS at a time whatever its row groups are; the last has fewer."""
    return file.iter_batches(batch_size=ROWS, columns=list(columns))


def _text(array: Any) -> Any:
    import pyarrow as pa

    return array.cast(pa.large_string())


def _without_zeros(array: Any) -> Any:
    import pyarrow.compute as pc

    return pc.if_else(pc.equal(array, 0), None, array)


def as_numbers(array: Any) -> np.ndarray:
    """float64, NaN for what has no value."""
    import pyarrow as pa

    return np.asarray(as_type(array, pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def as_type(array: Any, kind: pa.DataType) -> Any:
    """A column in another type; whole numbers beyond 2^53 are rounded as float64."""
    return array if array.type == kind else array.cast(kind, safe=False)
