"""Kinds of transformers' models, told by config.json alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.models.hf.folders import read_json, refuse_code
from medvlp.models.weights import DAMAGE, WeightsError, reason

ENCODER, TEXTS, CHAT, CAUSAL = "encoder", "texts", "chat", "causal"
TITLES = {
    ENCODER: "a CLIP-like model",
    TEXTS: "an encoder of texts",
    CHAT: "a model of images and text",
    CAUSAL: "a language model",
}
CHAT_FAMILIES = {
    *("llava", "llava_next", "llava_onevision", "fast_vlm", "internvl", "paligemma", "gemma3", "mllama"),
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "smolvlm"),
}
"""Families whose answers and likelihoods tests compare with transformers' own, one prompt at a time."""
ENCODER_FAMILIES = {
    *("clip", "siglip", "siglip2", "altclip", "chinese_clip", "align", "metaclip_2", "vision-text-dual-encoder"),
}
"""Families whose embeddings tests compare with transformers' own, one item at a time."""
TEXT_FAMILIES = {"bert", "distilbert", "mpnet", "roberta", "xlm-roberta"}
"""Families of encoders of texts, such as sentence-transformers publishes; tests compare them with transformers' own."""


@dataclass(frozen=True)
class HfKind:
    """What a folder of transformers holds.

    kind: encoder, texts, chat or causal. family: its model_type. tested: whether tests compare the family with transformers.
    """

    kind: str
    family: str

    @property
    def tested(self) -> bool:
        """Whether tests compare the family's results with transformers' own."""
        families = {ENCODER: ENCODER_FAMILIES, TEXTS: TEXT_FAMILIES, CHAT: CHAT_FAMILIES}
        return self.kind == CAUSAL or self.family in families[self.kind]


def kind_of(folder: Path, reference: str, gguf: str = "") -> HfKind:
    """What the folder's config.json describes; no weights are read.

    Raises:
        WeightsError: code of its own, a kind that cannot be measured, or a description that makes no sense.
    """
    if gguf:
        return HfKind(CAUSAL, "gguf")
    refuse_code(folder, reference)
    description = read_json(folder / "config.json")
    family = str(description.get("model_type", ""))
    names = description.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else ""
    kind = _kind(family, architecture)
    config = load_config(folder, reference) if kind else None
    if kind and getattr(config, "is_encoder_decoder", False):
        kind = ""
    if not kind:
        raise WeightsError(
            f"hf:{reference} is a {family or 'model without model_type'} ({architecture or 'no architecture named'}), which no "
            f"task can measure. What can be measured: CLIP-like models (with get_image_features and get_text_features), encoders "
            f"of texts ({', '.join(sorted(TEXT_FAMILIES))}), models of images and text (AutoModelForImageTextToText) that go on "
            f"from a prompt, and language models (AutoModelForCausalLM), all of transformers' own classes"
        )
    return HfKind(kind, family)


def _kind(family: str, architecture: str) -> str:
    """The kind of an architecture, or of a family whose file names none; "" where there is none."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    chat = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    base = auto.MODEL_MAPPING_NAMES.get(family, "")
    if architecture == chat.get(family) or (not architecture and family in chat):
        return CHAT
    if isinstance(base, str) and architecture in ("", base):
        model_class: Any = getattr(transformers, base, None) if base else None
        if all(hasattr(model_class, name) for name in ("get_image_features", "get_text_features")):
            return ENCODER
        if family in TEXT_FAMILIES and architecture:
            return TEXTS
    is_causal = architecture.endswith(("ForCausalLM", "LMHeadModel")) if architecture else True
    return CAUSAL if family in causal and is_causal else ""


def load_config(folder: Path, reference: str) -> Any:
    """transformers' configuration of the folder. Raises WeightsError."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except DAMAGE as error:
        raise WeightsError(f"hf:{reference}: config.json cannot be understood ({reason(error)})") from None
