"""Options of the objectives that train an assistant: instruction tuning, and the bag of words before it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medvlp.boxes.forms import FORMS
from medvlp.config.base import ObjectiveConfig
from medvlp.config.llava import LlavaConfig
from medvlp.config.objectives.feature_cache import check_feature_cache
from medvlp.config.rules import ConfigError, one_of

if TYPE_CHECKING:
    from medvlp.config.train import TrainConfig


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
    box_words: bool = True
    """Whether a question that asks for boxes says in which form, on a line behind it; evaluation of the model does the same."""
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
        check_feature_cache(self.feature_cache, training)


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
        check_feature_cache(self.feature_cache, training)


def _assistant(objective: ObjectiveConfig, training: "TrainConfig") -> LlavaConfig:
    if not isinstance(training.model, LlavaConfig):
        raise ConfigError(
            f"objective={objective.kind} trains an assistant, not model.kind={training.model.kind!r}; use model=llava"
        )
    if training.data.augment != type(training.data.augment)():
        raise ConfigError(
            f"objective={objective.kind} shows images as evaluation sees them, whole and unchanged, so data.augment has no "
            f"effect; leave it out"
        )
    return training.model
