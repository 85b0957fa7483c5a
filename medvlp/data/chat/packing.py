"""Several conversations in one sequence, exactly as if each stood alone.

A row of a batch holds documents. A document is one conversation, or all the questions of one image behind one shared
beginning (the image with what stands before it): a tree whose branches see the beginning and themselves, and whose
positions go on from it. Masks are made from two numbers a token, its document and its branch.

R: rows of a batch; L: tokens of its longest row; T: supervised tokens; M: image tokens; N: images; P: tokens an image.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medvlp.data.chat.encoder import ChatEncoder, Encoded
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.images import Pictures
from medvlp.data.order import Order
from medvlp.data.plan import Pack
from medvlp.shards import Sample

Indices = NDArray[np.int64]
PADDING = -1
"""The document of tokens that fill up a row."""


class PackPlan:
    """Divides a step's examples evenly by tokens among its batches, and packs each batch's into rows.

    What a step holds, and so its loss, is the same for any number of batches and with packing on or off.

    Args:
        order: of the examples of all sources.
        sources: the examples, in the order's sequence.
        max_length: tokens of a row.
        packed: let examples share rows; otherwise each has its own.
        weighting: "token": every supervised token of a step counts the same; "sample": every conversation does.
    """

    def __init__(
        self, order: Order, sources: Sequence[Examples], max_length: int, packed: bool, weighting: str
    ) -> None:
        self.order, self.max_length, self.packed = order, max_length, packed
        self.lengths = np.concatenate([source.lengths for source in sources])
        counts = [source.supervised if weighting == "token" else source.conversations for source in sources]
        self.counts = np.concatenate(counts)

    def __len__(self) -> int:
        return len(self.order)

    def epoch(self, number: int) -> Indices:
        return self.order.epoch(number)

    def longest_step(self, size: int) -> int:
        numbers = self.epoch(0)
        lengths = self.lengths[numbers[: len(numbers) // size * size]].reshape(-1, size)
        return int((lengths.sum(axis=1) if self.packed else lengths.max(axis=1)).argmax())

    def total(self, numbers: Indices) -> float:
        return float(self.counts[numbers].sum())

    def divide(self, numbers: Indices, batches: int) -> list[list[Pack]]:
        lengths = self.lengths[numbers].tolist()
        room = -(-len(numbers) // batches) if not self.packed else len(numbers)
        longest_first = np.argsort(-self.lengths[numbers], kind="stable").tolist()
        shares = spread(longest_first, lengths, batches, room)
        return [self._rows(share, lengths) if self.packed else [(p,) for p in sorted(share)] for share in shares]

    def _rows(self, places: list[int], lengths: list[int]) -> list[Pack]:
        """The rows with the fewest positions, all being filled up to the longest; of equally few the shortest rows.

        First fit gives a number of rows, from which on up to twice as many are tried, evenly filled.
        """
        best = first_fit(places, lengths, self.max_length)
        fewest = len(best)
        for count in range(fewest, min(2 * fewest, len(places)) + 1):
            rows = spread(places, lengths, count, len(places))
            longest = _longest(rows, lengths)
            if longest <= self.max_length and count * longest <= len(best) * _longest(best, lengths):
                best = rows
        return [tuple(row) for row in best]


def spread(places: list[int], lengths: list[int], shares: int, room: int) -> list[list[int]]:
    """Graham's rule: the longest that is left goes to the share that has least, if it has fewer than `room` places.

    places: longest first.
    """
    given: list[list[int]] = [[] for _ in range(shares)]
    loads = [(0, share) for share in range(shares)]
    for place in places:
        load, share = heapq.heappop(loads)
        given[share].append(place)
        if len(given[share]) < room:
            heapq.heappush(loads, (load + lengths[place], share))
    return given


def first_fit(places: list[int], lengths: list[int], max_length: int) -> list[list[int]]:
    """First fit, longest first (Johnson 1973): at most 11/9 of the fewest rows possible, and one."""
    rows: list[list[int]] = []
    space: list[int] = []
    for place in places:
        row = next((i for i, left in enumerate(space) if left >= lengths[place]), len(rows))
        if row == len(rows):
            rows.append([])
            space.append(max_length)
        rows[row].append(place)
        space[row] -= lengths[place]
    return rows


def _longest(rows: list[list[int]], lengths: list[int]) -> int:
    return max((sum(lengths[place] for place in row) for row in rows), default=0)


@dataclass(frozen=True)
class Document:
    """Conversations about the same images as one run of tokens. L: its tokens; T: supervised ones; M: image tokens."""

    ids_L: Indices
    positions_L: Indices
    branches_L: Indices
    """0 for the shared beginning, then 1, 2, ...; all 0 for a conversation of its own."""
    predictors_T: Indices
    """Where the token stands whose output predicts a supervised one; it may do so for several branches."""
    targets_T: Indices
    conversation_T: Indices
    slots_M: Indices
    """Where image tokens stand."""
    features_M: Indices
    """Which of the images' tokens, counted through all of them, belongs there."""


def shared_beginning(conversations: Sequence[Encoded]) -> int:
    """Tokens that all have in common, up to the first supervised one of any; 0 for a single conversation."""
    if len(conversations) < 2:
        return 0
    first = conversations[0]
    common = min(int(np.argmax(one.supervised)) for one in conversations)
    for other in conversations[1:]:
        differing = np.flatnonzero(first.ids[:common] != other.ids[:common])
        common = int(differing[0]) if len(differing) else common
    return common


def lay_out(conversations: Sequence[Encoded], image_id: int) -> Document:
    """One document; with several conversations, a tree."""
    shared = shared_beginning(conversations)
    first = conversations[0]
    alone = len(conversations) == 1
    ids, positions, branches = [first.ids[:shared]], [np.arange(shared)], [np.zeros(shared, np.int64)]
    predictors, targets, owners = [], [], []
    slots, features = (
        [np.flatnonzero(first.ids[:shared] == image_id)],
        [np.arange((first.ids[:shared] == image_id).sum())],
    )
    begin = shared
    for number, one in enumerate(conversations):
        length = len(one.ids)
        ids.append(one.ids[shared:])
        positions.append(np.arange(shared, length))
        branches.append(np.full(length - shared, 0 if alone else number + 1))
        supervised = np.flatnonzero(one.supervised)
        before = supervised - 1
        predictors.append(np.where(before < shared, before, before - shared + begin))
        targets.append(one.ids[supervised])
        owners.append(np.full(len(supervised), number))
        is_image = one.ids == image_id
        tail = np.flatnonzero(is_image[shared:])
        slots.append(tail + begin)
        features.append(np.arange(len(tail)) + int(is_image[:shared].sum()))
        begin += length - shared
    joined = (ids, positions, branches, predictors, targets, owners, slots, features)
    return Document(*(np.concatenate(arrays).astype(np.int64) for arrays in joined))


@dataclass
class PrepareConversations:
    """Sample → tokens of its conversations and its images' pixels (or features, where they are cached)."""

    encoder: ChatEncoder
    pictures: Pictures

    def __call__(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        """conversations: list of Encoded; images: (n, 3, S, S) pixels or (n, P, D) features."""
        images = self.pictures(sample)
        return {
            "conversations": [self.encoder.encode(one.turns, len(images)) for one in sample.conversations],
            "images": images,
        }


@dataclass
class CollateConversations:
    """Units, each the samples of one row, → a batch.

    Args:
        pad_id: fills up rows.
        image_id: the image token.
        image_tokens: P.
        tree: lay a sample's conversations out behind one beginning; otherwise one after the other.
        weighting: see `PackPlan`.
        flat: one row without padding, for attention that takes lengths of documents and no mask.

    Returns: {"keys", "positions", "bad"} and
        ids, token_positions, documents, branches: int64 (R, L);
        plain: whether a causal mask alone keeps all apart (each row one conversation);
        predictors, targets: int64 (T,), predictors as places in the flattened (R·L); weights: float32 (T,), whose sum
        over all batches of a step is 1;
        images: float32 (N, 3, S, S) or (N, P, D), None where the batch has none;
        slots, features: int64 (M,), places in the flattened (R·L) and in the flattened (N·P).
    """

    pad_id: int
    image_id: int
    image_tokens: int
    tree: bool
    weighting: str
    flat: bool = False

    def __call__(self, units: list[dict[str, Any]]) -> dict[str, Any]:
        items = [item for unit in units for item in unit["items"]]
        total = units[0]["total"]
        rows: list[list[tuple[Document, int]]] = []
        images: list[torch.Tensor] = []
        for unit in units:
            rows += [] if self.flat and rows else [[]]
            for item in unit["items"]:
                first_image = sum(map(len, images))
                images += [item["images"]] if len(item["images"]) else []
                groups = [item["conversations"]] if self.tree else [[one] for one in item["conversations"]]
                rows[-1] += [(lay_out(group, self.image_id), first_image) for group in groups]
        found = [group for group in images if len(group)]
        return {
            "keys": [item["key"] for item in items],
            "positions": [item["position"] for item in items],
            "bad": [problem for unit in units for problem in unit["bad"]],
            "conversations": sum(len(item["conversations"]) for item in items),
            "images": torch.cat(found) if found else None,
            **self._tensors(rows, total),
        }

    def _tensors(self, rows: list[list[tuple[Document, int]]], total: float) -> dict[str, Any]:
        longest = max(1, *(sum(len(document.ids_L) for document, _ in row) for row in rows))
        shape = (len(rows), longest)
        ids, documents = np.full(shape, self.pad_id), np.full(shape, PADDING)
        positions, branches = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        tokens: dict[str, list[Indices]] = {name: [np.empty(0, np.int64)] for name in ("p", "t", "s", "f")}
        weights: list[NDArray[np.float64]] = [np.empty(0)]
        for number, row in enumerate(rows):
            begin = 0
            for order, (document, first_image) in enumerate(row):
                here = slice(begin, begin + len(document.ids_L))
                ids[number, here], positions[number, here] = document.ids_L, document.positions_L
                branches[number, here], documents[number, here] = document.branches_L, order
                offset = number * longest + begin
                tokens["p"].append(document.predictors_T + offset)
                tokens["t"].append(document.targets_T)
                tokens["s"].append(document.slots_M + offset)
                tokens["f"].append(document.features_M + first_image * self.image_tokens)
                weights.append(self._weights(document) / total)
                begin = here.stop
            positions[number, begin:] = np.arange(longest - begin) + (positions[number, begin - 1] + 1 if begin else 0)
        joined = {name: torch.from_numpy(np.concatenate(arrays)) for name, arrays in tokens.items()}
        return {
            "ids": torch.from_numpy(ids),
            "token_positions": torch.from_numpy(positions),
            "documents": torch.from_numpy(documents),
            "branches": torch.from_numpy(branches),
            "plain": all(len(row) <= 1 for row in rows) and not branches.any(),
            "predictors": joined["p"],
            "targets": joined["t"],
            "weights": torch.from_numpy(np.concatenate(weights)).float(),
            "slots": joined["s"],
            "features": joined["f"],
        }

    def _weights(self, document: Document) -> NDArray[np.float64]:
        if self.weighting == "token":
            return np.ones(len(document.targets_T))
        return 1.0 / np.bincount(document.conversation_T)[document.conversation_T]
