"""Options of contrastive training."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medvlp.config.base import ObjectiveConfig
from medvlp.config.rules import ConfigError, one_of
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
        """The loss and its options."""
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
        if training.trainer.precision == "bf16-true":
            raise ConfigError(
                "trainer.precision=bf16-true would freeze the temperature: near its start, bfloat16 steps by 2^-6, far more "
                "than an update moves it. Use bf16-mixed"
            )
        if self.max_logit_scale < 1:
            raise ConfigError(f"objective.max_logit_scale={self.max_logit_scale} must be at least 1")
        if training.data.global_batch_size < 2:
            raise ConfigError("data.global_batch_size=1 leaves a pair without negatives; use 2 or more")
