"""How weights of `hf:` models are held in memory."""

from dataclasses import dataclass

from medvlp.config.rules import ConfigError, one_of

DTYPES = ("float32", "bfloat16", "float16", "auto")
ATTENTIONS = ("", "eager", "sdpa", "flash_attention_2")


@dataclass(kw_only=True)
class LoadConfig:
    """Weights of `hf:` models in memory."""

    dtype: str = "float32"
    """float32, bfloat16, float16, or auto (as published)."""
    quantization: str = ""
    """nf4 holds the language model's weights in four bits, which needs bitsandbytes and a GPU; empty holds them as dtype says."""
    device_map: str = ""
    """Spreads a model over devices, as accelerate does it: auto, balanced, sequential; empty puts it on one."""
    attention: str = ""
    """transformers' attention: eager, sdpa, flash_attention_2; empty lets it choose."""

    def check(self) -> None:
        """Names that there are. Raises ConfigError."""
        one_of("load.dtype", self.dtype, DTYPES)
        one_of("load.attention", self.attention, ATTENTIONS)
        if self.quantization not in ("", "nf4"):
            raise ConfigError(f"load.quantization={self.quantization!r} is not known; expected nf4, or nothing")
        if self.device_map not in ("", "auto", "balanced", "balanced_low_0", "sequential"):
            raise ConfigError(
                f"load.device_map={self.device_map!r} is not known; expected auto, balanced, sequential, or nothing"
            )
