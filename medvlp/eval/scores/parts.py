"""A score table, part by part: parts that are there are not computed again, and ranks divide them among them."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from medvlp.distributed import from_first, in_first, in_step, of_this_rank
from medvlp.errors import UserError
from medvlp.eval.scores.columns import DUPLICATES, QUALITY, SIMILARITY, Scorer, earlier_duplicates
from medvlp.selection.scores import ScoreDescription, read_description, write_description
from medvlp.shards.atomic import refusing, whole_file, write_text
from medvlp.shards.writer import write_tables

PLAN = "plan.json"
MEANINGS = QUALITY | SIMILARITY | DUPLICATES


@dataclass(frozen=True)
class ScoreJob:
    """One score table.

    path: of the table. plan: all that decides its content. duplicates: cosine of near-duplicates, 0 for none. tell: shows how
    far it is.
    """

    path: Path
    samples: int
    part: int
    plan: Mapping[str, Any]
    duplicates: float
    tell: Callable[[str], None]

    @property
    def folder(self) -> Path:
        """Of the parts; gone once the table is there."""
        return self.path.parent / f".{self.path.stem}.parts"

    @property
    def numbers(self) -> range:
        """Of the parts."""
        return range(-(-self.samples // self.part))

    def rows(self, number: int) -> range:
        """Of a part."""
        return range(number * self.part, min((number + 1) * self.part, self.samples))

    def file(self, number: int, suffix: str) -> Path:
        """`parquet`: a part's columns; `npy`: its embeddings; `duplicates.parquet`: its near-duplicates."""
        return self.folder / f"{number:06d}.{suffix}"

    def run(self, scorer: Callable[[], Scorer]) -> dict[str, int]:
        """Compute what is missing, on all ranks; reason → samples without a score.

        scorer: opens the model; not called where all parts are there.

        Raises:
            UserError: another table of this name is there, or parts of one.
            ShardError: the disk refuses.
        """
        counts = from_first(self._finished)
        if counts is None:
            in_first(self._begin)
            in_step(lambda: self._compute(scorer))
            in_step(self._compare)
            counts = from_first(self._join)
        return {reason: count for reason, count in counts.items() if reason != "samples"}

    def _finished(self) -> dict[str, int] | None:
        """Counts of the table, if it is there."""
        if self.folder.exists() or not self.path.exists():
            return None  # also where a stop came between the table and the end
        description = read_description(self.path)
        if description is None or {"manifest": description.manifest, **description.model} != _plain(self.plan):
            raise UserError(
                f"{self.path} is there already, of another model, split or options; delete it, or give another name=<name>"
            )
        self.tell(f"{self.path} is there already, of this model and these options")
        return description.counts

    def _begin(self) -> None:
        plan = json.dumps(self.plan, sort_keys=True)
        path = self.folder / PLAN
        if not path.exists():
            if self.folder.exists():  # a stop came while it was taken away
                shutil.rmtree(self.folder)
            with refusing(self.folder):
                self.folder.mkdir(parents=True)
            write_text(path, plan)
        elif path.read_text(encoding="utf-8") != plan:
            raise UserError(
                f"{self.folder} holds parts of another table of this name (other model, data or options); delete it, or give "
                f"another name=<name>"
            )

    def _missing(self, suffix: str) -> list[int]:
        """This rank's parts of a kind that are not there."""
        return [number for number in of_this_rank(self.numbers) if not self.file(number, suffix).exists()]

    def _compute(self, scorer: Callable[[], Scorer]) -> None:
        numbers = self._missing("parquet")
        stretch_scorer = scorer() if numbers else None
        for number in numbers:
            assert stretch_scorer
            part = stretch_scorer.part(self.rows(number))
            table = pa.table({name: typed(name, values) for name, values in part.columns.items()})
            table = table.replace_schema_metadata({"problems": json.dumps(part.problems)})
            if self.duplicates:
                with whole_file(self.file(number, "npy")) as file:
                    np.save(file, part.image_RD)
            # The last: where it is there, the part is whole.
            with whole_file(self.file(number, "parquet")) as file:
                pq.write_table(table, file)
            self.tell(f"part {number + 1} of {len(self.numbers)}: {self.rows(number).stop} of {self.samples} samples")

    def _compare(self) -> None:
        if not self.duplicates:
            return
        for number in self._missing("duplicates.parquet"):
            earlier: Iterator[NDArray[np.float32]] = (
                np.load(self.file(n, "npy"), mmap_mode="r") for n in range(number)
            )
            image_RD = np.load(self.file(number, "npy"))
            rank_R, nearest_R = earlier_duplicates(image_RD, earlier, self.duplicates)
            has_image_R = ~np.isnan(image_RD).any(axis=1) & bool(image_RD.shape[1])
            values = (pa.array(rank_R, mask=~has_image_R), pa.array(nearest_R, from_pandas=True))
            with whole_file(self.file(number, "duplicates.parquet")) as file:
                pq.write_table(pa.table(dict(zip(DUPLICATES, values, strict=True))), file)
            self.tell(f"near-duplicates, part {number + 1} of {len(self.numbers)}")

    def _join(self) -> dict[str, int]:
        suffixes = ["parquet", *(["duplicates.parquet"] if self.duplicates else [])]
        problems: Counter[str] = Counter()
        for number in self.numbers:
            metadata = pq.read_schema(self.file(number, "parquet")).metadata or {}
            problems.update(json.loads(metadata.get(b"problems", b"{}")))
        schema = pa.schema([field for suffix in suffixes for field in pq.read_schema(self.file(0, suffix))])

        def tables() -> Iterator[pa.Table]:
            for number in self.numbers:
                columns = [column for suffix in suffixes for column in pq.read_table(self.file(number, suffix)).columns]
                yield pa.table(columns, schema=schema)

        mark = write_tables(self.path, tables(), schema)
        columns = {name: MEANINGS[name] for name in schema.names if name in MEANINGS}
        counts = {"samples": self.samples, **dict(sorted(problems.items()))}
        model = {name: value for name, value in self.plan.items() if name != "manifest"}
        write_description(self.path, ScoreDescription(self.plan["manifest"], columns, mark, model, counts))
        shutil.rmtree(self.folder)
        return counts


def typed(name: str, values: list[Any]) -> pa.Array:
    """A column of a part."""
    return pa.array(values, pa.string() if name == "key" else pa.float32())


def _plain(plan: Mapping[str, Any]) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(plan))
