"""One text → token ids, equal to those of open_clip's tokenizers and in a third to a quarter of their time.

open_clip makes padded tensors of lists of texts, looks for damage (ftfy) in every text, and joins the byte pairs of every word.
Here a text of plain ASCII, which ftfy leaves as it is, only has its white space joined; words that came before are looked up; and
transformers' tokenizers are asked without padding. A tokenizer that has no equal here is asked as it is.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

Encode = Callable[[str], list[int]]

PLAIN = re.compile(r"[\t\n\r -%'-~]*")
"""Printable ASCII and white space, without `&`, which begins HTML's characters: what no cleaning but of white space changes."""

MOST_WORDS = 2**16
"""Remembered by a process."""


def encoder_of(tokenizer: Any) -> Encode:
    """Text → the row that the tokenizer gives for it alone, some without the padding at its end."""
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, get_clean_fn

    clean = getattr(tokenizer, "clean_fn", None)
    if type(tokenizer) is SimpleTokenizer and clean is get_clean_fn("lower") and tokenizer.reduction_fn is None:
        return WordLookup(tokenizer)
    if type(tokenizer) is HFTokenizer and clean is get_clean_fn("whitespace") and is_simple(tokenizer):
        return Unpadded(tokenizer)
    return partial(row_of, tokenizer)


def row_of(tokenizer: Callable[..., Tensor], text: str) -> list[int]:
    """Any tokenizer's ids of a text, with their padding."""
    row: list[int] = tokenizer([text])[0].tolist()
    return row


def is_simple(tokenizer: Any) -> bool:
    """Whether a tokenizer of transformers is one of the `tokenizers` library, and pads at the end."""
    inner = tokenizer.tokenizer
    is_usual = not (
        tokenizer.tokenizer_mode or tokenizer.strip_sep_token or getattr(inner, "split_special_tokens", False)
    )
    sides = (inner.padding_side, inner.truncation_side)
    return bool(is_usual and inner.is_fast and sides == ("right", "right"))


def spaced(text: str, clean: Callable[[str], str]) -> str:
    """A text with single blanks, cleaned by `clean` unless it is plain."""
    return " ".join(text.split()) if PLAIN.fullmatch(text) else clean(text)


class WordLookup:
    """open_clip's own tokenizer: ids of words are remembered."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.ids_of_words: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        tokenizer, ids_of_words = self.tokenizer, self.ids_of_words
        ids = [tokenizer.sot_token_id]
        for word in tokenizer.pat.findall(spaced(text, tokenizer.clean_fn).lower()):
            word_ids = ids_of_words.get(word)
            if word_ids is None:
                if len(ids_of_words) >= MOST_WORDS:
                    ids_of_words.clear()
                symbols = "".join(tokenizer.byte_encoder[byte] for byte in word.encode("utf-8"))
                word_ids = [tokenizer.encoder[piece] for piece in tokenizer.bpe(symbols).split(" ")]
                ids_of_words[word] = word_ids
            ids += word_ids
        length = tokenizer.context_length
        ids = [*ids[: length - 1], tokenizer.eot_token_id]
        return ids + [0] * (length - len(ids))


class Unpadded:
    """A tokenizer of transformers, asked through its `tokenizers` object (a copy: padding and length are its state)."""

    def __init__(self, tokenizer: Any) -> None:
        self.clean, inner = tokenizer.clean_fn, tokenizer.tokenizer
        self.fast = type(inner.backend_tokenizer).from_str(inner.backend_tokenizer.to_str())
        self.fast.no_padding()
        self.fast.enable_truncation(tokenizer.context_length)

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self.fast.encode(spaced(text, self.clean)).ids
        return ids
