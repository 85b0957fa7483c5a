"""Rows of a split that fulfil conditions, found by reading its tables once; what was dropped, by the condition that drops it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medvlp.selection.columns import Columns, as_numbers, as_type
from medvlp.selection.scores import score_tables
from medvlp.selection.syntax import (
    Best,
    Both,
    Comparison,
    ConditionError,
    Either,
    ListedIn,
    Membership,
    Missing,
    Negation,
    Node,
    leaves,
    parse_condition,
)
from medvlp.shards.writer import mark_file

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LIST = 2**31
"""Bytes of a file of values."""


@dataclass(frozen=True)
class Conditions:
    """Conditions of a source: a sample is trained on where all of them hold.

    texts: of the grammar in `medvlp.selection.syntax`.
    scores: tables, or folders of them, besides those next to the shards.
    """

    texts: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.texts)

    def check(self, key: str) -> None:
        """Raises ConditionError where one is not of the grammar, or stands there twice."""
        for number, text in enumerate(self.texts):
            parse_condition(text, f"{key}[{number}]")
            if text in self.texts[:number]:
                raise ConditionError(f"{key}[{number}]: {text} stands there twice")


@dataclass
class Selected:
    """What conditions leave of a split.

    rows_N: int64, in the split's order.
    samples: of the split.
    drops: condition → samples that it drops, of those that the conditions before it leave.
    without_value: condition → those of them that it drops because a column has no value there.
    files: path → sha256 of each score table and list that was read.
    """

    rows_N: NDArray[np.int64]
    samples: int
    drops: dict[str, int]
    without_value: dict[str, int]
    files: dict[str, str] = field(default_factory=dict)

    @property
    def rows_hash(self) -> str:
        """sha256 of the rows."""
        return hashlib.sha256(self.rows_N.astype("<i8").tobytes()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """For checkpoints and cards."""
        counts = {"samples": self.samples, "selected": len(self.rows_N), "dropped": self.drops}
        return {**counts, "without_value": self.without_value, "files": self.files, "rows_sha256": self.rows_hash}

    @property
    def dropped_words(self) -> str:
        """`dropped: 12 by width >= 224 (3 without a value)`."""
        return dropped_words(self.drops, self.without_value)


def dropped_words(drops: Mapping[str, int], without_value: Mapping[str, int]) -> str:
    """What each condition drops, in words."""
    parts = [
        f"{count} by {text}" + (f" ({without_value[text]} without a value)" if without_value.get(text) else "")
        for text, count in drops.items()
    ]
    return f"dropped: {', '.join(parts)}"


def select(folder: Path, table: Path, samples: int, manifest_hash: str, conditions: Conditions, key: str) -> Selected:
    """The rows of a split that fulfil all conditions.

    Args:
        folder: of the split, next to whose shards score tables may lie.
        table: path of its samples.parquet.
        samples: that its manifest states.
        manifest_hash: of the split.
        key: what messages call the conditions.
    Raises:
        ConditionError: a column or a file that is not there, a value that is not of the column's type, or nothing is left.
        ShardError: a table that cannot be read.
    """
    columns = Columns(table, samples, score_tables(folder, conditions.scores), manifest_hash)
    keys = [f"{key}[{number}]" for number in range(len(conditions.texts))]
    trees = [parse_condition(text, name) for text, name in zip(conditions.texts, keys, strict=True)]
    test = _Test(columns)
    for tree, name in zip(trees, keys, strict=True):
        test.prepare(tree, name)
    is_selected_N = np.ones(samples, bool)
    drops, without_value = dict.fromkeys(conditions.texts, 0), dict.fromkeys(conditions.texts, 0)
    start = 0
    for values in columns.stretches(test.columns):
        size = len(next(iter(values.values()))) if values else 0
        is_left = is_selected_N[start : start + size]
        for text, tree in zip(conditions.texts, trees, strict=True):
            mask = test.mask(tree, values, start, size)
            is_true, has_value = mask.fill_null(False).to_numpy(zero_copy_only=False), ~np.asarray(mask.is_null())
            drops[text] += int((is_left & ~is_true).sum())
            without_value[text] += int((is_left & ~has_value).sum())
            is_left &= is_true
        start += size
    if not is_selected_N.any():
        counts = dropped_words(drops, without_value)
        raise ConditionError(f"{key} leaves none of the {samples} samples of {folder}; {counts}")
    used_tables = {table for table, _ in test.columns if table}
    files = {str(columns.scores[name].path): columns.scores[name].mark.sha256 for name in sorted(used_tables)}
    return Selected(np.flatnonzero(is_selected_N), samples, drops, without_value, files | test.list_hashes)


class _Test:
    """Conditions on stretches of columns; `prepare` reads what one needs of all rows or of files."""

    def __init__(self, columns: Columns) -> None:
        self.source = columns
        self.resolved: dict[str, tuple[str, str]] = {}
        self.best_rows: dict[Best, NDArray[np.bool_]] = {}
        self.lists: dict[tuple[str, str], Any] = {}
        self.list_hashes: dict[str, str] = {}

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Those that conditions read."""
        return list(dict.fromkeys(self.resolved.values()))

    def prepare(self, tree: Node, key: str) -> None:
        """Resolve columns, and compare values with their types. Raises ConditionError."""
        import pyarrow as pa

        for leaf in leaves(tree):
            address = self.resolved[leaf.column] = self.source.resolve(leaf.column, key)
            kind = self.source.type_of(*address)
            is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
            if isinstance(leaf, Best):
                if not is_number:
                    raise ConditionError(f"{key}: {leaf.column} has texts; top and bottom need a column of numbers")
                if leaf not in self.best_rows:
                    self.best_rows[leaf] = self._best(leaf, address)
            elif isinstance(leaf, Comparison):
                if not is_number and leaf.sign not in ("=", "!="):
                    raise ConditionError(f"{key}: {leaf.column} has texts; use =, != or in")
                scalars([leaf.value], kind, leaf.column, key)
            elif isinstance(leaf, Membership):
                scalars(leaf.values, kind, leaf.column, key)
            elif isinstance(leaf, ListedIn):
                self.lists[leaf.column, leaf.path] = scalars(self._lines(leaf.path, key), kind, leaf.column, key)

    def _lines(self, path: str, key: str) -> list[str]:
        try:
            if Path(path).stat().st_size > MAX_LIST:
                raise ConditionError(f"{key}: {path} has more than {MAX_LIST} bytes")
            self.list_hashes[path] = mark_file(Path(path)).sha256
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConditionError(f"{key}: {path}: {error}; expected a text file with one value a line") from None
        values = [line.strip() for line in lines if line.strip()]
        if not values:
            raise ConditionError(f"{key}: {path} is empty; expected one value a line")
        return values

    def _best(self, leaf: Best, address: tuple[str, str]) -> NDArray[np.bool_]:
        """Whether each row is among the best; of equal ones, the earlier. Rows without a value never are."""
        parts = [as_numbers(values[address]) for values in self.source.stretches([address])]
        score_N = np.concatenate(parts) if parts else np.empty(0)
        count = leaf.count if leaf.share is None else int(leaf.share * len(score_N))
        candidates = np.flatnonzero(~np.isnan(score_N))
        key_M = -score_N[candidates] if leaf.highest else score_N[candidates]
        is_best_N = np.zeros(len(score_N), bool)
        is_best_N[candidates[np.argsort(key_M, kind="stable")[:count]]] = True
        return is_best_N

    def mask(self, node: Node, values: dict[tuple[str, str], pa.Array], start: int, size: int) -> Any:
        """Of a stretch's rows: true, false, or null where a column has no value (Kleene's logic)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if isinstance(node, Both | Either):
            masks = [self.mask(member, values, start, size) for member in node.members]
            return reduce(pc.and_kleene if isinstance(node, Both) else pc.or_kleene, masks)
        if isinstance(node, Negation):
            return pc.invert(self.mask(node.member, values, start, size))
        address = self.resolved[node.column]
        array = values[address]
        is_empty = array.is_null(nan_is_null=True)
        if isinstance(node, Missing):
            return is_empty
        if isinstance(node, Best):
            mask = pa.array(self.best_rows[node][start : start + size])
        elif isinstance(node, Comparison):
            value = scalars([node.value], array.type, node.column, "")
            mask = SIGNS[node.sign](as_type(array, value.type), value[0])
        else:
            if isinstance(node, ListedIn):
                choices = self.lists[node.column, node.path]
            else:
                choices = scalars(node.values, array.type, node.column, "")
            mask = pc.is_in(as_type(array, choices.type), value_set=choices)
        return pc.if_else(is_empty, pa.scalar(None, pa.bool_()), mask)


def _compared(name: str) -> Any:
    def compare(array: Any, scalar: Any) -> Any:
        import pyarrow.compute as pc

        return getattr(pc, name)(array, scalar)

    return compare


SIGNS = {
    "=": _compared("equal"),
    "!=": _compared("not_equal"),
    "<": _compared("less"),
    "<=": _compared("less_equal"),
    ">": _compared("greater"),
    ">=": _compared("greater_equal"),
}


def scalars(texts: Sequence[str], kind: pa.DataType, column: str, key: str) -> Any:
    """Texts as an Arrow array of a column's type; of whole numbers as float64 where a text is none of them, such as 2.5.

    Raises:
        ConditionError: a text that is no value of it.
    """
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        choices = {"true": True, "false": False}
        if not set(texts) <= choices.keys():
            raise ConditionError(f"{key}: {column} is true or false, not {', '.join(texts)[:80]}")
        return pa.array([choices[text] for text in texts])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            numbers = [float(text) for text in texts]
        except ValueError as error:
            raise ConditionError(f"{key}: {column} has numbers; {str(error)[:120]}") from None
        if not all(map(math.isfinite, numbers)):
            raise ConditionError(f"{key}: {column} has numbers; nan and inf are none")
        if pa.types.is_integer(kind):
            with suppress(ValueError, OverflowError):  # identifiers beyond 2^53 are no float64
                return pa.array(list(map(int, texts)), kind)
            return pa.array(numbers, pa.float64())
        return pa.array(numbers, pa.float32() if pa.types.is_float16(kind) else kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return pa.array(list(texts), pa.large_string() if pa.types.is_large_string(kind) else pa.string())
    raise ConditionError(f"{key}: {column} has values of type {kind}, which no condition reads")
