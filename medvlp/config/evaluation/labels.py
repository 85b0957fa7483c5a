"""Options of tasks over labels: several labels by prompts, and probes."""

import math
from dataclasses import dataclass, field

from medvlp.config.evaluation.task import TaskConfig
from medvlp.config.rules import ConfigError, at_least, fold, not_in_both, one_of


@dataclass(kw_only=True)
class MultiLabelConfig(TaskConfig):
    """Zero-shot classification with several labels an image, or none."""

    kind: str = "multi_label"
    label: str = ""
    """The label that holds a list of names, or a mapping class: 1, 0, -1 (uncertain) or null."""
    classes: dict[str, list[str]] = field(default_factory=dict)
    """Class as labels have it → names that go into the templates."""
    exclude: list[str] = field(default_factory=list)
    """Names in labels that are no class on purpose, though they resemble one."""
    method: str = "pairs"
    """pairs compares prompts for a class with prompts against it; softmax lets the classes compete."""
    templates: list[str] = field(default_factory=list)
    """Prompts for a class, with {} for the name."""
    negative_templates: list[str] = field(default_factory=list)
    """Prompts against a class, with {} for the name; of pairs only."""

    def check(self) -> None:
        """Prompts for what the method compares. Raises ConfigError."""
        super().check()
        task = f"task {self.name}"
        one_of(f"{task}: method", self.method, ("pairs", "softmax"))
        if not self.label:
            raise ConfigError(f"{task}: label is empty; name the label that holds the findings")
        if len({fold(value) for value in self.classes}) < max(len(self.classes), 2 if self.method == "softmax" else 1):
            raise ConfigError(f"{task}: classes={list(self.classes)}, expected some that differ in words")
        not_in_both(task, self.classes, self.exclude)
        nameless = [value for value, names in self.classes.items() if not names]
        if nameless:
            raise ConfigError(f"{task}: classes {nameless} have no names; list at least one each")
        if self.negative_templates and self.method != "pairs":
            raise ConfigError(f"{task}: negative_templates are of method: pairs; remove them, or set method: pairs")
        keys = ("templates", "negative_templates") if self.method == "pairs" else ("templates",)
        for key in keys:
            templates = getattr(self, key)
            unfilled = [template for template in templates if "{}" not in template]
            if unfilled or not templates:
                raise ConfigError(f"{task}: {key} need {{}} for the class name; found {unfilled or 'none at all'}")


@dataclass(kw_only=True)
class ProbeConfig(TaskConfig):
    """Linear probes on stored embeddings: of all labelled samples, of a few, and of nearest neighbours."""

    kind: str = "probe"
    label: str = ""
    """The label that holds the class, or the metadata field where samples have no such label."""
    classes: list[str] = field(default_factory=list)
    """Label values; empty takes all that train has, in the order of the alphabet."""
    exclude: list[str] = field(default_factory=list)
    """Label values that are no class on purpose."""
    multi_label: bool = False
    """Whether a sample may have several of the classes, or none: its label is a list, or a mapping class: 1, 0, -1 or null."""
    positive: str = ""
    """Of two classes the one that sensitivity is about; empty takes the mean of both, as with more classes."""
    train_split: str = "train"
    """Split that is fitted."""
    strengths: list[float] = field(default_factory=lambda: [1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6])
    """Values of C, the inverse of the penalty, rising; the best on valid_split is taken."""
    halvings: int = 4
    """How often, after that, C is looked for in the middle between the best and its neighbours."""
    shots: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    """Samples a class of the few-shot probes; empty leaves them out."""
    draws: int = 5
    """Draws of each of them."""
    neighbours: list[int] = field(default_factory=lambda: [1, 5, 10, 20])
    """Numbers of neighbours, of which the best on valid_split is taken; empty leaves kNN out."""
    holdout: float = 0.2
    """Share of train, by whole groups, that stands for valid_split where the data have none."""
    seed: int = 0
    """Of the draws."""

    def check(self) -> None:
        """Numbers that can be. Raises ConfigError."""
        super().check()
        task = f"task {self.name}"
        if not self.label:
            raise ConfigError(f"{task}: label is empty; name the label that holds the class")
        if self.classes and len(set(self.classes)) < max(len(self.classes), 2):
            raise ConfigError(f"{task}: classes={self.classes}, expected two or more that differ, or none for all")
        if self.positive and (self.multi_label or (self.classes and self.positive not in self.classes)):
            raise ConfigError(f"{task}: positive={self.positive!r}, expected one of two classes; found {self.classes}")
        not_in_both(task, self.classes, self.exclude)
        if self.train_split == self.valid_split:
            raise ConfigError(
                f"{task}: train_split and valid_split are both {self.train_split!r}; what is fitted cannot be chosen on"
            )
        is_positive = all(0 < strength < math.inf for strength in self.strengths)  # false of NaN
        if not self.strengths or not is_positive or sorted(set(self.strengths)) != list(self.strengths):
            raise ConfigError(f"{task}: strengths={self.strengths}, expected positive finite numbers, rising")
        for key, numbers in (("shots", self.shots), ("neighbours", self.neighbours)):
            if len(set(numbers)) < len(numbers) or min(numbers, default=1) < 1:
                raise ConfigError(f"{task}: {key}={numbers}, expected different numbers of 1 or more")
        at_least(f"{task}: draws", self.draws, 1)
        at_least(f"{task}: halvings", self.halvings, 0)
        if not 0 < self.holdout < 1:
            raise ConfigError(f"{task}: holdout={self.holdout}, expected a share between 0 and 1")
