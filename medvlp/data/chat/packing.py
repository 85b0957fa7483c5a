"""Packing: several conversations in one sequence, exactly as if each stood alone.

A row of a batch holds documents. A document is one conversation, or a prefix tree: all the questions of one image behind
one shared prefix (the image with what stands before it). Its branches see the prefix and themselves, and their positions
go on from it. Masks are made from two numbers a token, its document and its branch.

R: rows of a batch; L: tokens of its longest row; T: supervised tokens; M: image tokens; N: images; P: tokens an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medvlp.data.batch import Batch, sample_fields
from medvlp.data.chat.encoder import ChatEncoder, Encoded
from medvlp.data.images.feature_cache import Pictures
from medvlp.shards import Sample

Indices = NDArray[np.int64]
PADDING = -1
"""The document of tokens that fill up a row."""


@dataclass(frozen=True)
class Document:
    """Conversations about the same images as one run of tokens. L: its tokens; T: supervised ones; M: image tokens."""

    ids_L: Indices
    positions_L: Indices
    branches_L: Indices
    """0 for the shared prefix, then 1, 2, ...; all 0 for a conversation that shares nothing."""
    logit_positions_T: Indices
    """Of the token whose output predicts a supervised one; it may do so for several branches."""
    targets_T: Indices
    conversation_T: Indices
    image_token_positions_M: Indices
    feature_indices_M: Indices
    """Which of the images' features, counted through all of them, an image token stands for."""


def shared_prefix(conversations: Sequence[Encoded]) -> int:
    """Tokens that all have in common, up to the first supervised one of any; 0 for a single conversation."""
    if len(conversations) < 2:
        return 0
    first = conversations[0]
    length = min(int(np.argmax(conversation.supervised)) for conversation in conversations)
    for conversation in conversations[1:]:
        differences = np.flatnonzero(first.ids[:length] != conversation.ids[:length])
        length = int(differences[0]) if len(differences) else length
    return length


def lay_out(conversations: Sequence[Encoded], image_id: int) -> Document:
    """One document; of several conversations, a prefix tree."""
    prefix = shared_prefix(conversations)
    is_tree = len(conversations) > 1
    first = conversations[0].ids[:prefix]
    prefix_images = np.flatnonzero(first == image_id)
    ids, positions, branches = [first], [np.arange(prefix)], [np.zeros(prefix, np.int64)]
    logit_positions, targets, conversation_T = [], [], []
    image_positions, feature_indices = [prefix_images], [np.arange(len(prefix_images))]
    begin = prefix
    for number, conversation in enumerate(conversations):
        suffix = conversation.ids[prefix:]
        ids.append(suffix)
        positions.append(np.arange(prefix, prefix + len(suffix)))
        branches.append(np.full(len(suffix), number + 1 if is_tree else 0))
        supervised = np.flatnonzero(conversation.supervised)
        previous = supervised - 1
        logit_positions.append(np.where(previous < prefix, previous, previous - prefix + begin))
        targets.append(conversation.ids[supervised])
        conversation_T.append(np.full(len(supervised), number))
        suffix_images = np.flatnonzero(suffix == image_id)
        image_positions.append(suffix_images + begin)
        feature_indices.append(np.arange(len(suffix_images)) + len(prefix_images))
        begin += len(suffix)
    columns = (ids, positions, branches, logit_positions, targets, conversation_T, image_positions, feature_indices)
    return Document(*(np.concatenate(arrays).astype(np.int64) for arrays in columns))


@dataclass(kw_only=True)
class PackedBatch(Batch):
    """Rows of packed conversations, with the images that they are about."""

    ids_RL: Tensor
    """int64."""
    token_positions_RL: Tensor
    """int64, of each token in its conversation."""
    documents_RL: Tensor
    """int64, `PADDING` for tokens that fill up a row."""
    branches_RL: Tensor
    """int64, as in `Document`."""
    is_causal: bool
    """A causal mask alone keeps all apart: each row is one conversation."""
    logit_positions_T: Tensor
    """int64, positions in the flattened (R·L)."""
    targets_T: Tensor
    """int64."""
    weights_T: Tensor
    """float32; their sum over all batches of a step is 1."""
    images_N: Tensor | None
    """float32 pixels (N, 3, S, S), or features (N, P, D); None where the batch has no image."""
    image_token_positions_M: Tensor
    """int64, positions in the flattened (R·L)."""
    feature_indices_M: Tensor
    """int64, positions in the flattened (N·P)."""
    conversations: int
    """How many the rows hold."""


@dataclass
class PrepareConversations:
    """Sample → tokens of its conversations and its images' pixels (or features, where they are cached)."""

    encoder: ChatEncoder
    pictures: Pictures

    def __call__(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        """conversations: list of Encoded; images: (n, 3, S, S) pixels or (n, P, D) features."""
        images = self.pictures(sample)
        return {
            "conversations": [
                self.encoder.encode(conversation.turns, len(images)) for conversation in sample.conversations
            ],
            "images": images,
        }


@dataclass
class CollateConversations:
    """Units, each the samples of one row, → a batch.

    Args:
        pad_id: fills up rows.
        image_id: the image token.
        image_tokens: P.
        tree: lay a sample's conversations out as a prefix tree; otherwise one after the other.
        weighting: see `PackPlan`.
        flat: one row without padding, for attention that takes lengths of documents and no mask.
    """

    pad_id: int
    image_id: int
    image_tokens: int
    tree: bool
    weighting: str
    flat: bool = False

    def __call__(self, units: list[dict[str, Any]]) -> PackedBatch:
        items = [item for unit in units for item in unit["items"]]
        rows: list[list[tuple[Document, int]]] = []
        first_image = 0
        for unit in units:
            rows += [] if self.flat and rows else [[]]
            for item in unit["items"]:
                groups = (
                    [item["conversations"]] if self.tree else [[conversation] for conversation in item["conversations"]]
                )
                rows[-1] += [(lay_out(group, self.image_id), first_image) for group in groups]
                first_image += len(item["images"])
        images = [item["images"] for item in items if len(item["images"])]
        return PackedBatch(
            **sample_fields(units),
            **self._tensors(rows, units[0]["total"]),
            images_N=torch.cat(images) if images else None,
            conversations=sum(len(item["conversations"]) for item in items),
        )

    def _tensors(self, rows: list[list[tuple[Document, int]]], total: float) -> dict[str, Any]:
        longest = max(1, *(sum(len(document.ids_L) for document, _ in row) for row in rows))
        shape = (len(rows), longest)
        ids_RL, documents_RL = np.full(shape, self.pad_id), np.full(shape, PADDING)
        positions_RL, branches_RL = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        empty = np.empty(0, np.int64)
        logit_positions, targets, image_positions, feature_indices = [empty], [empty], [empty], [empty]
        weights: list[NDArray[np.float64]] = [np.empty(0)]
        for number, row in enumerate(rows):
            begin = 0
            for order, (document, first_image) in enumerate(row):
                span = slice(begin, begin + len(document.ids_L))
                ids_RL[number, span], positions_RL[number, span] = document.ids_L, document.positions_L
                branches_RL[number, span], documents_RL[number, span] = document.branches_L, order
                offset = number * longest + begin
                logit_positions.append(document.logit_positions_T + offset)
                targets.append(document.targets_T)
                image_positions.append(document.image_token_positions_M + offset)
                feature_indices.append(document.feature_indices_M + first_image * self.image_tokens)
                weights.append(self._weights(document) / total)
                begin = span.stop
            next_position = positions_RL[number, begin - 1] + 1 if begin else 0
            positions_RL[number, begin:] = np.arange(longest - begin) + next_position
        return {
            "ids_RL": torch.from_numpy(ids_RL),
            "token_positions_RL": torch.from_numpy(positions_RL),
            "documents_RL": torch.from_numpy(documents_RL),
            "branches_RL": torch.from_numpy(branches_RL),
            "is_causal": all(len(row) <= 1 for row in rows) and not branches_RL.any(),
            "logit_positions_T": torch.from_numpy(np.concatenate(logit_positions)),
            "targets_T": torch.from_numpy(np.concatenate(targets)),
            "weights_T": torch.from_numpy(np.concatenate(weights)).float(),
            "image_token_positions_M": torch.from_numpy(np.concatenate(image_positions)),
            "feature_indices_M": torch.from_numpy(np.concatenate(feature_indices)),
        }

    def _weights(self, document: Document) -> NDArray[np.float64]:
        if self.weighting == "token":
            return np.ones(len(document.targets_T))
        return 1.0 / np.bincount(document.conversation_T)[document.conversation_T]
