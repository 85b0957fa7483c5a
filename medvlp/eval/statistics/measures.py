"""Metrics of a task from its records and its protocol: a task's `run`, comparisons and the report compute the same.

Legend: N items, C classes, R resamples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medvlp.config.evaluation.written_text import TEXT_CONTROLS
from medvlp.eval import metrics
from medvlp.eval.errors import RecordsError
from medvlp.eval.judge.metrics import judge_metrics
from medvlp.eval.metrics import Array, MeanOfMeans, Metric
from medvlp.eval.probes.metrics import multi_label_extras, single_label_extras
from medvlp.eval.reliability.pairs import pair_columns
from medvlp.eval.statistics.classification import multi_label_metrics, single_label_metrics
from medvlp.eval.statistics.prompt_sets import rank_spread, score_spread
from medvlp.eval.statistics.reliance import RETENTION, reliance_columns, retention_of
from medvlp.eval.text.from_records import text_metrics
from medvlp.eval.trained import PARTS
from medvlp.eval.vqa.scores import CHOICE_METRICS, PARTIAL_CREDIT, STRICT, UNREAD

Record = Mapping[str, Any]
LOGIT_SCALE = 100.0
"""Cosines become probabilities by softmax(100 · cos), as in CLIP. Fixed, so that only embeddings differ."""


@dataclass(frozen=True)
class Measures:
    """The metrics over one set of items: of a task, or of one direction of retrieval.

    metrics: name → a function of weights_RN (how often each item occurs in each of R resamples), or of None.
    counts: name → the items that the metric averages over.
    keys: an id a item that no other item has; results of two models are aligned by them.
    groups: the cluster of each item (patient, image, article), which the bootstrap samples.
    records: the record of each item.
    direction: of retrieval; empty for tasks that have none.
    """

    metrics: Mapping[str, Metric]
    counts: Mapping[str, int]
    keys: Sequence[str]
    groups: Sequence[str]
    records: Sequence[Record]
    direction: str = ""


def measures(records: Sequence[Record], protocol: Mapping[str, Any], in_parts: bool = True) -> list[Measures]:
    """Every metric of a result, in the order of results.jsonl: one `Measures`, or for retrieval one a direction.

    in_parts: where some items were trained on, or are of combinations that were held out, and some not, each metric is followed
        by itself over either part.

    Raises:
        RecordsError: records of an older version, which lack what a metric needs, or that do not fit the protocol.
    """
    with naming_damage(protocol):
        parts = MEASURES.get(str(protocol.get("kind")), means)(records, protocol)
    return [with_parts(part) for part in parts] if in_parts else parts


@contextmanager
def naming_damage(protocol: Mapping[str, Any]) -> Iterator[None]:
    """Errors of reading records as RecordsError: they were written by others, and may hold anything."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise RecordsError(
            f"records of kind {protocol.get('kind')!r} lack what their metrics are computed from ({type(error).__name__}: "
            f"{error}); they were written by an older version, or changed since: run `medvlp eval` again"
        ) from None


def zero_shot(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """acc1, acc5 beyond five classes, mean-per-class recall and AUROC, from each record's `similarities`; then the spread of
    acc1 over prompt sets."""
    return [_measures(single_label_metrics(*logits_and_target(records, protocol)) | rank_spread(records), records)]


def single_label(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """The same metrics from each record's `logits`, one a class of the protocol in its order."""
    logits_NC, target_N = logits_and_target(records, protocol)
    return [_measures(single_label_metrics(logits_NC, target_N), records)]


def multi_label(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """auroc, map and f1 over classes and of each, from each record's `logits` and `targets` (class → 1, 0, or null: not
    stated), and the protocol's `threshold`: a number, or class → number; null: no f1."""
    classes = list(protocol["classes"])
    logits_NL = np.array([record["logits"] for record in records], np.float64).reshape(len(records), len(classes))
    by_name, counts = multi_label_metrics(logits_NL, _targets(records, classes), classes, protocol["threshold"])
    return [replace(_measures(by_name, records), counts=counts)]


def classification(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """Of a trained head, which has one label an item or several."""
    return (multi_label if protocol["multi_label"] else single_label)(records, protocol)


def probe(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """Of the probe on all samples, the metrics of its kind of label; then those of few shots and of neighbours."""
    classes = list(protocol["classes"])
    if protocol["multi_label"]:
        (measured,) = multi_label(records, protocol)
        extras = multi_label_extras(records, _targets(records, classes), classes)
        counts = {name: int(np.sum(metric.member_N)) for name, metric in extras.items()}  # type: ignore[attr-defined]
    else:
        (measured,) = single_label(records, protocol)
        extras = single_label_extras(records, logits_and_target(records, protocol)[1])
        counts = dict.fromkeys(extras, len(records))
    return [replace(measured, metrics={**measured.metrics, **extras}, counts={**measured.counts, **counts})]


def logits_and_target(records: Sequence[Record], protocol: Mapping[str, Any]) -> tuple[Array, NDArray[np.int64]]:
    """logits_NC and target_N of records of one class each; zero-shot logits are scaled `similarities`."""
    order = {value: position for position, value in enumerate(protocol["classes"])}
    column, scale = ("similarities", LOGIT_SCALE) if protocol.get("kind") == "zero_shot" else ("logits", 1.0)
    logits_NC = scale * np.array([record[column] for record in records], np.float64)
    if logits_NC.shape != (len(records), len(order)):
        raise ValueError(f"{column} have shape {logits_NC.shape}, expected {len(records)} × {len(order)} classes")
    return logits_NC, np.array([order[record["target"]] for record in records], np.int64)


def retrieval(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """Recall@k of each direction, from each record's `rank`."""
    parts = []
    for direction in dict.fromkeys(record["direction"] for record in records):
        queries = [record for record in records if record["direction"] == direction]
        rank_Q = np.array([record["rank"] for record in queries], np.int64)
        recalls = {f"{direction}_recall@{k}": MeanOfMeans.of(rank_Q <= k) for k in protocol["recall_at"]}
        parts.append(replace(_measures(recalls, queries), direction=str(direction)))
    return parts


def vqa(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """Means of each record's `scores`, the main ones next to their controls and the paired differences from them; then the
    measures of visual reliance, and the spread over instructions."""
    names = {name for record in records for name in record["scores"]}
    order = [name for name in (*STRICT, *UNREAD, *CHOICE_METRICS, PARTIAL_CREDIT) if name in names]
    controls = [name for name in protocol["controls"] if any(name in record["control_scores"] for record in records)]
    columns: dict[str, list[float | None]] = {}
    for name in [*order, *sorted(names - set(order))]:
        column = columns[name] = [record["scores"].get(name) for record in records]
        for control in controls:
            blind = [record["control_scores"].get(control, {}).get(name) for record in records]
            if any(value is not None for value in blind):
                columns[f"{name}/{control}"] = blind
                columns[f"{name}/minus_{control}"] = [
                    None if a is None or b is None else a - b for a, b in zip(column, blind, strict=True)
                ]
    columns |= reliance_columns(records)
    columns |= pair_columns(records)
    measured = _means(columns, records)
    by_name, counts = score_spread(records)
    of_judges, counts_of_judges = judge_metrics(records)
    by_name, counts = {**by_name, **of_judges}, {**counts, **counts_of_judges}
    if retention := retention_of(records):
        by_name, counts = {**by_name, RETENTION: retention}, {**counts, RETENTION: int(retention.member_N.sum())}
    return [replace(measured, metrics={**measured.metrics, **by_name}, counts={**measured.counts, **counts})]


def text(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """Of written text: BLEU, chrF and findings from each record's counts, means of its `scores`, next to their controls."""
    by_name, counts = text_metrics(records, [name for name in protocol["controls"] if name in TEXT_CONTROLS])
    for further, counts_of_further in (score_spread(records), judge_metrics(records)):
        by_name, counts = {**by_name, **further}, {**counts, **counts_of_further}
    return [replace(_measures(by_name, records), counts=counts)]


def means(records: Sequence[Record], protocol: Mapping[str, Any]) -> list[Measures]:
    """Means of each record's `scores`, metric → number (null: the item is not of that metric), in their order."""
    names = dict.fromkeys(name for record in records for name in record["scores"])
    return [_means({name: [record["scores"].get(name) for record in records] for name in names}, records)]


MEASURES: dict[str, Callable[[Sequence[Record], Mapping[str, Any]], list[Measures]]] = {
    "zero_shot": zero_shot,
    "classification": classification,
    "multi_label": multi_label,
    "probe": probe,
    "retrieval": retrieval,
    "vqa": vqa,
    "text": text,
}
"""Kind of task → its metrics from records; `means` for a kind that is not listed."""


def _targets(records: Sequence[Record], classes: Sequence[str]) -> Array:
    """target_NL of records with several labels; None becomes NaN."""
    targets = [[record["targets"].get(name) for name in classes] for record in records]
    return np.array(targets, np.float64).reshape(len(records), len(classes))


def _measures(by_name: Mapping[str, Metric], records: Sequence[Record]) -> Measures:
    occurrences: dict[str, int] = {}
    keys = []
    for record in records:
        key = str(record["id"])
        number = occurrences[key] = occurrences.get(key, 0) + 1
        keys.append(key if number == 1 else f"{key} ({number})")  # two texts of one sample are two queries
    groups = [str(record["group"]) for record in records]
    counts = dict.fromkeys(by_name, len(records))
    return Measures(dict(by_name), counts, keys, groups, records)


def _means(columns: Mapping[str, Sequence[float | None]], records: Sequence[Record]) -> Measures:
    by_name: dict[str, MeanOfMeans] = {}
    for name, column in columns.items():
        is_of_metric_N = np.array([value is not None for value in column], bool)
        if is_of_metric_N.any():
            score_N = np.array([value or 0.0 for value in column], np.float64)
            if not np.isfinite(score_N).all():
                raise ValueError(f"scores of {name} hold NaN or infinity")
            by_name[name] = MeanOfMeans.of(score_N, is_of_metric_N)
    counts = {name: int(metric.member_NC.sum()) for name, metric in by_name.items()}
    return replace(_measures(by_name, records), counts=counts)


# Parts of the items


def part(measured: Measures, member_N: ArrayLike) -> Measures:
    """The same metrics of some items: the others weigh nothing. Metrics that no member has are dropped."""
    member_N = np.asarray(member_N, bool)
    by_name: dict[str, Metric] = {}
    counts: dict[str, int] = {}
    for name, metric in measured.metrics.items():
        if isinstance(metric, MeanOfMeans):
            mean = MeanOfMeans(metric.value_NC, metric.member_NC & member_N[:, None])
            by_name[name], counts[name] = mean, int(mean.member_NC.any(axis=1).sum())
        else:
            by_name[name] = partial(_of_members, metric, member_N.astype(np.float64))
            counts[name] = int((member_N & getattr(metric, "member_N", True)).sum())
    names = [name for name, count in counts.items() if count]
    return replace(
        measured, metrics={name: by_name[name] for name in names}, counts={name: counts[name] for name in names}
    )


def with_parts(measured: Measures) -> Measures:
    """Each metric over all items, then over those that were trained on and over the others, then over those of no combination
    that was held out and over the others; unchanged where nobody looked, or one of two parts has no item."""
    by_part = [("", measured)]
    for ending, ending_of_others, is_member in PARTS:
        member_N = np.array([is_member(record) for record in measured.records], bool)
        if member_N.any() and not member_N.all():
            by_part += [(ending, part(measured, member_N)), (ending_of_others, part(measured, ~member_N))]
    if len(by_part) == 1:
        return measured
    names = [(name, ending, member) for name in measured.metrics for ending, member in by_part]
    return replace(
        measured,
        metrics={name + ending: member.metrics[name] for name, ending, member in names if name in member.metrics},
        counts={name + ending: member.counts[name] for name, ending, member in names if name in member.metrics},
    )


def _of_members(metric: Metric, member_N: Array, weights_RN: Array | None) -> metrics.Value:
    if weights_RN is None:
        return float(np.asarray(metric(member_N[None]))[0])
    return metric(weights_RN * member_N)
