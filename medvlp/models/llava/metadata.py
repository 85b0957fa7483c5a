"""An assistant in a checkpoint's metadata: all of it but its weights, as plain values."""

import importlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlp.models.descriptions import (
    assistant_description,
    checked,
    only,
    plain,
    tokenizer_files,
)
from medvlp.models.llava.model import KINDS, Assistant, add_lora, projector
from medvlp.models.towers import MODEL_TYPES
from medvlp.models.towers.processors import described_processor
from medvlp.models.towers.reduce import Reduce
from medvlp.models.weights import relocatable

SETTINGS = {
    "image_tokens": int,
    "patch_size": int,
    "extra_tokens": int,
    "reduce": {"kind": ("average_pool", "pixel_shuffle"), "factor": int},
    "lora": {"rank": int, "alpha": int, "dropout": float, "targets": [str]},
}
"""Key of the metadata → what may stand there, as in `descriptions`."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def metadata_of(assistant: Assistant) -> dict[str, Any]:
    """What a checkpoint holds of an assistant."""
    with tempfile.TemporaryDirectory() as folder:
        assistant.tokenizer.save_pretrained(folder)
        files = {n: (Path(folder) / n).read_text("utf-8") for n in TOKENIZER_FILES if (Path(folder) / n).is_file()}
    config = json.loads(assistant.model.config.to_json_string(use_diff=False))
    config["text_config"].pop("quantization_config", None)  # a checkpoint holds plain weights
    return {
        "kind": assistant.kind,
        "model_config": config,
        "generation_config": assistant.model.generation_config.to_dict(),
        "tokenizer_files": files,
        "processor": json.loads(assistant.processor.to_json_string()),
        "image_tokens": assistant.image_tokens,
        "patch_size": assistant.patch_size,
        "extra_tokens": assistant.extra_tokens,
        "names": {part: {**name, "name": relocatable(name["name"])} for part, name in assistant.names.items()},
        "reduce": assistant.reduce,
        "lora": assistant.lora,
    }


def from_metadata(metadata: Mapping[str, Any]) -> Assistant:
    """The assistant that a checkpoint's metadata describe, its weights not yet loaded. Only what is known is passed on.

    Raises:
        WeightsError: a description that is not an assistant's.
    """
    import transformers

    origin = "its description"
    kind = checked(metadata["kind"], tuple(KINDS), origin, "kind")
    for module in set(MODEL_TYPES.values()):
        importlib.import_module(module)
    config = assistant_description(metadata["model_config"], kind, tuple(MODEL_TYPES), f"{origin}: model_config")
    config_class = transformers.LlavaConfig if kind == "llava" else transformers.FastVlmConfig
    model: Any = getattr(transformers, KINDS[kind])(config_class.from_dict(config))
    ends = only(
        metadata["generation_config"], ("bos_token_id", "eos_token_id", "pad_token_id"), f"{origin}: generation_config"
    )
    model.generation_config = transformers.GenerationConfig.from_dict(ends)
    settings = {key: checked(metadata[key], rule, origin, key) for key, rule in SETTINGS.items()}
    if settings["reduce"]:
        reduce = Reduce(**settings["reduce"])
        model.model.multi_modal_projector = projector(model, model.config.vision_config.hidden_size, reduce)
    files = tokenizer_files(metadata["tokenizer_files"], TOKENIZER_FILES, origin)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    assistant = Assistant(
        model,
        kind,
        tokenizer,
        described_processor(metadata["processor"], f"{origin}: processor"),
        settings["image_tokens"],
        settings["patch_size"],
        settings["extra_tokens"],
        plain(metadata["names"], origin),
        settings["reduce"],
        {},
    )
    return add_lora(assistant, **settings["lora"]) if settings["lora"] else assistant
