"""What conversations cost in tokens, by the ways of laying them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.examples import Conversations, Examples
from medvlp.data.chat.lengths import Lengths
from medvlp.data.chat.pack_plan import PackPlan
from medvlp.data.order import Order, OrderedSource

LAYOUTS = {"none": (False, False), "sequence": (False, True), "tree": (True, True)}
"""objective.packing → (all questions of an image are one example, examples share rows)."""


@dataclass(frozen=True)
class Measured:
    """A source of conversations with its token table."""

    name: str
    weight: float
    dataset: Conversations
    lengths: Lengths

    def summary(self) -> dict[str, float]:
        """Tokens and supervised tokens of its conversations (median, most), the share that is supervised, and
        conversations an example that has an image or none; empty where nothing can be trained on."""
        tokens, supervised = self.lengths.tokens, self.lengths.supervised
        if not len(tokens):
            return {}
        return {
            "conversations": len(tokens),
            "split": len({(r, c) for r, c in self._pieces()}),
            "an_image": len(tokens) / len(np.unique(self.lengths.rows)),
            "tokens_median": float(np.median(tokens)),
            "tokens_most": int(tokens.max()),
            "supervised_median": float(np.median(supervised)),
            "supervised_most": int(supervised.max()),
            "supervised_share": float(supervised.sum() / tokens.sum()),
        }

    def _pieces(self) -> list[tuple[Any, Any]]:
        of = self.lengths.pieces >= 0
        return list(zip(self.lengths.rows[of].tolist(), self.lengths.conversations[of].tolist(), strict=True))


def epoch_tokens(
    sources: Sequence[Measured],
    encoder: ChatEncoder,
    max_length: int,
    packing: str,
    global_batch_size: int,
    accumulate: int = 1,
    seed: int = 0,
) -> int:
    """Tokens that the batches of the first epoch hold on one rank, padding included.

    Args:
        packing: objective.packing. A step holds `global_batch_size` examples of it: conversations, or, in a tree, images
            with all their questions.
    """
    grouped, packed = LAYOUTS[packing]
    examples = [Examples(one.dataset, one.lengths, encoder, max_length, grouped) for one in sources]
    ordered = [
        OrderedSource(one.name, len(view), one.weight, view.manifest_hash)
        for one, view in zip(sources, examples, strict=True)
    ]
    plan = PackPlan(Order(ordered, seed), examples, max_length, packed, "token")
    numbers, total = plan.epoch(0), 0
    for begin in range(0, len(numbers), global_batch_size):
        chosen = numbers[begin : begin + global_batch_size]
        lengths = plan.lengths[chosen]
        for batch in plan.divide(chosen, accumulate):
            rows = [int(lengths[list(pack)].sum()) for pack in batch]
            total += len(rows) * max(rows, default=0)
    return total
