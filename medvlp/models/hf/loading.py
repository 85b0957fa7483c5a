"""Weights of transformers' models in memory: types, four bits, several devices; never code, never pickles."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medvlp.models.hf.folders import content_files
from medvlp.models.hf.kinds import CAUSAL, CHAT, ENCODER, TEXTS, load_config
from medvlp.models.weights import DAMAGE, WeightsError, load_pretrained, reason

AUTO_CLASSES = {
    ENCODER: "AutoModel",
    TEXTS: "AutoModel",
    CHAT: "AutoModelForImageTextToText",
    CAUSAL: "AutoModelForCausalLM",
}
SKIPPED = ("lm_head", r".*\.(?:vision_tower|vision_model|visual|multi_modal_projector|connector)")
"""Layers that stay as they are where the others are in four bits (patterns of their names): what sees, and what writes."""


@dataclass(frozen=True)
class Loading:
    """How weights are held.

    dtype: float32, bfloat16, float16 or auto (as published). quantization: "nf4" for four bits (Dettmers 2023), or "".
    device_map: of accelerate, such as auto, which spreads a model over devices; "" puts it on one. attention: transformers'
    attn_implementation; "" lets it choose.
    """

    dtype: str = "float32"
    quantization: str = ""
    device_map: str = ""
    attention: str = ""

    @property
    def options(self) -> str:
        """What of it the model's dtype does not say."""
        return " ".join(filter(None, (self.quantization, self.attention)))

    def metadata(self) -> dict[str, str]:
        """What differs from plain weights in single precision."""
        options = {"dtype": self.dtype, "quantization": self.quantization, "attention": self.attention}
        return {name: value for name, value in options.items() if value}


def load_model(kind: str, folder: Path, reference: str, loading: Loading, device: str) -> Any:
    """A model in evaluation mode on its device.

    Raises:
        WeightsError: no safetensors, weights that do not fit, an adapter next to them, a missing library.
    """
    import transformers

    content_files(folder)
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    options["config"] = load_config(folder, reference)
    options["dtype"] = "auto" if loading.dtype == "auto" else getattr(torch, loading.dtype)
    if loading.attention:
        options["attn_implementation"] = loading.attention
    if loading.device_map or loading.quantization:
        options["device_map"] = loading.device_map or device
    if loading.quantization:
        options["quantization_config"] = _four_bits(loading)
    try:
        model = load_pretrained(getattr(transformers, AUTO_CLASSES[kind]), str(folder), reference, "model", **options)
    except DAMAGE as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"hf:{reference} cannot be loaded ({reason(error)})") from None
    if "device_map" not in options:
        model.to(device)
    return model.eval().requires_grad_(False)


def execution_of(model: Any, options: str) -> str:
    """Kind of device, dtype and what else decides the last bits, such as `cuda bfloat16 nf4`."""
    return f"{model.device.type} {str(model.dtype).removeprefix('torch.')} {options}".strip()


def _four_bits(loading: Loading) -> Any:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise WeightsError(
            "load.quantization=nf4 needs bitsandbytes, which is not installed: pip install 'medvlp[qlora]'"
        )
    from transformers import BitsAndBytesConfig

    compute = torch.float32 if loading.dtype in ("auto", "float32") else getattr(torch, loading.dtype)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=compute,
        llm_int8_skip_modules=[*SKIPPED],
    )
