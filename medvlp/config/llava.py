"""Options of a LLaVA-style assistant."""

from dataclasses import dataclass, field

from medvlp.config.base import ModelConfig
from medvlp.config.rules import ConfigError, at_least, one_of

ATTENTION = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")


@dataclass(kw_only=True)
class ImageTowerConfig:
    """An image tower by name."""

    source: str = "openai/clip-vit-large-patch14-336"
    """A CLIP or SigLIP by hub name, local folder or `package:<package>/<folder>`, with or without `hf:` before it;
    `timm:<architecture>` for a convolutional tower; the tower of a model trained here (`runs/clip/checkpoints/last.ckpt`, or
    its run folder), a CLIP's, which is converted, or a classifier's; or of a CLIP by an `open_clip:` name."""
    weights: str = ""
    """timm only: `package:<package>/<file>` or a local file, instead of timm's own pretrained weights."""
    size: int | None = None
    """timm only: side of the square input in pixels; null is the architecture's own."""
    mean: list[float] | None = None
    """Channel means on the 0–1 scale; null is the tower's own."""
    std: list[float] | None = None
    """Channel deviations on the 0–1 scale; null is the tower's own."""

    def check(self) -> None:
        """What belongs to timm's towers alone. Raises ConfigError."""
        if not self.source.startswith("timm:") and (self.weights or self.size):
            raise ConfigError(
                f"model.vision.weights and .size belong to timm:<architecture>; model.vision.source={self.source!r} "
                f"brings its own"
            )


@dataclass(kw_only=True)
class TowerConfig(ImageTowerConfig):
    """The assistant's vision tower."""

    feature_layer: int = -2
    """Hidden state whose patch features are used (LLaVA: the last but one); convolutional towers have their last only."""


@dataclass(kw_only=True)
class LanguageConfig:
    """The assistant's language model."""

    source: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """A causal language model: hub name, local folder, or `package:<package>/<folder>`, with or without `hf:` before it;
    safetensors or GGUF."""
    gguf: str = ""
    """Name of the .gguf file in that folder, where weights are to come from one."""
    template: str = ""
    """Chat template: empty is the tokenizer's own (or its family's, where its own has no generation markers), else a
    family's name or the path of a .jinja file."""
    thoughts: str = ""
    """Thoughts at the start of answers, `<think>` … `</think>`: dropped, kept (read, not trained on) or supervised; empty
    refuses conversations that have them. With the last two, the model's own answers begin with thoughts."""
    system: str = ""
    """System turns: merge (before the first question) or drop; empty leaves them to the template, which may know none."""
    attention: str = "sdpa"
    """transformers' names: sdpa, eager, flex_attention, flash_attention_2."""
    quantization: str = ""
    """nf4: load in four bits (QLoRA; needs model.lora.rank and the `qlora` extra)."""


@dataclass(kw_only=True)
class LoraConfig:
    """Low-rank adapters in the language model (peft)."""

    rank: int = 0
    """Rank of the adapters; 0 has none and trains the language model itself."""
    alpha: int = 16
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = 0.0
    """Dropout before the adapters."""
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    """Layers that get adapters, by the last part of their names."""


@dataclass(kw_only=True)
class ReduceConfig:
    """Fewer tokens an image. Stock transformers cannot load such a model: its checkpoint says so and it is not exported."""

    kind: str = ""
    """Empty (none), average_pool or pixel_shuffle."""
    factor: int = 2
    """Tokens on a side of the square that becomes one."""


@dataclass(kw_only=True)
class LlavaConfig(ModelConfig):
    """A LLaVA-style assistant: transformers' own Llava, or FastVlm where the tower is convolutional."""

    kind: str = "llava"
    """Which model this is; the option chosen for `model` sets it."""
    vision: TowerConfig = field(default_factory=TowerConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    reduce: ReduceConfig = field(default_factory=ReduceConfig)
    gradient_checkpointing: bool = False
    """Compute the language model's activations twice instead of keeping them."""

    def check(self) -> None:
        """What belongs together in an assistant."""
        one_of("model.reduce.kind", self.reduce.kind, ("", "average_pool", "pixel_shuffle"))
        one_of("model.language.quantization", self.language.quantization, ("", "nf4"))
        one_of("model.language.attention", self.language.attention, ATTENTION)
        one_of("model.language.thoughts", self.language.thoughts, ("", "dropped", "kept", "supervised"))
        one_of("model.language.system", self.language.system, ("", "merge", "drop"))
        if self.language.quantization and not self.lora.rank:
            raise ConfigError(
                f"model.language.quantization={self.language.quantization} cannot be trained by itself; set model.lora.rank"
            )
        at_least("model.lora.rank", self.lora.rank, 0)
        at_least("model.reduce.factor", self.reduce.factor, 1)
        self.vision.check()
