"""From a sample to a training text and its tokens."""

import hashlib
from collections.abc import Sequence

import numpy as np

from medvlp.shards import BadSample, Sample


def texts_of(sample: Sample, fields: Sequence[str]) -> dict[str, str]:
    """Field → text of the fields that are named, in their order, without empty ones.

    `caption*` names `caption` and what is numbered after it, `caption_1`, `caption_2`, …: what templates and publishers
    with several captions an image give.
    """
    texts: dict[str, str] = {}
    for field in fields:
        names = _numbered(sample, field.removesuffix("*")) if field.endswith("*") else [field]
        texts |= {name: text for name in names if (text := sample.texts.get(name, "").strip())}
    return texts


def _numbered(sample: Sample, field: str) -> list[str]:
    numbers = [name.removeprefix(f"{field}_") for name in sample.texts if name.startswith(f"{field}_")]
    return [field, *(f"{field}_{n}" for n in sorted((n for n in numbers if n.isdecimal()), key=lambda n: (len(n), n)))]


def choose_text(sample: Sample, fields: Sequence[str], rng: np.random.Generator) -> str:
    """One of the sample's texts; drawn where it has several of the named fields (see `texts_of`).

    Raises:
        BadSample: `empty_caption` where none of the fields holds a text.
    """
    present = list(texts_of(sample, fields).values())
    if not present:
        raise BadSample("empty_caption", key=sample.key, detail=f"no text in {list(fields)}")
    return present[int(rng.integers(len(present)))] if len(present) > 1 else present[0]


def text_id(text: str) -> int:
    """A 63-bit number that is equal for equal texts, apart from letter case and white space."""
    folded = " ".join(text.lower().split())
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "little") >> 1
