"""Zero-shot classification with several labels an image, by prompts for and against each finding.

Legend: N items, L labels, P prompts, D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from medvlp.config import MultiLabelConfig
from medvlp.data.labels import WILDCARD, ClassLabels
from medvlp.eval import metrics
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.classification.records import class_counts, several_records, uncounted_lines
from medvlp.eval.embeddings import CachedEncoder, ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import exclusion_lines
from medvlp.eval.metrics import Array
from medvlp.eval.multi_label.targets import Targets, no_target_message, read_targets, refuse_slips
from medvlp.eval.statistics.classification import best_f1_thresholds, counted_classes, log_odds
from medvlp.eval.statistics.measures import LOGIT_SCALE, measures
from medvlp.eval.task import TaskResult, TaskSettings, task_protocol, validation_split
from medvlp.eval.trained import Trained, marked
from medvlp.eval.zero_shot import class_embeddings
from medvlp.shards import ShardDataset

PAIRS, SOFTMAX = "pairs", "softmax"
LOGITS = {
    PAIRS: "log-odds of the prompts for the class against those against it: {scale:g} · (cosine − cosine)",
    SOFTMAX: "log-odds of the class among all classes by softmax({scale:g} · cosine)",
}
"""Method → what the logits of records are."""
MOST_STRANGERS = 20
"""Names that are no class, those with most items, in a protocol."""


@dataclass(frozen=True)
class MultiLabel:
    """Zero-shot classification of images that may show several findings, or none.

    The embedding of a prompt is as in `ZeroShot`. With `pairs` a finding's score compares the prompts for it with those
    against it (CheXzero, Tiu 2022); with `softmax` classes compete. Labels that are not stated or uncertain count in no metric
    of their class. A class without positives, or without negatives, is in no metric, and is named. Metrics: auroc, map
    (average precision) and f1, as means over the classes and of each class.
    """

    kind: ClassVar[str] = "multi_label"
    version: ClassVar[int] = 2

    name: str
    dataset: ShardDataset
    label: str
    """The label that holds a list of names, or a mapping class → 1, 0, -1 (uncertain) or null."""
    classes: dict[str, list[str]]
    """Class as labels have it → names that go into the templates."""
    templates: list[str]
    """Prompts for a class, with {} for the name."""
    negative_templates: list[str]
    """Prompts against it, with {} for the name."""
    method: str = PAIRS
    exclude: Sequence[str] = ()
    """Names in labels that are no class on purpose."""
    valid: ShardDataset | None = None
    """On which thresholds are chosen; None gives no F1."""
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    trained: Trained | None = None
    """What of the split the model was trained on, where that was looked for."""

    @classmethod
    def needs(cls, config: MultiLabelConfig) -> tuple[str, ...]:
        """Embeddings of images and texts."""
        return "encode_image", "encode_text"

    @classmethod
    def uses(cls, config: MultiLabelConfig) -> dict[str, tuple[str, ...]]:
        """Nothing else."""
        return {}

    @classmethod
    def from_config(cls, config: MultiLabelConfig, dataset: ShardDataset, settings: TaskSettings) -> Self:
        """The task of a configuration. In training there is no F1."""
        return cls(
            config.name,
            dataset,
            config.label,
            config.classes,
            config.templates,
            config.negative_templates,
            config.method,
            tuple(config.exclude),
            None if settings.in_training else validation_split(config, dataset),
            settings.bootstrap,
        )

    def run(self, model: CachedEncoder) -> TaskResult:
        """Measure one model.

        Raises:
            TaskError: no class has both positives and negatives, or a class is probably meant by a label that it does not
                equal.
        """
        images = model.images(self.dataset)
        classes = list(self.classes)
        targets = self._targets(images, self.dataset)
        if not counted_classes(targets.target_NL).any():
            lack = f"no class of {classes} has positives and negatives in {self.label!r} of {self.dataset.folder}"
            raise TaskError(no_target_message(self.name, lack, targets.excluded, targets.strangers, images.items))
        items = [images.items[row] for row in targets.rows]
        logits_NL = self._logits(model, images)[targets.rows]
        threshold, choice = self._thresholds(model)
        protocol = task_protocol(self, model, images, items, targets.excluded)
        protocol |= {
            "label": self.label,
            "classes": self.classes,
            "exclude": list(self.exclude),
            "multi_label": True,
            "class_counts": class_counts(classes, targets.target_NL, multi_label=True),
            "other_labels": dict(targets.strangers.most_common(MOST_STRANGERS)),
            "method": self.method,
            "templates": self.templates,
            **({"negative_templates": self.negative_templates} if self.method == PAIRS else {}),
            "logits": LOGITS[self.method].format(scale=LOGIT_SCALE),
            "threshold": threshold,
            "threshold_choice": choice,
            "auroc": "a class at a time on its stated labels, then the mean over the classes; ties count one half",
            "exclusions": exclusion_lines(targets.excluded, images.bad_counts(), "sample", len(items))
            + uncounted_lines(classes, targets.target_NL),
        }
        records = several_records(classes, items, targets.target_NL, logits_NL, threshold)
        records = marked(records, [item.key for item in items], self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(records, protocol)), records, protocol)

    def _targets(self, images: ImageEmbeddings, dataset: ShardDataset) -> Targets:
        labels = ClassLabels(self.label, tuple(self.classes), True, (WILDCARD,))
        targets = read_targets(images.items, labels, self.exclude)
        refuse_slips(self.name, dataset.folder, list(self.classes), targets.target_NL, targets.strangers, self.exclude)
        return targets

    def _logits(self, model: CachedEncoder, images: ImageEmbeddings) -> Array:
        """(N, L), rounded as similarities are, so that equal images tie."""
        image_ND = images.embeddings_ND.numpy()
        cosine_NL = metrics.similarity(image_ND, class_embeddings(model, self.classes, self.templates))
        if self.method == PAIRS:
            against_LD = class_embeddings(model, self.classes, self.negative_templates)
            return LOGIT_SCALE * (cosine_NL - metrics.similarity(image_ND, against_LD))
        return np.round(log_odds(LOGIT_SCALE * cosine_NL), metrics.SCORE_DECIMALS)

    def _thresholds(self, model: CachedEncoder) -> tuple[dict[str, float], str]:
        """Class → the logit from which on it is predicted, and how that was chosen."""
        if self.valid is None:
            return {}, "none: the task has no other split to choose on, so that there is no F1"
        images = model.images(self.valid)
        targets = self._targets(images, self.valid)
        logits_NL = self._logits(model, images)[targets.rows]
        split = self.valid.manifest.split
        choice = f"the highest F1 on {split}, a class; none for a class without positives there"
        return best_f1_thresholds(list(self.classes), logits_NL, targets.target_NL), choice
