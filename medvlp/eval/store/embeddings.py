"""Embeddings of images and texts in a store: .npy in float32, memory-mapped.

Legend: N items, D embedding width.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.config import CacheConfig
from medvlp.data.images.decode import VERSION
from medvlp.eval.store.folder import IMAGES, TEXTS, Entry, StoreFolder
from medvlp.eval.store.root import store_root
from medvlp.shards import ShardDataset

LIBRARIES = (
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "open_clip_torch",
    "timm",
    "transformers",
    "tokenizers",
    "sentencepiece",
)
"""Whose versions are part of an entry's key: they decode, resize, tokenize and encode."""
ANSWERING = (*LIBRARIES, "jinja2", "gguf", "peft", "accelerate", "bitsandbytes")
"""Whose versions are part of an answer's key."""
EMBEDDINGS_FORMAT = 2
"""Of embeddings that are kept: raised where our own code encodes the same image or text in another way (padding, truncation,
the tokenizer's wrapper, pooling, folded batch norms)."""
OF_THE_CONTENT = frozenset(
    {"no_image", "undecodable_image", "too_many_pixels", "extreme_aspect", "several_frames", "deep_colour"}
)
"""Reasons of bad samples that the sample's bytes decide. Others, such as a missing shard, may be gone tomorrow: what was
computed with such a gap is not stored."""


class EmbeddingStore:
    """Embeddings in a `StoreFolder`, by what they depend on."""

    def __init__(self, folder: StoreFolder) -> None:
        self.folder = folder

    def images(self, parts: dict[str, Any], keys: Sequence[str]) -> tuple[Tensor, dict[str, str]] | None:
        """(embeddings_ND of the readable samples in order, key → reason of the others), or None.

        Args:
            parts: `image_parts`.
            keys: of all samples, in order.
        """
        entry = self.folder.find(parts)
        if entry is None:
            return None
        with suppress(OSError):  # another process has removed it since
            samples = json.loads((entry.path / "samples.json").read_bytes())
            bad: dict[str, str] = samples["bad"]
            if samples["keys"] != [key for key in keys if key not in bad]:
                return None
            embeddings_ND = _mapped(entry, len(samples["keys"]))
            return None if embeddings_ND is None else (embeddings_ND, bad)
        return None

    def publish_images(
        self, parts: dict[str, Any], dataset: ShardDataset, embeddings_ND: Tensor, bad: dict[str, str]
    ) -> None:
        """Store what `images` gives, unless what made a sample bad may pass."""
        if not set(bad.values()) <= OF_THE_CONTENT:
            return
        keys = [key for key in dataset.keys if key not in bad]
        samples = json.dumps({"keys": keys, "bad": bad}).encode()
        notes = {"data": str(dataset.folder), "images": len(keys)}
        self._publish(parts, embeddings_ND, notes, samples)

    def texts(self, parts: dict[str, Any], count: int) -> Tensor | None:
        """embeddings_ND, or None; parts: `text_parts`."""
        entry = self.folder.find(parts)
        with suppress(OSError):  # as above
            return None if entry is None else _mapped(entry, count)
        return None

    def publish_texts(self, parts: dict[str, Any], embeddings_ND: Tensor) -> None:
        """Store what `texts` gives."""
        self._publish(parts, embeddings_ND, {"texts": len(embeddings_ND)})

    def _publish(
        self, parts: dict[str, Any], embeddings_ND: Tensor, notes: dict[str, Any], samples: bytes | None = None
    ) -> None:
        array_ND = embeddings_ND.contiguous().numpy()
        if array_ND.dtype != np.float32:
            raise ValueError(f"embeddings are {array_ND.dtype}, expected float32")
        files = {"embeddings.npy": lambda file: np.save(file, array_ND, allow_pickle=False)}
        if samples is not None:
            files["samples.json"] = lambda file: file.write(samples)
        self.folder.publish(parts, files, notes)


def embedding_store(config: CacheConfig) -> EmbeddingStore | None:
    """The store that a configuration names; None where embeddings are not kept, or its folder cannot be made.

    Raises:
        StoreError: the folder holds other things.
    """
    root = store_root(config) if config.max_bytes else None
    return EmbeddingStore(StoreFolder(root, config.max_bytes)) if root else None


def image_parts(identity: str, execution: str, batch_size: int, max_pixels: int, manifest_hash: str) -> dict[str, Any]:
    """What the embeddings of a dataset's images depend on, or may to the last bit.

    Args:
        identity: the encoder's: weights, architecture, preprocessing, tokenizer.
        execution: kind of device and dtype.
    """
    return {
        "kind": IMAGES,
        "format": EMBEDDINGS_FORMAT,
        "encoder": identity,
        "execution": execution,
        "batch_size": batch_size,
        "data": manifest_hash,
        "max_pixels": max_pixels,
        "decoding": VERSION,
        "versions": versions(),
    }


def text_parts(identity: str, execution: str, batch_size: int, texts: Sequence[str]) -> dict[str, Any]:
    """What the embeddings of a list of texts depend on; arguments as of `image_parts`."""
    texts_sha256 = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
    return {
        "kind": TEXTS,
        "format": EMBEDDINGS_FORMAT,
        "encoder": identity,
        "execution": execution,
        "batch_size": batch_size,
        "texts": texts_sha256,
        "versions": versions(),
    }


@cache
def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Version of each library; empty for what is not installed."""
    return {name: _version(name) for name in libraries}


def rules_and_versions() -> dict[str, str]:
    """`versions`, and the version of the rules by which images are decoded."""
    return versions() | {"decoding": str(VERSION)}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _mapped(entry: Entry, count: int) -> Tensor | None:
    # Copied where written to: PyTorch has no tensors that may only be read.
    array_ND = np.load(entry.path / "embeddings.npy", mmap_mode="c", allow_pickle=False)
    return torch.from_numpy(array_ND) if array_ND.dtype == np.float32 and len(array_ND) == count else None
