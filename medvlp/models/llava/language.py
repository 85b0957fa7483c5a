"""An assistant's language: a causal language model with its tokenizer, from safetensors or GGUF files alone."""

import hashlib
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file

from medvlp.models.weights import DAMAGE, WeightsError, load_pretrained, reason, resolve

GGUF = ".gguf"
CAUSAL = ("ForCausalLM", "LMHeadModel")
"""How transformers names the classes of causal language models; BERT's may be loaded as one, but is none."""
GPT2_SPLITS = ("gpt-2", "gpt2", "olmo", "phi-2")
"""GGUF names of tokenizers that split text as GPT-2's does."""


def load_language(
    reference: str,
    gguf: str = "",
    weights: bool = True,
    attention: str = "sdpa",
    quantization: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, str]]:
    """A causal language model in evaluation mode, its tokenizer, and the tokenizer's identity {"name", "sha256"}.

    The hash is of the tokenizer as the tokenizers library writes it, so that it is the same from whichever files.
    A tokenizer without a padding token pads with its end token; one without a limit takes the model's.

    A GGUF file carries a tokenizer too, but not its way of splitting text, only a name for it. transformers knows some
    of these names and takes GPT-2's way for all others; what is known to be another way is put right here (SmolLM's,
    whose digits stand alone), and what is not known is refused. Tokenizer files next to the GGUF file are taken instead.

    Args:
        reference: a folder, hub name or `package:` reference, or one that ends in .gguf.
        gguf: the name of a GGUF file in that folder or repository.
        weights: False for random weights, where a checkpoint follows.
        attention: transformers' attn_implementation: sdpa, eager, flash_attention_2, ...
        quantization: "nf4" for 4-bit weights (Dettmers 2023), which need bitsandbytes.
    Raises:
        WeightsError: nothing there, pickled weights only, no causal language model, or a tokenizer that is not known.
    """
    path, gguf = _split(reference, gguf)
    source: dict[str, Any] = {"gguf_file": gguf} if gguf else {}
    quantized = _quantization(quantization, weights, gguf)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, **source)
        _check_causal(config, reference)
        tokenizer = _tokenizer(path, gguf, config, reference)
        if not weights:
            model = AutoModelForCausalLM.from_config(
                config, dtype=torch.float32, attn_implementation=attention, trust_remote_code=False
            )
        else:
            files = {"config": None, **source} if gguf else {"use_safetensors": True, "config": config}
            options = {**files, **quantized, "attn_implementation": attention}
            model = load_pretrained(AutoModelForCausalLM, path, reference, "model", **options)
    except DAMAGE as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"language model {reference} cannot be loaded ({reason(error)}). Give a local folder "
            "with config.json, tokenizer.json and safetensors weights, a GGUF file, or a hub name that this machine can "
            "reach"
        ) from None
    serialised = tokenizer.backend_tokenizer.to_str()
    return model.eval(), tokenizer, {"name": reference, "sha256": hashlib.sha256(serialised.encode()).hexdigest()}


def _split(reference: str, gguf: str) -> tuple[str, str]:
    path = resolve(reference)
    if reference.endswith(GGUF):
        file = Path(path)
        if gguf or not file.is_file():
            raise WeightsError(
                f"{reference}: no such file" if not gguf else f"{reference} and model.language.gguf={gguf!r}: give one"
            )
        return str(file.parent), file.name
    if gguf and (Path(gguf).name != gguf or not gguf.endswith(GGUF)):
        raise WeightsError(
            f"model.language.gguf={gguf!r}: expected the name of a .gguf file in {reference}, without folders"
        )
    return path, gguf


def _quantization(name: str | None, weights: bool, gguf: str) -> dict[str, Any]:
    if name is None:
        return {}
    if name != "nf4":
        raise WeightsError(f"model.language.quantization={name!r} is not known; expected nf4, or none")
    if gguf or not weights:
        raise WeightsError(
            "model.language.quantization=nf4 quantises safetensors weights as it loads them: no GGUF, no random weights"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise WeightsError(
            "model.language.quantization=nf4 needs bitsandbytes, which is not installed: pip install 'medvlp[qlora]'"
        )
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=False,  # saves 0.4 bits a weight, and bits would not come back from a checkpoint
            bnb_4bit_compute_dtype=torch.float32,
        )
    }


def _check_causal(config: PreTrainedConfig, reference: str) -> None:
    architectures = config.architectures or []
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or (
        architectures and not any(name.endswith(CAUSAL) for name in architectures)
    ):
        raise WeightsError(f"{reference} is a {config.model_type} {architectures}; expected a causal language model")


def _tokenizer(path: str, gguf: str, config: PreTrainedConfig, reference: str) -> Any:
    has_tokenizer = Path(path, "tokenizer_config.json").is_file()
    source: dict[str, Any] = {"gguf_file": gguf} if gguf and not has_tokenizer else {}
    tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **source)
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise WeightsError(f"{reference}: a {type(tokenizer).__name__} has no tokenizer.json; convert it to one")
    if source:
        _restore_split(tokenizer, str(cached_file(path, gguf)))
    if tokenizer.eos_token is None:
        raise WeightsError(f"{reference}: its tokenizer names no end token (eos_token), at which an answer would stop")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if len(tokenizer) > config.vocab_size:
        raise WeightsError(f"{reference}: {len(tokenizer)} tokens, but a model of {config.vocab_size}")
    limit = getattr(config, "max_position_embeddings", tokenizer.model_max_length)
    tokenizer.model_max_length = min(tokenizer.model_max_length, limit)
    return tokenizer


def _restore_split(tokenizer: Any, path: str) -> None:
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return  # transformers knew the name, or the vocabulary is not a byte-level one
    from gguf import GGUFReader

    field = GGUFReader(path).get_field("tokenizer.ggml.pre")
    name = field.contents() if field is not None else None
    if name == "smollm":
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif name not in GPT2_SPLITS:
        raise WeightsError(
            f"{path} splits text in a way ({name!r}) that transformers does not know, so that its tokens would be wrong; "
            "put the tokenizer's own tokenizer.json and tokenizer_config.json next to it"
        )


def sliding_window(model: Any) -> int | None:
    """Tokens that the language model's attention reaches back, where that is limited."""
    config = model.config.text_config
    kinds: Iterable[str] = getattr(config, "layer_types", None) or ()
    limited = any("full" not in kind for kind in kinds) if kinds else getattr(config, "use_sliding_window", True)
    window = getattr(config, "sliding_window", None)
    return int(window) if limited and window else None
