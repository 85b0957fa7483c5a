"""Options of the optimizer, and how each part of a model learns."""

from dataclasses import dataclass, field

from medvlp.config.rules import ConfigError, at_least, not_negative, one_of, share


@dataclass(kw_only=True)
class PartConfig:
    """How one part of a model learns."""

    freeze: bool = False
    """Keep its weights, and keep it in eval mode (no dropout, batch norm statistics fixed)."""
    lr: float | None = None
    """Its own peak learning rate instead of optim.lr."""
    last_blocks: int | None = None
    """Train only its last blocks, and what follows them (LiT's unlocked groups)."""
    layer_decay: float = 1.0
    """Each block learns at this share of the next one's rate, counted from the last (BEiT)."""

    def check(self, key: str) -> None:
        """Ranges, and what excludes each other. Raises ConfigError."""
        if self.last_blocks is not None:
            at_least(f"{key}.last_blocks", self.last_blocks, 1)
            if self.freeze:
                raise ConfigError(f"{key}: give freeze or last_blocks, not both")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"{key}.layer_decay={self.layer_decay} must be above 0 and at most 1")


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW with warm-up and decay."""

    lr: float = 5e-4
    """Peak learning rate."""
    weight_decay: float = 0.2
    """Decay of matrices; biases, norms, embeddings of position and scalars are spared."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.98
    """Decay of the mean of squared gradients."""
    eps: float = 1e-6
    """Added to the root of the mean of squared gradients."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """After warm-up: cosine, linear or constant."""
    final_lr_fraction: float = 0.0
    """Where cosine and linear end, as a share of the peak."""
    fused: bool = False
    """torch's fused AdamW: one kernel a step. Not with trainer.precision=16-mixed and clip_norm."""
    ema_decay: float = 0.0
    """Keep an average of the weights, of which a step keeps this share, such as 0.999; it is evaluated and saved instead of the
    last weights. 0 keeps none."""
    clip_norm: float = 0.0
    """Global norm that gradients are clipped to; 0 does not clip."""
    parts: dict[str, PartConfig] = field(default_factory=dict)
    """By part of the model (CLIP: vision, vision_head, text, text_head, logit_scale)."""

    def check(self) -> None:
        """Ranges, and a schedule that there is. Raises ConfigError."""
        for key in ("lr", "weight_decay", "warmup_steps", "clip_norm", "eps"):
            not_negative(f"optim.{key}", getattr(self, key))
        share("optim.final_lr_fraction", self.final_lr_fraction)
        share("optim.beta1", self.beta1, below_1=True)
        share("optim.beta2", self.beta2, below_1=True)
        share("optim.ema_decay", self.ema_decay, below_1=True)
        for name, part in self.parts.items():
            part.check(f"optim.parts.{name}")
        one_of("optim.schedule", self.schedule, ("cosine", "linear", "constant"))
