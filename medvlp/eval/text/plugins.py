"""Scorers of written text that other packages bring: found through the entry point group `medvlp.text_metrics`."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from medvlp.distributed import on_all_ranks
from medvlp.eval.errors import TaskError
from medvlp.eval.text.bert_score import BertScore

GROUP = "medvlp.text_metrics"
"""A package that brings a scorer declares it here: name → a class (or function) that is called without arguments."""

BERT_SCORE = "bert_score"
BATCH_SIZE = 64
"""Texts that a scorer is given at a time."""

SCORERS_OF_OTHERS = {
    "chexbert": "CheXbert's labels (package f1chexbert, with its weights)",
    "radgraph": "RadGraph F1 (package radgraph, with its weights)",
    "green": "GREEN (package green-score, with its language model)",
    "bleurt": "BLEURT (Google Research's package bleurt, with its TensorFlow checkpoint)",
    "radcliq": "RadCliQ (package CXR-Report-Metric, with the weights of its parts)",
}
"""Names that the literature gives to scorers which need weights that are not ours to ship."""


class TextMetric(Protocol):
    """A scorer: what an entry point of `GROUP` gives when it is called. That happens whenever an evaluation is planned, so
    weights are loaded by the first `score`."""

    def score(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> Mapping[str, Sequence[float | None]]:
        """Name → a number for each text, None where it has none; each text comes with all its references, none blank. Texts
        come in batches, so that what is said of one must not depend on the others.

        The mean over the texts is reported, as `<plug-in>/<name>`, or as `<plug-in>` for the name "".
        """

    def protocol(self) -> Mapping[str, Any]:
        """What decides the numbers, as JSON values: package, version, weights."""


@dataclass(frozen=True)
class Plugin:
    """A plug-in by the name that a task gives it; `package`: what it was found in, with its version."""

    name: str
    package: str
    metric: TextMetric

    def scores(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[dict[str, float | None]]:
        """Metric → number, for each text. Where torch.distributed runs, every rank scores its share and gets all.

        Raises:
            TaskError: what it gives is not a number a text.
        """
        batches = [
            slice(start, min(start + BATCH_SIZE, len(predictions))) for start in range(0, len(predictions), BATCH_SIZE)
        ]
        parts = on_all_ranks(batches, lambda batch: self._scores_of(predictions[batch], references[batch]))
        return [scores for part in parts for scores in part]

    def _scores_of(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> list[dict[str, float | None]]:
        columns = self.metric.score(list(predictions), [list(row) for row in references])
        scores: list[dict[str, float | None]] = [{} for _ in predictions]
        for key, values in columns.items():
            name = f"{self.name}/{key}" if key else self.name
            numbers = [None if value is None else float(value) for value in values]
            finite = [value for value in numbers if value is not None and math.isfinite(value)]
            if len(numbers) != len(predictions) or len(finite) != sum(value is not None for value in numbers):
                raise TaskError(
                    f"metric {name} of {self.package} gave {len(numbers)} values, {len(finite)} of them finite numbers, for "
                    f"{len(predictions)} texts; expected a finite number or None for each"
                )
            for of_text, number in zip(scores, numbers, strict=True):
                of_text[name] = number
        return scores

    def protocol(self) -> dict[str, Any]:
        """What a protocol says of it."""
        return {"package": self.package, **dict(self.metric.protocol())}


def load_plugin(name: str, built_in: Sequence[str], task: str) -> Plugin:
    """The plug-in of a name. built_in: names of metrics that need none. task: for messages.

    Raises:
        TaskError: no installed package brings it, two do, or it fails to load.
    """
    points = list(entry_points(group=GROUP, name=name))
    if not points:
        raise TaskError(_missing(name, built_in, task))
    packages = [_package(point) for point in points]
    if len(points) > 1:
        raise TaskError(
            f"task {task}: metric {name} is brought by {' and '.join(packages)}; uninstall all but one of them"
        )
    try:
        factory: Callable[[], TextMetric] = points[0].load()
        metric = factory()
    except Exception as error:  # code of others, which may fail in any way
        raise TaskError(
            f"task {task}: metric {name} of {packages[0]} ({points[0].value}) does not start: {type(error).__name__}: {error}"
        ) from error
    return Plugin(name, packages[0], metric)


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def _missing(name: str, built_in: Sequence[str], task: str) -> str:
    names = sorted({point.name for point in entry_points(group=GROUP)})
    installed = f" Installed plug-ins: {', '.join(names)}." if names else ""
    hint = (
        f"a plug-in: install a package that declares the entry point {name!r} in the group {GROUP} (docs/evaluation.md, "
        f"Written text, shows one)"
    )
    if name in SCORERS_OF_OTHERS:
        return (
            f"task {task}: metric {name!r} is {SCORERS_OF_OTHERS[name]}, whose weights medvlp does not carry. It is {hint}."
            f"{installed}"
        )
    return f"task {task}: metric {name!r} is not one of {', '.join(built_in)}, nor {hint}.{installed}"


def plugins_of(config: Any, known_names: Sequence[str]) -> tuple[Plugin, ...]:
    """The scorers of a task that its own metrics (`known_names`) are not: BERTScore, and those of other packages.

    Raises:
        TaskError: a plug-in that is not installed, or does not start.
        WeightsError: an encoder of BERTScore that is not here.
    """
    return tuple(
        Plugin(name, "medvlp", BertScore(config.bert_model, config.bert_layer))
        if name == BERT_SCORE
        else load_plugin(name, (*known_names, BERT_SCORE), config.name)
        for name in config.metrics
        if name not in known_names
    )
