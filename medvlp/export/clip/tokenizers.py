"""What turns text into a CLIP's ids, as a tokenizer of transformers."""

import string
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Regex, normalizers
from transformers import AutoTokenizer, CLIPTokenizer, PreTrainedTokenizerFast

from medvlp.models.clip.model import Clip
from medvlp.models.clip.text_tower import TOKENIZER_FILES

START, END = "<|startoftext|>", "<|endoftext|>"
PUNCTUATION = "".join(f"\\{mark}" for mark in string.punctuation)
REPAIRS: list[Any] = [
    normalizers.NFC(),
    normalizers.Replace(Regex("[\u02bc\u2018-\u201b]"), "'"),
    normalizers.Replace(Regex("[\u201c-\u201f]"), '"'),
    *(
        normalizers.Replace(chr(0xFB00 + number), letters)
        for number, letters in enumerate(("ff", "fi", "fl", "ffi", "ffl"))
    ),
]
"""What ftfy does to captions of articles: straight quotes, and letters for ligatures."""
SPACE: list[Any] = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
CLEANING: dict[str, list[Any]] = {
    "whitespace": [*REPAIRS, *SPACE],
    "lower": [*REPAIRS, *SPACE, normalizers.Lowercase()],
    "canonicalize": [
        *REPAIRS,
        normalizers.Replace("_", " "),
        normalizers.Replace(Regex(f"[{PUNCTUATION}]"), ""),
        normalizers.Lowercase(),
        *SPACE,
    ],
}
"""open_clip's name of a cleaning → that of it which a tokenizer can do: it repairs no broken encodings and no HTML entities."""


def stock_tokenizer(clip: Clip) -> Any:
    """A tokenizer of transformers that gives a CLIP's ids for texts without broken encodings and HTML entities, cut off where
    the CLIP cuts them."""
    text_cfg = clip.model_cfg["text_cfg"]
    is_published = bool(text_cfg.get("hf_tokenizer_name"))
    tokenizer = published_tokenizer(clip.text_files) if is_published else own_tokenizer(clip.tokenizer)
    cleaning = (text_cfg.get("tokenizer_kwargs") or {}).get("clean") or ("whitespace" if is_published else "lower")
    tokenizer = with_normalizers(tokenizer, CLEANING[cleaning], keeps_former=is_published)
    # What is saved are the arguments that it was made with.
    length = int(text_cfg.get("context_length") or 77)
    tokenizer.model_max_length = tokenizer.init_kwargs["model_max_length"] = length
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def with_normalizers(tokenizer: Any, cleaning: Sequence[Any], keeps_former: bool) -> PreTrainedTokenizerFast:
    """A tokenizer that cleans first, in the class that keeps what its tokenizer.json says: others build their own again.

    keeps_former: whether its own normalizer comes after.
    """
    backend = tokenizer.backend_tokenizer
    former = [backend.normalizer] if backend.normalizer and keeps_former else []
    backend.normalizer = normalizers.Sequence([*cleaning, *former])
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=list(tokenizer.model_input_names), padding_side="right", **special
    )


def own_tokenizer(tokenizer: Any) -> CLIPTokenizer:
    """open_clip's byte pairs as transformers' CLIPTokenizer: its merges and ids, its two control tokens by other names."""
    names = {tokenizer.decoder[tokenizer.sot_token_id]: START, tokenizer.decoder[tokenizer.eot_token_id]: END}
    vocabulary = {names.get(token, token): number for token, number in tokenizer.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(tokenizer.bpe_ranks))


def published_tokenizer(files: dict[str, str]) -> Any:
    """The tokenizer in a text tower's files."""
    with TemporaryDirectory() as folder:
        for name in TOKENIZER_FILES:
            if name in files:
                (Path(folder) / name).write_text(files[name], encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
