"""Models of strangers that try to run their code: folders, descriptions and checkpoints. What runs leaves a file behind."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from medvlp.config import as_dict, compose
from medvlp.models.weights import weights_hash
from tests.models.tiny import TINY, tiny_text_tower

CODE = """\
from pathlib import Path
Path({mark!r}).touch()
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

class PlantedConfig(BertConfig):
    model_type = {kind!r}

class PlantedModel(BertModel):
    config_class = PlantedConfig

class PlantedTokenizer(PreTrainedTokenizerFast):
    pass
"""


def planted_folder(folder: Path, mark: Path, kind: str = "planted") -> Path:
    """A text tower's folder whose configuration, model and tokenizer are said to be in planted.py.

    kind: `planted` is a type that transformers does not know, so that by itself it asks whether the code may run.
    """
    tiny_text_tower(folder)
    (folder / "planted.py").write_text(CODE.format(mark=str(mark), kind=kind))
    changes = {
        "config.json": {
            "model_type": kind,
            "auto_map": {"AutoConfig": "planted.PlantedConfig", "AutoModel": "planted.PlantedModel"},
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PlantedTokenizer",
            "auto_map": {"AutoTokenizer": ["planted.PlantedTokenizer", "planted.PlantedTokenizer"]},
        },
    }
    for name, change in changes.items():
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    return folder


def planted_description(folder: Path) -> dict[str, Any]:
    """open_clip's description of a model whose tokenizer is in a planted folder, with the argument that trusts it."""
    trusting = {"hf_tokenizer_name": str(folder), "tokenizer_kwargs": {"trust_remote_code": True}}
    return {**TINY, "text_cfg": {**TINY["text_cfg"], **trusting}}


def planted_open_clip_folder(folder: Path, mark: Path) -> Path:
    """An open_clip folder with code, as `local-dir:` opens it."""
    planted_folder(folder, mark)
    card = {"model_cfg": planted_description(folder), "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(card))
    save_file({"logit_scale": torch.zeros(())}, folder / "open_clip_model.safetensors")
    return folder


def planted_checkpoint(path: Path, words: list[str], **card: Any) -> Path:
    """A checkpoint without weights, with a description of one's own.

    words: the configuration that it states, as overrides of `medvlp train`.
    """
    config = as_dict(compose("train", words))
    state = {"logit_scale": torch.zeros(())}
    described = {"format": 1, "config": config, "tokenizer": {"name": "x", "sha256": ""}, **card}
    content = {
        "state_dict": state,
        "global_step": 1,
        "medvlp": {**described, "weights_sha256": weights_hash(state)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path
