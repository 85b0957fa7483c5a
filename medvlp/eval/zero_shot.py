"""Classification of images by the similarity to described classes (CLIP, Radford 2021).

Legend: N items, C classes, P prompts, D embedding width.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from medvlp.config import ZeroShotConfig
from medvlp.config.rules import fold
from medvlp.eval import metrics
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.classification.records import single_records
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import exclusion_lines, mistaken, slip
from medvlp.eval.items import Item, items_of
from medvlp.eval.metrics import Array
from medvlp.eval.statistics.measures import LOGIT_SCALE, measures
from medvlp.eval.statistics.prompt_sets import BY_RANK, choice_protocol, choose
from medvlp.eval.task import TaskResult, TaskSettings, task_protocol, validation_split
from medvlp.eval.trained import Trained, marked
from medvlp.shards import ShardDataset

NO_LABEL = "(no label)"


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot classification with an ensemble of prompts.

    A class is the renormalised mean of the unit embeddings of all its prompts, every name in every template. Samples
    whose label is not among the classes are excluded, counted and said. Metrics: acc1, acc5 (beyond five classes),
    mean_per_class_recall and auroc (one-vs-rest macro, which for two classes is the usual one).
    """

    kind: ClassVar[str] = "zero_shot"
    version: ClassVar[int] = 2

    name: str
    dataset: ShardDataset
    label: str
    """The sample's label that holds the class, or its metadata where it has no such label."""
    classes: dict[str, list[str]]
    """Label value → names that go into the templates."""
    templates: list[str]
    """Prompts with {} for the name."""
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    exclude: Sequence[str] = ()
    """Label values that are no class on purpose."""
    trained: Trained | None = None
    """What of the split the model was trained on, where that was looked for."""
    prompt_sets: Mapping[str, list[str]] = field(default_factory=dict)
    """Several sets of templates by name, instead of `templates`: all are measured, and one gives the scores."""
    valid: ShardDataset | None = None
    """The split on which that one is chosen; None takes the first."""
    positive: str = ""
    """Of two classes the one that sensitivity is about."""

    @classmethod
    def needs(cls, config: ZeroShotConfig) -> tuple[str, ...]:
        """Embeddings of images and texts."""
        return "encode_image", "encode_text"

    @classmethod
    def uses(cls, config: ZeroShotConfig) -> dict[str, tuple[str, ...]]:
        """Nothing else."""
        return {}

    @classmethod
    def from_config(cls, config: ZeroShotConfig, dataset: ShardDataset, settings: TaskSettings) -> "ZeroShot":
        """The task of a configuration, its classes compared with the labels of all samples: now, not when a model has been
        trained or all images encoded."""
        task = cls(
            config.name,
            dataset,
            config.label,
            config.classes,
            config.templates,
            settings.bootstrap,
            tuple(config.exclude),
            prompt_sets=config.prompt_sets,
            valid=None if settings.in_training or not config.prompt_sets else validation_split(config, dataset),
            positive=config.positive,
        )
        task.check()
        return task

    def check(self) -> None:
        """Compare the classes with the labels of all samples, without a model.

        Raises:
            TaskError: a class that no sample has, next to a label that no class has.
        """
        counts: Counter[str] = Counter()
        for item in items_of(self.dataset):
            if isinstance(item, Item):
                counts[self._value(item)] += 1
        self._compare(counts)

    def run(self, model: CachedEncoder) -> TaskResult:
        """Measure one model.

        Raises:
            TaskError: no sample has a label among the classes, or a class without samples stands next to a label without
                a class.
        """
        images = model.images(self.dataset)
        order = {value: position for position, value in enumerate(self.classes)}
        values = [self._value(item) for item in images.items]
        rows = [row for row, value in enumerate(values) if value in order]
        excluded = Counter(value for value in values if value not in order)
        self._compare(Counter(values))
        if not rows:
            names = sorted({name for item in images.items for name in item.fields})
            raise TaskError(
                f"task {self.name}: no sample of {self.dataset.folder} has {self.label!r} among {list(order)}; "
                f"found {dict(excluded.most_common(5))}; labels and metadata there: {names}"
            )
        items = [images.items[row] for row in rows]
        target_N = np.array([order[values[row]] for row in rows])
        image_ND = images.embeddings_ND.numpy()[rows]
        templates, choice = self._choose(model)
        similarity_NC = metrics.similarity(image_ND, class_embeddings(model, self.classes, templates))
        protocol = task_protocol(self, model, images, items, excluded)
        protocol |= {
            "label": self.label,
            "classes": self.classes,
            "exclude": list(self.exclude),
            "class_counts": {value: int((target_N == position).sum()) for value, position in order.items()},
            "templates": templates,
            **choice,
            **({"positive": self.positive} if self.positive else {}),
            "probabilities": f"softmax({LOGIT_SCALE:g} · cosine) over the classes",
            "auroc": "one-vs-rest, mean over the classes; ties count one half",
            "exclusions": exclusion_lines(
                {self._reason(value): count for value, count in excluded.items()},
                images.bad_counts(),
                "sample",
                len(items),
            )
            + [f"0 samples: class {value!r} has none here" for value in order if value not in values],
        }
        records = single_records(list(order), items, target_N, similarity_NC, "similarities", LOGIT_SCALE)
        records = marked(records, [item.key for item in items], self.trained)
        for name, set_templates in self.prompt_sets.items():
            scores_NC = metrics.similarity(image_ND, class_embeddings(model, self.classes, set_templates))
            for record, rank in zip(records, metrics.target_ranks(scores_NC, target_N).tolist(), strict=True):
                record.setdefault(BY_RANK, {})[name] = rank
        metric_values = self.bootstrap.measure(measures(records, protocol))
        return TaskResult(self.name, self.kind, metric_values, records, protocol)

    def _choose(self, model: CachedEncoder) -> tuple[list[str], dict[str, Any]]:
        """The templates of the scores, and what a protocol says of prompt sets."""
        if not self.prompt_sets:
            return self.templates, {}
        why_first = "the task has no other split to choose on" if self.valid is None else ""
        value_of: dict[str, float] = {}
        if self.valid is not None:
            images = model.images(self.valid)
            order = {value: position for position, value in enumerate(self.classes)}
            labels = [self._value(item) for item in images.items]
            rows = [row for row, label in enumerate(labels) if label in order]
            why_first = "" if rows else f"no sample of {self.valid.folder} has a class of the task"
            target_N = np.array([order[labels[row]] for row in rows], np.int64)
            for name, templates in self.prompt_sets.items() if rows else ():
                class_CD = class_embeddings(model, self.classes, templates)
                scores_NC = metrics.similarity(images.embeddings_ND.numpy()[rows], class_CD)
                value_of[name] = float(np.asarray(metrics.accuracy(scores_NC, target_N, 1)))
        choice_name = choose(value_of) if value_of else next(iter(self.prompt_sets))
        choice = choice_protocol(choice_name, value_of, "acc1", why_first)
        return self.prompt_sets[choice_name], {"prompt_sets": dict(self.prompt_sets), **choice}

    def _value(self, item: Item) -> str:
        mapping = item.labels if self.label in item.labels else item.metadata
        return str(mapping[self.label]) if self.label in mapping else NO_LABEL

    def _reason(self, value: str) -> str:
        if value == NO_LABEL:
            return f"no label {self.label!r}"
        note = " (the task's exclude names it)" if value in self.exclude else ""
        return f"{self.label} {value!r} is no class of the task{note}"

    def _compare(self, counts: Counter[str]) -> None:
        """Raises TaskError where a class is probably meant by a label that it does not equal."""
        labels = {value: count for value, count in counts.items() if value != NO_LABEL}
        if not set(labels) & set(self.classes) and not any(fold(v) in map(fold, self.classes) for v in labels):
            return  # another label, or other data altogether: said with what is there
        pairs = mistaken(self.classes, labels, self.exclude)
        if pairs:
            slips = [slip("class", name, labels.get(name, 0), label, count) for name, label, count in pairs[:5]]
            raise TaskError(
                f"task {self.name}: {' '.join(slips)} Samples whose {self.label} is no class are not scored. Write classes as "
                f"the labels of {self.dataset.folder} are written; name labels that are ignored on purpose under exclude"
            )


def class_embeddings(model: CachedEncoder, classes: Mapping[str, Sequence[str]], templates: Sequence[str]) -> Array:
    """class_CD: unit vectors in float64. classes: label value → names that go into the templates."""
    prompts = [[template.replace("{}", name) for name in names for template in templates] for names in classes.values()]
    prompt_PD = model.texts([prompt for class_prompts in prompts for prompt in class_prompts]).double().numpy()
    prompt_PD = prompt_PD / np.linalg.norm(prompt_PD, axis=1, keepdims=True)
    bounds = np.cumsum([len(class_prompts) for class_prompts in prompts])[:-1]
    mean_CD = np.stack([class_PD.mean(axis=0) for class_PD in np.split(prompt_PD, bounds)])
    return np.asarray(mean_CD / np.linalg.norm(mean_CD, axis=1, keepdims=True), np.float64)
