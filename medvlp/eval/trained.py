"""Overlap of an evaluation with training data, and scores on the items in train and on the others.

Legend: N items, R resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from medvlp.eval.metrics import Array, Value

IN_TRAIN, NOT_IN_TRAIN = "in_train", "not_in_train"
"""Ends of the names of metrics that are over a part of the items."""

Metric = Callable[[Array | None], Value]


@dataclass(frozen=True)
class Trained:
    """Overlap of a split with a model's training data.

    matches: key of a sample → "bytes" or "picture", how an image of it is in train.
    compared: folders of the training splits that were compared.
    unknown: training data that could not be.
    """

    matches: Mapping[str, str] = field(default_factory=dict)
    compared: Sequence[str] = ()
    unknown: Sequence[str] = ()

    def holds(self, keys: Sequence[str]) -> Array:
        """(N,) bool: whether each item's sample was trained on."""
        return np.array([key in self.matches for key in keys], bool)

    def metadata(self, keys: Sequence[str]) -> dict[str, Any]:
        """Its part of a protocol, by samples: keys may name one several times."""
        matches = [self.matches[key] for key in set(keys) if key in self.matches]
        return {
            "samples": len(set(keys)),
            "same_bytes": matches.count("bytes"),
            "same_picture": matches.count("picture"),
            "compared": list(self.compared),
            "unknown": list(self.unknown),
        }


def is_divided(trained_N: Array | None) -> bool:
    """Whether some items were trained on, and some were not."""
    return trained_N is not None and bool(trained_N.any()) and not bool(trained_N.all())


def by_part(metrics: Mapping[str, Metric], trained_N: Array | None) -> dict[str, tuple[Metric, int | None]]:
    """Each metric over all items, and after it over those that were trained on and over the others; with the number of
    items of a part. Nothing is added where nobody looked, or one of the parts has no item."""
    if not is_divided(trained_N):
        return {name: (metric, None) for name, metric in metrics.items()}
    assert trained_N is not None
    parted: dict[str, tuple[Metric, int | None]] = {}
    for name, metric in metrics.items():
        parted[name] = (metric, None)
        for part, member_N in ((IN_TRAIN, trained_N), (NOT_IN_TRAIN, np.logical_not(trained_N))):
            parted[f"{name}_{part}"] = (partial(_of, metric, member_N), int(member_N.sum()))
    return parted


def _of(metric: Metric, member_N: Array, weights_RN: Array | None) -> Value:
    """A metric of some items: the others weigh nothing."""
    if weights_RN is None:
        return float(np.asarray(metric(member_N[None].astype(np.float64)))[0])
    return metric(weights_RN * member_N)
