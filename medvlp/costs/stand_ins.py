"""Descriptions of published text towers and tokenizers, for plans where no hub is within reach: shapes alone are needed."""

import json
from pathlib import Path
from typing import Any

BERT_BASE = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 30522}
"""transformers' defaults are BERT-base's: 12 layers of width 768, 12 heads, 512 positions (Devlin 2019)."""
TEXT_TOWERS: dict[str, dict[str, Any]] = {
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": BERT_BASE,
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext": BERT_BASE,
}
"""Hub name → what its config.json says (Gu 2021: PubMedBERT has BERT-base's shape and a vocabulary of its own)."""


def text_tower(name: str, folder: Path) -> str:
    """A folder with the tower's description and a tokenizer without words, where the name is in the table; else the name."""
    if name not in TEXT_TOWERS:
        return name
    target = folder / name.rpartition("/")[2]
    target.mkdir()
    (target / "config.json").write_text(json.dumps(TEXT_TOWERS[name]))
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    (target / "vocab.txt").write_text("\n".join(words))
    special = {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    description = {"tokenizer_class": "BertTokenizer", "model_max_length": 512, **special}
    (target / "tokenizer_config.json").write_text(json.dumps(description))
    return str(target)


def named_architecture(name: str, folder: Path) -> str:
    """A file that describes an architecture of open_clip without the tokenizer that a hub has; the name where it has none."""
    import open_clip

    description = open_clip.get_model_config(name) if name in open_clip.list_models() else None
    text = (description or {}).get("text_cfg", {})
    if description is None or "hf_tokenizer_name" not in text or "hf_model_name" in text:
        return name
    text.pop("hf_tokenizer_name")
    text.pop("tokenizer_kwargs", None)
    path = folder / f"{name}-plan.json"
    path.write_text(json.dumps(description))
    return str(path)
