"""Options of a CLIP model."""

from dataclasses import dataclass, field, replace

from medvlp.config.base import ModelConfig
from medvlp.config.rules import ConfigError, at_least, one_of, share, some_of


@dataclass(kw_only=True)
class ImageConfig:
    """From a decoded image to the tower's input."""

    size: int | None = None
    """Side of the square input in pixels; null is a named model's own, else 224."""
    mean: list[float] | None = None
    """Channel means on the 0–1 scale; null is a named model's own, else CLIP's."""
    std: list[float] | None = None
    """Channel deviations on the 0–1 scale; null is a named model's own, else CLIP's."""
    resize_mode: str | None = None
    """For evaluation: shortest (then centre crop), longest (then pad) or squash; null is a named model's own, else shortest."""


@dataclass(kw_only=True)
class VisionConfig:
    """An image tower from timm, when `model.name` is empty."""

    timm: str = "vit_base_patch16_224"
    """Any timm architecture."""
    weights: str = ""
    """Empty (random), `timm` (its own pretrained ones), `package:<package>/<file>`, or a local file."""
    pool: str = "avg"
    """How timm pools: avg, token, map, abs_attn, rot_attn, or empty for its own default."""
    proj: str = "linear"
    """Projection into the shared space: linear, mlp or none."""


@dataclass(kw_only=True)
class TextConfig:
    """A text tower from transformers, when `model.name` is empty."""

    huggingface: str = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    """Hub name, local folder, or `package:<package>/<folder>` of a tower that open_clip can take: BERT (BiomedBERT, MiniLM, ...),
    RoBERTa, XLM-R, mT5 or M2M-100."""
    pretrained: bool = True
    """Load its weights, or only its architecture and tokenizer."""
    pooler: str = "mean_pooler"
    """mean_pooler, cls_pooler or cls_last_hidden_state_pooler: open_clip's names."""
    proj: str = "linear"
    """Projection into the shared space: linear or mlp."""
    context_length: int | None = None
    """Tokens a caption is cut to; null is a named model's own, else 128. At most the positions of a tower of transformers;
    open_clip's own towers get more from the positions of their weights, by `positions`."""
    positions: str = "linear"
    """How the learned positions of open_clip's own towers become more: linear (all interpolated), or kept (the first 20 stay, the
    others are interpolated, as Long-CLIP does). Fewer are the first of them."""


@dataclass(kw_only=True)
class TowerLoraConfig:
    """Low-rank adapters in the towers (peft)."""

    rank: int = 0
    """Rank of the adapters; 0 has none. With adapters the towers' own weights are frozen, and their heads learn as before."""
    alpha: int = 16
    """The adapters' output is scaled by alpha / rank."""
    dropout: float = 0.0
    """Dropout before the adapters."""
    towers: list[str] = field(default_factory=lambda: ["vision", "text"])
    """Towers that get them: vision, text."""

    def check(self) -> None:
        """Ranges. Raises ConfigError."""
        at_least("model.lora.rank", self.rank, 0)
        at_least("model.lora.alpha", self.alpha, 1)
        share("model.lora.dropout", self.dropout, below_1=True)
        some_of("model.lora.towers", self.towers, ("vision", "text"))


@dataclass(kw_only=True)
class ClipConfig(ModelConfig):
    """A CLIP model: one of open_clip's, or any timm image tower with any transformers text tower."""

    kind: str = "clip"
    """Which model this is; the option chosen for `model` sets it."""
    name: str = ""
    """open_clip architecture (`ViT-B-16`) or a JSON file in its format, which `image` and `text.context_length` may change;
    empty: `vision` with `text`."""
    pretrained: str = ""
    """Weights for `name`: an open_clip tag, a local file, or `package:<package>/<file>`; empty is random."""
    embed_dim: int = 512
    """Width of the shared space of `vision` and `text`."""
    temperature: float = 0.07
    """Starting temperature of `vision` and `text`; the logit scale is its inverse."""
    patch_dropout: float = 0.0
    """Share of an image's patches that a vision transformer does not see in training, others each time (FLIP)."""
    gradient_checkpointing: bool = False
    """Compute the towers' activations twice instead of keeping them."""
    image_pool: str = "mean"
    """How several images make one example, with data.sources.<name>.several_images=all: mean (of their unit vectors), or
    attention (weights of a small layer that learns). Evaluation of the checkpoint does the same."""
    lora: TowerLoraConfig = field(default_factory=TowerLoraConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)

    def check(self) -> None:
        """A named model brings its towers; what would be ignored is refused."""
        if self.image.resize_mode is not None:
            one_of("model.image.resize_mode", self.image.resize_mode, ("shortest", "longest", "squash"))
        self.lora.check()
        one_of("model.image_pool", self.image_pool, ("mean", "attention"))
        share("model.patch_dropout", self.patch_dropout, below_1=True)
        one_of("model.vision.proj", self.vision.proj, ("linear", "mlp", "none"))
        one_of("model.text.positions", self.text.positions, ("linear", "kept"))
        if self.text.context_length is not None:
            at_least("model.text.context_length", self.text.context_length, 2)
        one_of("model.text.proj", self.text.proj, ("linear", "mlp"))
        one_of("model.text.pooler", self.text.pooler, ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler"))
        plain = ClipConfig()
        if self.name:
            changes = [
                key for key in ("embed_dim", "temperature", "vision") if getattr(self, key) != getattr(plain, key)
            ]
            changes += (
                ["text"]
                if replace(self.text, context_length=None, positions=plain.text.positions) != plain.text
                else []
            )
            if changes:
                raise ConfigError(
                    f"model.{changes[0]} has no effect with model.name={self.name!r}, which brings its own; "
                    f"leave model.name empty to put towers together, or write the change into a JSON file for model.name"
                )
        elif self.pretrained:
            raise ConfigError(
                "model.pretrained belongs to model.name; towers have model.vision.weights and model.text.pretrained"
            )
