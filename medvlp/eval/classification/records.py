"""Records of classified items, of one class each or of several labels, as the metrics of every such kind read them.

Legend: N items, C classes, L labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medvlp.eval import metrics
from medvlp.eval.items import Item
from medvlp.eval.metrics import Array
from medvlp.eval.statistics.classification import counted_classes


def single_records(
    classes: Sequence[str],
    items: Sequence[Item],
    target_N: ArrayLike,
    scores_NC: Array,
    column: str = "logits",
    scale: float = 1.0,
) -> list[dict[str, Any]]:
    """A record an item of one class: probabilities of the classes, and the one that has the highest alone.

    Args:
        scores_NC: of which, times `scale`, the softmax gives probabilities; in records under `column`.
    """
    records = []
    targets, probability_NC = np.asarray(target_N, np.int64).tolist(), metrics.softmax(scale * scores_NC)
    for item, target, scores_C, probability_C in zip(items, targets, scores_NC, probability_NC, strict=True):
        best = np.flatnonzero(scores_C == scores_C.max())
        records.append(
            {
                "id": item.key,
                "group": item.group,
                # no class is predicted where several share the top, so that the records give acc1 as it is reported
                "prediction": classes[best[0]] if len(best) == 1 else None,
                "target": classes[target],
                "score": float(probability_C[best[0]]),
                "scores": dict(zip(classes, probability_C.tolist(), strict=True)),
                "fields": item.fields,
                column: scores_C.tolist(),
            }
        )
    return records


def several_records(
    classes: Sequence[str],
    items: Sequence[Item],
    target_NL: Array,
    logits_NL: Array,
    threshold: float | Mapping[str, float],
    probability_NL: Array | None = None,
) -> list[dict[str, Any]]:
    """A record an item with several labels: the probability and the state of each class (null: not stated), and the classes
    whose logit reaches their threshold.

    Args:
        target_NL: 1, 0, or NaN where a label is not stated.
        threshold: of all classes, or of each that has one; another one is never predicted.
        probability_NL: where it is not the sigmoid of the logits.
    """
    limits = [threshold.get(name, np.inf) if isinstance(threshold, Mapping) else threshold for name in classes]
    probability_NL = np.exp(-np.logaddexp(0.0, -logits_NL)) if probability_NL is None else probability_NL
    records = []
    for item, target_L, logits_L, score_L in zip(items, target_NL, logits_NL, probability_NL, strict=True):
        states = [None if np.isnan(state) else int(state) for state in target_L]
        records.append(
            {
                "id": item.key,
                "group": item.group,
                "prediction": [
                    name for name, logit, limit in zip(classes, logits_L, limits, strict=True) if logit >= limit
                ],
                "target": [name for name, state in zip(classes, states, strict=True) if state],
                "score": float(score_L.max()),
                "scores": dict(zip(classes, score_L.tolist(), strict=True)),
                "targets": dict(zip(classes, states, strict=True)),
                "fields": item.fields,
                "logits": logits_L.tolist(),
            }
        )
    return records


def class_counts(classes: Sequence[str], target_NL: Array, multi_label: bool) -> dict[str, Any]:
    """Class → items; of several labels {"positive", "negative", "not stated"} each. target_NL: as of `several_records`."""
    states = {"positive": target_NL == 1, "negative": target_NL == 0, "not stated": np.isnan(target_NL)}
    if not multi_label:
        return dict(zip(classes, states["positive"].sum(axis=0).tolist(), strict=True))
    return {
        name: {state: int(is_NL[:, column].sum()) for state, is_NL in states.items()}
        for column, name in enumerate(classes)
    }


def uncounted_lines(classes: Sequence[str], target_NL: Array) -> list[str]:
    """A line for each class that is in no metric of several labels, because it lacks positives or negatives."""
    lines = []
    for column, name in enumerate(classes):
        if not counted_classes(target_NL)[column]:
            count = int((~np.isnan(target_NL[:, column])).sum())
            kind = "negative" if (target_NL[:, column] == 1).any() else "positive"
            lines.append(f"class {name!r}: none of its {count} stated labels is {kind}; it is in no metric")
    return lines
