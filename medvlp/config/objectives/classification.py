"""Options of supervised classification, and of the heads of labels."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medvlp.config.base import ObjectiveConfig
from medvlp.config.classifier import ClassifierConfig
from medvlp.config.rules import ConfigError, check_name, fold, one_of, suggestion

if TYPE_CHECKING:
    from medvlp.config.train import TrainConfig


SINGLE, MULTI = "single_label", "multi_label"


@dataclass(kw_only=True)
class HeadConfig:
    """One head of a classifier: the labels that it learns, and its loss."""

    kind: str = SINGLE
    """single_label (a sample shows one of the classes: cross-entropy) or multi_label (several of them, or none: a binary
    cross-entropy for each, over the labels that are there)."""
    label: str = ""
    """The label, or else the metadata, that holds the class: a name; for multi_label a list of names, or a mapping class → 1, 0,
    -1 or null. Empty, of multi_label: each class is a label of its own."""
    classes: list[str] = field(default_factory=list)
    """Names of the classes, as the labels are written."""
    exclude: list[str] = field(default_factory=list)
    """Names that are no class on purpose; `*` stands for all others. A name that is neither is refused."""
    uncertain: str = "missing"
    """multi_label: what -1 means: missing, positive or negative."""
    balanced: bool = False
    """Weights from how often the classes occur in training: single_label samples / (classes · samples of the class); multi_label
    negatives / positives."""
    class_weights: dict[str, float] = field(default_factory=dict)
    """Instead of balanced: class → its weight, 1 where it is not named. Of single_label in the cross-entropy, of multi_label
    for its positives."""
    label_smoothing: float = 0.0
    """Share of the target that is spread evenly over the classes, of multi_label over yes and no."""
    weight: float = 1.0
    """Of this head's loss in the sum over heads."""

    def check(self, name: str) -> None:
        """Rules of one head, known by its name. Raises ConfigError."""
        key = f"objective.heads.{name}"
        check_name("objective.heads", name)
        one_of(f"{key}.kind", self.kind, (SINGLE, MULTI))
        one_of(f"{key}.uncertain", self.uncertain, ("missing", "positive", "negative"))
        if not self.label and self.kind == SINGLE:
            raise ConfigError(f"{key}.label is empty; name the label that holds the class (`medvlp check` lists them)")
        least = 2 if self.kind == SINGLE else 1
        if len({fold(value) for value in self.classes}) < max(len(self.classes), least):
            raise ConfigError(
                f"{key}.classes={list(self.classes)}, expected {least} or more that differ in words, as the labels are written; "
                f"`medvlp check` lists those of the data"
            )
        if overlap := [value for value in self.exclude if value in self.classes]:
            raise ConfigError(f"{key}.exclude names the class {overlap[0]!r}")
        if self.balanced and self.class_weights:
            raise ConfigError(f"{key}: give balanced or class_weights, not both")
        for value, weight in self.class_weights.items():
            if value not in self.classes:
                raise ConfigError(f"{key}.class_weights names {value!r}{suggestion(value, self.classes)}")
            if not 0 < weight < float("inf"):
                raise ConfigError(f"{key}.class_weights: {value!r} has {weight}, expected a number above 0")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"{key}.label_smoothing={self.label_smoothing} must be from 0 to below 1")
        if not 0 < self.weight < float("inf"):
            raise ConfigError(f"{key}.weight={self.weight} must be above 0")


@dataclass(kw_only=True)
class ClassifyConfig(ObjectiveConfig):
    """Supervised classification of images: one or several heads over an image tower."""

    kind: str = "classify"
    """Which objective this is; the option chosen for `objective` sets it."""
    heads: dict[str, HeadConfig] = field(default_factory=dict)
    """The heads by name, all of which are trained at once."""

    def check(self, training: "TrainConfig") -> None:
        """A classifier, and heads that can be told apart."""
        if training.model.kind and not isinstance(training.model, ClassifierConfig):
            raise ConfigError(
                f"objective={self.kind} trains a classifier, not model.kind={training.model.kind!r}; use model=classifier"
            )
        if not self.heads:
            raise ConfigError("objective.heads is empty; describe one, e.g. objective.heads.finding.label=<name>")
        for name, head in self.heads.items():
            head.check(name)
