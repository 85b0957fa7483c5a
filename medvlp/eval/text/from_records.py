"""Metrics of written text from its records: means over texts, metrics of the corpus, each next to its controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medvlp.config.evaluation.metric_names import MAIN
from medvlp.eval.metrics import MeanOfMeans, Metric
from medvlp.eval.text.corpus import Difference, FindingScore, OfCorpus, corpus_metrics
from medvlp.eval.text.findings.rules import stated

Record = Mapping[str, Any]
_COUNTED = ("bleu", "chrf")


def text_metrics(records: Sequence[Record], controls: Sequence[str]) -> tuple[dict[str, Metric], dict[str, int]]:
    """Name → metric, and name → the texts that it is over.

    Each main metric is followed by itself under every control that was run, and by the paired difference from it. Those of
    findings are left out where no reference states one.
    """
    by_metric: dict[str, dict[str, Metric]] = {}
    for control in ("", *controls):
        for name, metric in _metrics_of(records, control).items():
            if control and name not in MAIN["text"]:
                continue
            by_metric.setdefault(name, {})[control] = metric
    by_name: dict[str, Metric] = {}
    for name, by_control in by_metric.items():
        for control, metric in by_control.items():
            by_name[f"{name}/{control}" if control else name] = metric
            if control and "" in by_control:
                by_name[f"{name}/minus_{control}"] = _minus(by_control[""], metric)
    counts = {name: _count(metric) for name, metric in by_name.items()}
    return {name: metric for name, metric in by_name.items() if counts[name]}, counts


def _metrics_of(records: Sequence[Record], control: str) -> dict[str, Metric]:
    """Metrics of the texts themselves, or of a control's."""
    by_name: dict[str, Metric] = {}
    rows = [record if not control else record["control_scores"].get(control, {}) for record in records]
    for name in _COUNTED:
        numbers = [row.get("numbers", {}).get(name) for row in rows]
        by_name |= corpus_metrics(name, *_array(numbers))
    scores = [row.get("scores", {}) for row in rows]
    for name in dict.fromkeys(name for row in scores for name in row):
        by_name[name] = _mean([row.get(name) for row in scores])
    return by_name | _findings(records, rows, bool(control))


def _array(rows: Sequence[Sequence[int] | None]) -> tuple[np.ndarray, np.ndarray]:
    """(N, M) the numbers, 0 of an item without, and (N,) whether it has any."""
    width = next((len(row) for row in rows if row is not None), 1)
    numbers_NM = np.array([[0] * width if row is None else row for row in rows], np.float64)
    return numbers_NM, np.array([row is not None for row in rows], bool)


def _mean(values: Sequence[float | None]) -> MeanOfMeans:
    value_N = np.array([value or 0.0 for value in values], np.float64)
    if not np.isfinite(value_N).all():
        raise ValueError("scores hold NaN or infinity")
    return MeanOfMeans.of(value_N, [value is not None for value in values])


def _findings(records: Sequence[Record], rows: Sequence[Record], is_control: bool) -> dict[str, Metric]:
    if not any("findings" in row for row in rows):
        return {}
    references = [stated(record["reference_findings"]) for record in records]
    texts = [stated(row["findings"]) if "findings" in row else None for row in rows]
    names = sorted(set().union(*references, *(text for text in texts if text)))
    if not any(references):
        return {}
    hit_NL, text_NL, reference_NL = (np.zeros((len(rows), len(names))) for _ in range(3))
    for i, (reference, text) in enumerate(zip(references, texts, strict=True)):
        if text is not None:
            text_NL[i] = [name in text for name in names]
            reference_NL[i] = [name in reference for name in names]
    hit_NL = text_NL * reference_NL
    member_N = np.array([text is not None for text in texts], bool)
    by_name = corpus_metrics("findings", np.concatenate([hit_NL, text_NL, reference_NL], axis=1), member_N)
    for i, name in enumerate(names if not is_control else ()):
        if reference_NL[:, i].any():
            numbers_N3 = np.stack([hit_NL[:, i], text_NL[:, i], reference_NL[:, i]], axis=1)
            by_name[f"findings_f1/{name}"] = FindingScore(numbers_N3, member_N)
    return by_name


def _minus(a: Metric, b: Metric) -> Metric:
    if isinstance(a, OfCorpus) and isinstance(b, OfCorpus):
        return Difference(a, b)
    assert isinstance(a, MeanOfMeans)
    assert isinstance(b, MeanOfMeans)
    return MeanOfMeans(a.value_NC - b.value_NC, a.member_NC & b.member_NC)


def _count(metric: Any) -> int:
    return int((metric.member_NC if isinstance(metric, MeanOfMeans) else metric.member_N).sum())
