"""From a sample to a training text and its tokens."""

import hashlib
from collections.abc import Sequence

import numpy as np

from medvlp.shards import BadSample, Sample


def choose_text(sample: Sample, fields: Sequence[str], rng: np.random.Generator) -> str:
    """One of the sample's texts; drawn where it has several of the named fields.

    Raises:
        BadSample: `empty_caption` where none of the fields holds a text.
    """
    present = [text for field in fields if (text := sample.texts.get(field, "").strip())]
    if not present:
        raise BadSample("empty_caption", key=sample.key, detail=f"no text in {list(fields)}")
    return present[int(rng.integers(len(present)))] if len(present) > 1 else present[0]


def text_id(text: str) -> int:
    """A 63-bit number that is equal for equal texts, apart from letter case and white space."""
    folded = " ".join(text.lower().split())
    return int.from_bytes(hashlib.blake2b(folded.encode(), digest_size=8).digest(), "little") >> 1
