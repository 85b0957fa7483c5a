"""What can be configured of an assistant: its model, its objective, and what is cached. Plain dataclasses, as in `schema`."""

from dataclasses import dataclass, field

from medvlp.config.schema import ModelConfig, ObjectiveConfig


@dataclass(kw_only=True)
class TowerConfig:
    """The assistant's eye."""

    source: str = "openai/clip-vit-large-patch14-336"
    """A CLIP or SigLIP by hub name, local folder or `package:<package>/<folder>`; `timm:<architecture>` for a convolutional
    tower; or a checkpoint of a CLIP trained here (`runs/clip/checkpoints/last.ckpt`), whose image tower is converted."""
    weights: str = ""
    """timm only: `package:<package>/<file>` or a local file, instead of timm's own pretrained weights."""
    size: int | None = None
    """timm only: side of the square input in pixels; null is the architecture's own."""
    mean: list[float] | None = None
    """Channel means on the 0–1 scale; null is the tower's own."""
    std: list[float] | None = None
    """Channel deviations on the 0–1 scale; null is the tower's own."""
    feature_layer: int = -2
    """Hidden state whose patch features are used (LLaVA: the last but one); convolutional towers have their last only."""


@dataclass(kw_only=True)
class LanguageConfig:
    """The assistant's language model."""

    source: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    """A causal language model: hub name, local folder, or `package:<package>/<folder>`; safetensors or GGUF."""
    gguf: str = ""
    """Name of the .gguf file in that folder, where weights are to come from one."""
    template: str = ""
    """Chat template: empty is the tokenizer's own (or its family's, where its own has no generation markers), else a
    family's name or the path of a .jinja file."""
    thoughts: str = ""
    """Thoughts at the beginning of answers, `<think>` … `</think>`: dropped, kept (read, not trained on) or supervised; empty
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
    tower: TowerConfig = field(default_factory=TowerConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    reduce: ReduceConfig = field(default_factory=ReduceConfig)
    gradient_checkpointing: bool = False
    """Compute the language model's activations twice instead of keeping them."""


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
    """A conversation longer than that is split at its turns, or dropped (split, drop). What is left out is counted."""
    weighting: str = "token"
    """token: every supervised token of a step counts the same; sample: every conversation does."""
    feature_cache: str = ""
    """Folder for the frozen tower's features, computed once; empty runs the tower at every step."""


@dataclass(kw_only=True)
class WordsConfig(ObjectiveConfig):
    """An assistant's first stage without its language model: image tokens become like the words of the image's texts."""

    kind: str = "words"
    """Which objective this is; the option chosen for `objective` sets it."""
    min_samples: int = 8
    """Words of fewer samples are left out."""
    max_share: float = 0.5
    """Words of a larger share of the samples are left out."""
    feature_cache: str = ""
    """Folder for the frozen tower's features, computed once; empty runs the tower at every step."""
