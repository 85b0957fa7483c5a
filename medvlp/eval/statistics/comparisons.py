"""Comparisons of all models of an evaluation, task by task: comparisons.jsonl, from results.jsonl and records alone.

The family of Holm's correction is one task and split: all pairs of models on all of its main metrics.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from medvlp.config.evaluation.metric_names import CALIBRATED, SENSITIVITY, main_metrics
from medvlp.errors import UserError
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import RecordsError
from medvlp.eval.statistics.calibration import calibration_measures
from medvlp.eval.statistics.cards import differences
from medvlp.eval.statistics.measures import Measures, Record, measures, naming_damage
from medvlp.eval.statistics.paired import PairedDifference, holm, paired_differences
from medvlp.eval.statistics.result_files import StoredResult, read_results
from medvlp.eval.trained import part_names
from medvlp.jsonl import Row, encode_json, finite, write_rows
from medvlp.shards.atomic import write_whole

COMPARISONS = "comparisons.jsonl"

_VERSION = 1
"""Of kept comparisons: raised when they are computed otherwise."""

ITEMS_IN_A_SENTENCE = 5
"""Items that only one of two models has are all counted, and this many named."""


@dataclass(frozen=True)
class Comparison:
    """A pair of models on one metric of a task: a row of comparisons.jsonl.

    result: None where the cards differ in a line that decides, or the records cannot be read.
    only_a, only_b: ids of items that the other model does not have; the comparison is on the others.
    lines: what differs between the two cards, a sentence a line. unread: why the records of one cannot be read.
    absent: why a metric that was asked for is not there.
    """

    task: str
    split: str
    metric: str
    a: str
    b: str
    result: PairedDifference | None
    only_a: Sequence[str] = ()
    only_b: Sequence[str] = ()
    lines: Sequence[str] = ()
    unread: Sequence[str] = ()
    absent: Sequence[str] = ()
    use: str = ""

    def row(self) -> Row:
        """As comparisons.jsonl has it: fractions, and null where nothing is compared or a bound is not defined."""
        names = ("difference", "ci_low", "ci_high", "p", "p_holm", "n", "clusters", "wins", "ties", "losses")
        values = asdict(self.result) if self.result else dict.fromkeys(names)
        return {
            **{name: getattr(self, name) for name in ("task", "split", "metric", "a", "b")},
            **{name: finite(values[name]) for name in names},
            "only_a": len(self.only_a),
            "only_b": len(self.only_b),
            "differing": [
                *self.unread,
                *self.absent,
                *self.lines,
                *_missing(self.a, self.only_b),
                *_missing(self.b, self.only_a),
            ],
            "use": self.use,
        }


def compare_folder(folder: Path, bootstrap: Bootstrap, families_file: Path | None = None) -> list[Row]:
    """Compare all models of a folder on every task that two of them share; writes `comparisons.jsonl` there.

    A task whose records cannot be compared is named in its rows' `differing`. Without two models that share a task the file
    is removed.

    Args:
        families_file: a file of finished comparisons, family by family, which is written, and read by the next call: a family is
            computed once for the same models, protocols, records and resamples.

    Raises:
        RecordsError: the folder has no results, or a row is not one.
    """
    earlier = _read_families(families_file) if families_file else {}
    families: dict[str, list[Row]] = {}
    rows = []
    for of_task in _by_task(read_results(folder)):
        key = _family_key(of_task, bootstrap) if families_file else ""
        of_family = earlier.get(key) or [row.row() for row in _Family(of_task, bootstrap, ()).comparisons()]
        if key:
            families[key] = of_family
        rows += of_family
    if families_file and families != earlier:
        families_file.parent.mkdir(exist_ok=True)
        write_whole(families_file, encode_json(families))
    if rows:
        write_rows(folder / COMPARISONS, rows)
    else:
        (folder / COMPARISONS).unlink(missing_ok=True)
    return rows


def compare(results: Iterable[StoredResult], bootstrap: Bootstrap, metrics: Sequence[str] = ()) -> list[Comparison]:
    """All pairs of models on every task and split that they share, a family after the other.

    Args:
        metrics: those to compare instead of the main ones.
    """
    return [
        comparison for of_task in _by_task(results) for comparison in _Family(of_task, bootstrap, metrics).comparisons()
    ]


def _by_task(results: Iterable[StoredResult]) -> list[list[StoredResult]]:
    """Results of every task and split that several models have."""
    tasks: dict[tuple[str, str], list[StoredResult]] = {}
    for result in results:
        tasks.setdefault((result.task, result.split), []).append(result)
    return [of_task for of_task in tasks.values() if len(of_task) > 1]


def _family_key(results: Sequence[StoredResult], bootstrap: Bootstrap) -> str:
    """Hash of everything that decides the comparisons of a family; empty where records are not there."""
    parts: list[object] = [_VERSION, asdict(bootstrap)]
    for result in results:
        try:
            with open(result.records_path(), "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, RecordsError):
            return ""
        parts.append([result.model, result.task, result.split, digest, [row["metric"] for row in result.rows]])
        parts.append(result.protocol)
    return hashlib.sha256(encode_json(parts)).hexdigest()


def _read_families(path: Path) -> dict[str, list[Row]]:
    """Finished families by their keys; none where the file is absent or not as it was written."""
    try:
        families = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    is_whole = isinstance(families, dict) and all(isinstance(rows, list) for rows in families.values())
    return families if is_whole else {}


@dataclass
class _Family:
    """The models of one task and split.

    metrics: to compare instead of the main ones. readable: model → direction → its metrics. unreadable: model → why.
    """

    results: Sequence[StoredResult]
    bootstrap: Bootstrap
    metrics: Sequence[str]
    readable: dict[str, dict[str, Measures]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def comparisons(self) -> list[Comparison]:
        by_model = {result.model: result for result in self.results}
        for model, result in by_model.items():
            try:  # one model's files do not take the others' comparison
                self.readable[model] = {part.direction: part for part in self._measured(result)}
            except RecordsError as error:
                self.unreadable[model] = f"{model} on {result.task}: {error}"
            except UserError as error:
                self.unreadable[model] = str(error)
        pairs = list(combinations(by_model, 2))
        cards = {(a, b): differences(by_model[a].protocol, by_model[b].protocol) for a, b in pairs}
        comparable = [
            (a, b)
            for a, b in pairs
            if not {a, b} & self.unreadable.keys() and not any(line.decides for line in cards[a, b])
        ]
        family = holm([difference for group in self._on_common_items(comparable) for difference in group])
        by_pair: dict[tuple[str, str], dict[str, PairedDifference]] = {}
        for of_family in family:
            by_pair.setdefault((of_family.a, of_family.b), {})[of_family.metric] = of_family
        names = self._names()
        rows = []
        for a, b in pairs:
            unread = [self.unreadable[model] for model in (a, b) if model in self.unreadable]
            lines = [line.sentence for line in cards[a, b]]
            use = str(by_model[a].protocol.get("use", ""))
            task = by_model[a].task, by_model[a].split
            for metric in names:
                difference = by_pair.get((a, b), {}).get(metric)
                only_a, only_b = self._only(a, b, metric) if difference else ([], [])
                is_absent = difference is None and (a, b) in comparable
                if is_absent and not self.metrics:
                    continue
                absent = [f"{metric} is not computed from both models' records"] if is_absent else []
                rows.append(Comparison(*task, metric, a, b, difference, only_a, only_b, lines, unread, absent, use))
        return sorted(rows, key=lambda row: names.index(row.metric))

    def _names(self) -> list[str]:
        """The metrics that are compared: those that a model has, in the order of the table."""
        if self.metrics:
            return list(self.metrics)
        kind = str(self.results[0].protocol.get("kind"))
        parts = [part for measured in self.readable.values() for part in measured.values()]
        in_rows = [str(row["metric"]) for result in self.results for row in result.rows]  # where no records can be read
        names = dict.fromkeys(name for part in parts for name in part.metrics) or dict.fromkeys(in_rows)
        first = dict.fromkeys(next(iter(part.metrics)) for part in parts if part.metrics)
        return main_metrics(kind, names) or list(first) or in_rows[:1]

    def _on_common_items(self, pairs: Sequence[tuple[str, str]]) -> Iterable[list[PairedDifference]]:
        """Differences of pairs; pairs that share the same items share their resamples."""
        groups: dict[tuple[str, tuple[str, ...]], list[tuple[str, str]]] = {}
        for a, b in pairs:
            for direction, of_a in self.readable[a].items():
                of_b = self.readable[b].get(direction)
                keys_of_b = set(of_b.keys) if of_b else set()
                common = tuple(key for key in of_a.keys if key in keys_of_b)
                groups.setdefault((direction, common), []).append((a, b))
        for (direction, keys), of_group in groups.items():
            if not keys:
                continue
            models = {
                model: self._on(self.readable[model][direction], keys, model)
                for model in dict.fromkeys(model for pair in of_group for model in pair)
            }
            yield paired_differences(models, of_group, self._names(), self.bootstrap)

    def _on(self, measured: Measures, keys: tuple[str, ...], model: str) -> Measures:
        """A model's metrics on some items, in that order."""
        if tuple(measured.keys) == keys:
            return measured
        record_of: Mapping[str, Record] = dict(zip(measured.keys, measured.records, strict=True))
        protocol = next(result.protocol for result in self.results if result.model == model)
        of_items = self._parts([record_of[key] for key in keys], protocol)
        return next(part for part in of_items if part.direction == measured.direction)

    def _measured(self, result: StoredResult) -> list[Measures]:
        """A result's metrics from its records.

        Raises:
            RecordsError: they are not what results.jsonl was computed from: a main metric that has a row is not there.
        """
        parts = self._parts(result.records(), result.protocol)
        computed = {name for part in parts for name in part.metrics}
        main = main_metrics(str(result.protocol.get("kind")), [str(row["metric"]) for row in result.rows])
        if lost := [name for name in main if name not in computed]:
            raise RecordsError(
                f"its records have nothing of {', '.join(lost)}, which results.jsonl has: the file was cut or changed; run "
                f"`medvlp eval` again"
            )
        return parts

    def _parts(self, records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
        """The metrics of records; of parts of the items and of calibration only where they are asked for.

        Raises:
            RecordsError: records lack what a metric is computed from.
        """
        in_parts = any(name.endswith(part_names()) for name in self.metrics)
        specificities = [float(match[1]) / 100 for name in self.metrics if (match := SENSITIVITY.fullmatch(name))]
        parts = measures(records, protocol, in_parts)
        if not specificities and CALIBRATED.intersection(self.metrics):
            specificities = [0.95]
        for specificity in dict.fromkeys(specificities):
            with naming_damage(protocol):
                calibration = calibration_measures(records, protocol, specificity)
            parts += [replace(calibration, direction=f"calibration {specificity}")] if calibration else []
        return parts

    def _only(self, a: str, b: str, metric: str) -> tuple[list[str], list[str]]:
        """Ids of the items of the metric's part that only one of two models has."""
        keys = [next(part.keys for part in self.readable[model].values() if metric in part.metrics) for model in (a, b)]
        sets = set(keys[0]), set(keys[1])
        return [key for key in keys[0] if key not in sets[1]], [key for key in keys[1] if key not in sets[0]]


def _missing(model: str, keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    names = ", ".join(keys[:ITEMS_IN_A_SENTENCE]) + (", …" if len(keys) > ITEMS_IN_A_SENTENCE else "")
    return [f"{len(keys)} item{'s' if len(keys) > 1 else ''} that {model} does not have: {names}"]
