"""Classification of images by the similarity to described classes (CLIP, Radford 2021).

Legend: N items, C classes, P prompts, D embedding width.
"""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from medvlp.eval import metrics
from medvlp.eval.embeddings import EmbeddingCache, Encoder, Item
from medvlp.eval.metrics import Array, Indices
from medvlp.eval.tasks import Bootstrap, Outcome, protocol
from medvlp.shards import ShardDataset

LOGIT_SCALE = 100.0
"""Cosines become probabilities by softmax(100 · cos), as in CLIP. Fixed, so that only embeddings differ."""


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification with an ensemble of prompts.

    A class is the renormalised mean of the unit embeddings of all its prompts, every name in every template. Samples
    whose label is not among the classes are excluded and counted in the protocol. Metrics: acc1, acc5 (beyond five
    classes), mean_per_class_recall and auroc (one-vs-rest macro, which for two classes is the usual one).

    Raises:
        ValueError: fewer than two classes, a template without {}, a class without names.
    """

    name: str
    dataset: ShardDataset
    label: str
    """The sample's label that holds the class."""
    classes: dict[str, list[str]]
    """Label value → names that go into the templates."""
    templates: list[str]
    """Prompts with {} for the name."""
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise ValueError(f"task {self.name}: classes={list(self.classes)}, expected two or more")
        nameless = [value for value, names in self.classes.items() if not names]
        if nameless:
            raise ValueError(f"task {self.name}: classes {nameless} have no names; list at least one each")
        wrong = [template for template in self.templates if "{}" not in template]
        if wrong or not self.templates:
            raise ValueError(
                f"task {self.name}: templates need {{}} for the class name; found {wrong or 'none at all'}"
            )

    def run(self, encoder: Encoder, cache: EmbeddingCache) -> Outcome:
        """Measure one model.

        Raises:
            ValueError: no sample has a label among the classes.
        """
        images = cache.images(encoder, self.dataset)
        order = {value: position for position, value in enumerate(self.classes)}
        values = [str(item.labels[self.label]) if self.label in item.labels else "(no label)" for item in images.items]
        kept = [row for row, value in enumerate(values) if value in order]
        excluded = Counter(value for value in values if value not in order)
        if not kept:
            known = sorted({name for item in images.items for name in item.labels})
            raise ValueError(
                f"task {self.name}: no sample of {self.dataset.folder} has {self.label!r} among {list(order)}; "
                f"found {dict(excluded.most_common(5))}; labels there: {known}"
            )
        items = [images.items[row] for row in kept]
        target_N = np.array([order[values[row]] for row in kept])
        class_CD = self.class_embeddings(encoder, cache)
        scores_NC = LOGIT_SCALE * metrics.similarity(images.embeddings_ND.numpy()[kept], class_CD)
        probability_NC = metrics.softmax(scores_NC)

        measures: dict[str, Any] = {"acc1": partial(metrics.accuracy, scores_NC, target_N, 1)}
        if len(order) > 5:
            measures["acc5"] = partial(metrics.accuracy, scores_NC, target_N, 5)
        measures["mean_per_class_recall"] = partial(metrics.mean_per_class_recall, scores_NC, target_N)
        measures["auroc"] = partial(metrics.auroc, probability_NC, target_N)
        card = protocol("zero_shot", self.dataset, encoder, images, items, excluded, self.bootstrap)
        card |= {
            "label": self.label,
            "classes": self.classes,
            "class_counts": {value: int((target_N == position).sum()) for value, position in order.items()},
            "templates": self.templates,
            "probabilities": f"softmax({LOGIT_SCALE:g} · cosine) over the classes",
            "auroc": "one-vs-rest, mean over the classes; ties count one half",
        }
        measured = self.bootstrap.measure(measures, [item.group for item in items])
        return Outcome(self.name, measured, self._records(items, target_N, scores_NC, probability_NC), card)

    def class_embeddings(self, encoder: Encoder, cache: EmbeddingCache) -> Array:
        """class_CD: unit vectors in float64."""
        prompts = [
            [template.replace("{}", name) for name in names for template in self.templates]
            for names in self.classes.values()
        ]
        every_PD = cache.texts(encoder, [prompt for one_class in prompts for prompt in one_class]).double().numpy()
        every_PD = every_PD / np.linalg.norm(every_PD, axis=1, keepdims=True)
        bounds = np.cumsum([len(one_class) for one_class in prompts])[:-1]
        mean_CD = np.stack([prompt_PD.mean(axis=0) for prompt_PD in np.split(every_PD, bounds)])
        return np.asarray(mean_CD / np.linalg.norm(mean_CD, axis=1, keepdims=True), np.float64)

    def _records(
        self, items: list[Item], target_N: Indices, scores_NC: Array, probability_NC: Array
    ) -> list[dict[str, Any]]:
        names = list(self.classes)
        records = []
        for item, target, score_C, probability_C in zip(items, target_N, scores_NC, probability_NC, strict=True):
            best = np.flatnonzero(score_C == score_C.max())
            records.append(
                {
                    "id": item.key,
                    "group": item.group,
                    # No class is predicted where several share the top, so the records give acc1 as it is reported.
                    "prediction": names[best[0]] if len(best) == 1 else None,
                    "target": names[target],
                    "score": float(probability_C[best[0]]),
                    "scores": dict(zip(names, probability_C.tolist(), strict=True)),
                }
            )
        return records
