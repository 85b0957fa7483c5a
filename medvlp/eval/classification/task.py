"""Supervised classification by the scores of a trained head.

Legend: N items, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from medvlp.config import ClassificationConfig
from medvlp.data.labels import ClassLabels
from medvlp.eval import metrics
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.classification.model import ClassifierModel
from medvlp.eval.classification.records import class_counts, several_records, single_records, uncounted_lines
from medvlp.eval.embeddings import ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import exclusion_lines
from medvlp.eval.metrics import Array
from medvlp.eval.multi_label.targets import Targets, no_target_message, read_targets, refuse_slips
from medvlp.eval.statistics.classification import best_f1_thresholds
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult, TaskSettings, task_protocol, validation_split
from medvlp.eval.trained import Trained, marked
from medvlp.shards import ShardDataset


@dataclass(frozen=True)
class Classification:
    """Scores of one head of a classifier.

    Of one label an item, the metrics are those of zero-shot classes: acc1, acc5 (beyond five classes), mean_per_class_recall
    (balanced accuracy) and auroc (one-vs-rest macro, which for two classes is the usual one). Of several labels: auroc, map
    and f1, each the mean over the classes, and the AUROC of each class; missing labels count in none. Items without a label,
    or with one that is no class of the head, are excluded, counted and said.
    """

    kind: ClassVar[str] = "classification"
    version: ClassVar[int] = 2

    name: str
    dataset: ShardDataset
    head: str = ""
    """The head; empty for the model's only one."""
    label: str = ""
    """The label that holds the class here; empty where it is the head's."""
    exclude: Sequence[str] = ()
    """Label values that are no class on purpose, besides the head's."""
    threshold: float | None = 0.5
    """Of several labels: the probability from which on a class is called shown; None where it is chosen on `valid`."""
    positive: str = ""
    """Of two classes the one that sensitivity is about."""
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    valid: ShardDataset | None = None
    """The split on which thresholds are chosen; None gives no F1."""
    trained: Trained | None = None
    """What of the split the model was trained on, where that was looked for."""

    @classmethod
    def needs(cls, config: ClassificationConfig) -> tuple[str, ...]:
        """A trained head."""
        return ("classify",)

    @classmethod
    def uses(cls, config: ClassificationConfig) -> dict[str, tuple[str, ...]]:
        """Nothing else."""
        return {}

    @classmethod
    def from_config(
        cls, config: ClassificationConfig, dataset: ShardDataset, settings: TaskSettings
    ) -> "Classification":
        """The task of a configuration. Its classes are the head's, which a model brings."""
        return cls(
            config.name,
            dataset,
            config.head,
            config.label,
            tuple(config.exclude),
            config.threshold,
            config.positive,
            settings.bootstrap,
            None if settings.in_training or config.threshold is not None else validation_split(config, dataset),
        )

    def run(self, model: ClassifierModel) -> TaskResult:
        """Measure one model.

        Raises:
            TaskError: the model has no such head, or no sample has a label of it.
        """
        head, labels = self.labels_of(model)
        images = model.logits(self.dataset, head)
        targets = self._targets(labels, images, self.dataset)
        if not len(targets.rows):
            folder_lack, names = f"no sample of {self.dataset.folder}", list(labels.classes)
            lack = f"{folder_lack} has a label of the head {head!r} (label {labels.field!r}, classes {names})"
            raise TaskError(no_target_message(self.name, lack, targets.excluded, targets.strangers, images.items))
        items, classes = [images.items[row] for row in targets.rows], list(labels.classes)
        logits_NC = self._rounded(images, targets)
        threshold, choice = self._thresholds(model, head, labels) if labels.multi_label else (0.0, "")
        protocol = task_protocol(self, model, images, items, targets.excluded)
        protocol |= {
            "head": head,
            "label": labels.field,
            "classes": classes,
            "multi_label": labels.multi_label,
            "exclude": list(labels.exclude),
            **({"positive": self.positive} if self.positive else {}),
            **(
                {"threshold": threshold, "threshold_choice": choice, "uncertain": labels.uncertain}
                if labels.multi_label
                else {}
            ),
            "class_counts": class_counts(classes, targets.target_NL, labels.multi_label),
            "probabilities": "sigmoid of each logit" if labels.multi_label else "softmax of the logits",
            "auroc": "mean over the classes that have both sides; ties count one half",
            "exclusions": exclusion_lines(targets.excluded, images.bad_counts(), "sample", len(items))
            + (uncounted_lines(classes, targets.target_NL) if labels.multi_label else []),
        }
        if labels.multi_label:
            records = several_records(classes, items, targets.target_NL, logits_NC, threshold)
        else:
            records = single_records(classes, items, targets.class_N, logits_NC)
        records = marked(records, [item.key for item in items], self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(records, protocol)), records, protocol)

    def labels_of(self, model: ClassifierModel) -> tuple[str, ClassLabels]:
        """The head, and how its labels are read here. Raises TaskError: the model has no such head, or several."""
        names = list(model.heads)
        head = self.head or (names[0] if len(names) == 1 else "")
        if head not in model.heads:
            problem = (
                f"has no head {self.head!r}"
                if self.head
                else "has several heads; name one as `head` in the task's file"
            )
            raise TaskError(f"task {self.name}: the classifier {problem}; its heads are {', '.join(names)}")
        labels = model.heads[head]
        if self.positive and (self.positive not in labels.classes or len(labels.classes) != 2):
            raise TaskError(
                f"task {self.name}: positive={self.positive!r}, expected one of two classes; the head {head!r} has "
                f"{list(labels.classes)}"
            )
        labels = replace(labels, exclude=tuple(dict.fromkeys((*labels.exclude, *self.exclude))))
        return head, replace(labels, field=self.label) if self.label else labels

    def _targets(self, labels: ClassLabels, images: ImageEmbeddings, dataset: ShardDataset) -> Targets:
        targets = read_targets(images.items, labels, labels.exclude)
        classes = list(labels.classes)
        refuse_slips(self.name, dataset.folder, classes, targets.target_NL, targets.strangers, labels.exclude)
        return targets

    def _rounded(self, images: ImageEmbeddings, targets: Targets) -> Array:
        """(N, C) logits in float64, rounded as similarities are: far finer than float32, so that equal images tie whatever
        batch they were in. Raises TaskError: some are not finite."""
        logits_NC = images.embeddings_ND.double().numpy()[targets.rows]
        if not np.isfinite(logits_NC).all():
            raise TaskError(
                f"task {self.name}: logits are not finite: the classifier gave NaN or infinity; check the checkpoint"
            )
        return np.round(logits_NC, metrics.SCORE_DECIMALS)

    def _thresholds(
        self, model: ClassifierModel, head: str, labels: ClassLabels
    ) -> tuple[float | dict[str, float], str]:
        """Logits from which on a class is called, of all or of each, and how they were chosen."""
        if self.threshold is not None:
            return math.log(self.threshold / (1 - self.threshold)), f"probability {self.threshold:g} of every class"
        if self.valid is None:
            return {}, "none: the task has no other split to choose on"
        images = model.logits(self.valid, head)
        targets = self._targets(labels, images, self.valid)
        if not len(targets.rows):
            return {}, f"none: no sample of {self.valid.folder.name} has a label"
        limits = best_f1_thresholds(labels.classes, self._rounded(images, targets), targets.target_NL)
        return limits, f"highest F1 on {self.valid.manifest.split}, a class"
