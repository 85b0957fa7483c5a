"""Options of training objectives."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medvlp.boxes.forms import FORMS
from medvlp.config.base import ObjectiveConfig
from medvlp.config.classifier import ClassifierConfig
from medvlp.config.llava import LlavaConfig
from medvlp.config.rules import ConfigError, check_name, fold, one_of, suggestion
from medvlp.losses import contrastive_loss

if TYPE_CHECKING:
    from medvlp.config.train import TrainConfig


@dataclass(kw_only=True)
class ContrastiveConfig(ObjectiveConfig):
    """A contrastive loss over the global batch."""

    kind: str = "contrastive"
    """Which objective this is; the option chosen for `objective` sets it."""
    loss: str = "info_nce"
    """The loss: info_nce (CLIP)."""
    options: dict[str, Any] = field(default_factory=dict)
    """What a loss has of its own, e.g. objective.options.<name>=0.5; info_nce has none."""
    max_logit_scale: float = 100.0
    """The learned logit scale is held at or below this, as in CLIP."""
    same_text: str = "negative"
    """Pairs of one batch whose texts are identical: negative (CLIP); masked, ignored in each other's loss; mil_nce, any of
    their images may be found for the text; or apart, dealt out to different batches, as far as an epoch has batches, and
    masked where they meet all the same."""
    positives: str = ""
    """What makes pairs right for each other although their texts differ: empty (nothing), group (one article, patient or
    study), or label.<name>. Unknown values join nothing."""

    def check(self, training: "TrainConfig") -> None:
        """The loss and its options; a contrastive loss needs its whole batch at once."""
        contrastive_loss(self.loss, self.options)
        if self.same_text == "positive":
            raise ConfigError(
                "objective.same_text=positive would change nothing but rounding (and what a text tower's dropout makes of one "
                "text): equal texts have equal embeddings, so a target spread over them gives InfoNCE itself, in both "
                "directions. What acts: masked, mil_nce, apart, or objective.positives=label.<name> where texts differ "
                "(docs/training.md)"
            )
        one_of("objective.same_text", self.same_text, ("negative", "masked", "mil_nce", "apart"))
        if self.positives not in ("", "group") and not self.positives.startswith("label."):
            raise ConfigError(f"objective.positives={self.positives!r}: expected group, or label.<name>")
        if self.same_text == "apart" and training.data.shuffle_block:
            raise ConfigError(
                f"objective.same_text=apart deals out a whole epoch, which data.shuffle_block={training.data.shuffle_block} "
                f"keeps in blocks; leave one of them out"
            )
        if training.trainer.accumulate > 1:
            raise ConfigError(
                f"trainer.accumulate={training.trainer.accumulate} does not enlarge a contrastive batch: each of the "
                f"accumulated batches would be contrasted with itself only, so pairs lose their negatives. "
                f"Set trainer.accumulate=1 and use more ranks or a smaller data.global_batch_size"
            )
        if training.trainer.precision == "bf16-true":
            raise ConfigError(
                "trainer.precision=bf16-true would freeze the temperature: near its start, bfloat16 steps by 2^-6, far more "
                "than an update moves it. Use bf16-mixed"
            )
        if self.max_logit_scale < 1:
            raise ConfigError(f"objective.max_logit_scale={self.max_logit_scale} must be at least 1")
        if training.data.global_batch_size < 2:
            raise ConfigError("data.global_batch_size=1 leaves a pair without negatives; use 2 or more")


@dataclass(kw_only=True)
class InstructConfig(ObjectiveConfig):
    """Next-token prediction of the assistant's words."""

    kind: str = "instruct"
    """Which objective this is; the option chosen for `objective` sets it."""
    packing: str = "tree"
    """tree: all questions of an image behind one shared image; sequence: several conversations in a row; none: each in a
    row of its own. The loss is the same."""
    max_length: int = 2048
    """Tokens of a row, image tokens included."""
    too_long: str = "split"
    """A conversation longer than that is split at its turns, or dropped (split, drop). What is dropped is counted."""
    weighting: str = "token"
    """token: every supervised token of a step counts the same; sample: every conversation does."""
    box_form: str = "shares"
    """How boxes of conversations are written, of what the tower sees: shares (0 to 1), thousandths, pixels, or as a family does,
    such as qwen2_vl (docs/boxes.md)."""
    feature_cache: str = ""
    """Folder for the frozen tower's features, computed once; empty runs the tower at every step."""

    def check(self, training: "TrainConfig") -> None:
        """Packing, and which attention can keep packed conversations apart."""
        one_of("objective.packing", self.packing, ("tree", "sequence", "none"))
        one_of("objective.too_long", self.too_long, ("split", "drop"))
        one_of("objective.weighting", self.weighting, ("token", "sample"))
        one_of("objective.box_form", self.box_form, tuple(FORMS))
        if self.max_length < 8:
            raise ConfigError(f"objective.max_length={self.max_length} must be at least 8 tokens")
        attention = _assistant(self, training).language.attention
        if attention.startswith("flash") and self.packing == "tree":
            raise ConfigError(
                f"model.language.attention={attention} takes lengths of conversations and no tree; use "
                f"objective.packing=sequence, or flex_attention"
            )
        _check_feature_cache(self.feature_cache, training)


@dataclass(kw_only=True)
class BagOfWordsConfig(ObjectiveConfig):
    """An assistant's first stage without its language model: image tokens become like the words of the image's texts."""

    kind: str = "bag_of_words"
    """Which objective this is; the option chosen for `objective` sets it."""
    min_samples: int = 8
    """Words of fewer samples are ignored."""
    max_share: float = 0.5
    """Words of a larger share of the samples are ignored."""
    feature_cache: str = ""
    """Folder for the frozen tower's features, computed once; empty runs the tower at every step."""

    def check(self, training: "TrainConfig") -> None:
        """An assistant's projector learns, and perhaps its tower; its language model does not run."""
        _assistant(self, training)
        language = training.optim.parts.get("language")
        if not (language and language.freeze):
            raise ConfigError(
                f"objective={self.kind} does not run the language model; set optim.parts.language.freeze=true"
            )
        if self.min_samples < 1 or not 0 < self.max_share <= 1:
            raise ConfigError(
                f"objective.min_samples={self.min_samples} must be at least 1, and "
                f"objective.max_share={self.max_share} a share from 0 to 1"
            )
        _check_feature_cache(self.feature_cache, training)


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


def _assistant(objective: ObjectiveConfig, training: "TrainConfig") -> LlavaConfig:
    if not isinstance(training.model, LlavaConfig):
        raise ConfigError(
            f"objective={objective.kind} trains an assistant, not model.kind={training.model.kind!r}; use model=llava"
        )
    return training.model


def _check_feature_cache(folder: str, training: "TrainConfig") -> None:
    """What is kept must not change."""
    vision = training.optim.parts.get("vision")
    if folder and not (vision and vision.freeze):
        raise ConfigError(
            "objective.feature_cache keeps what the tower gives, so the tower must not learn: set "
            "optim.parts.vision.freeze=true"
        )
