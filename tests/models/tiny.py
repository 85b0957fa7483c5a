"""A CLIP model small enough for every test."""

import json
from pathlib import Path
from typing import Any

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def tiny_architecture(folder: Path, custom_text: bool = False) -> Path:
    """The architecture as a file in open_clip's format; with `custom_text` it builds a CustomTextCLIP."""
    path = folder / ("tiny-custom.json" if custom_text else "tiny-clip.json")
    path.write_text(json.dumps({**TINY, "custom_text": custom_text}))
    return path


def tiny_text_tower(folder: Path, kind: str = "bert", **options: Any) -> Path:
    """A text tower of transformers with random weights, two layers and a word-level tokenizer, as a published folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz", "long", "chest", "finding", "kind"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = CONFIG_MAPPING[kind](
        **{**sizes, "vocab_size": 64, "max_position_embeddings": 96, "pad_token_id": 0, **options}
    )
    AutoModel.from_config(config).save_pretrained(folder)
    return folder
