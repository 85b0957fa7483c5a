"""Conversations as tokens: what is wrong with them, and what they cost by the ways of laying them out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medvlp.data.audit.problems import Problem
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import DAMAGE, Lengths
from medvlp.data.chat.pack_plan import PackPlan
from medvlp.data.chat.rewriting import ConversationDataset
from medvlp.data.chat.supervision import CHECKED_SAMPLES, WrongSupervision, check_supervision
from medvlp.data.order import Order, OrderedSource

LAYOUTS = {"none": (False, False), "sequence": (False, True), "tree": (True, True)}
"""objective.packing → (all questions of an image are one example, examples share rows)."""


@dataclass(frozen=True)
class MeasuredSource:
    """A source of conversations with the lengths of its token table."""

    name: str
    weight: float
    dataset: ConversationDataset
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
        is_piece = self.lengths.pieces >= 0
        rows, conversations = self.lengths.rows[is_piece], self.lengths.conversations[is_piece]
        return list(zip(rows.tolist(), conversations.tolist(), strict=True))


def epoch_tokens(
    sources: Sequence[MeasuredSource],
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
    examples = [Examples(source.dataset, source.lengths, encoder, max_length, grouped) for source in sources]
    ordered = [
        OrderedSource(source.name, len(view), source.weight, view.manifest_hash)
        for source, view in zip(sources, examples, strict=True)
    ]
    plan = PackPlan(Order(ordered, seed), examples, max_length, packed, "token")
    numbers, total = plan.epoch(0), 0
    for begin in range(0, len(numbers), global_batch_size):
        step = numbers[begin : begin + global_batch_size]
        lengths = plan.lengths[step]
        for batch in plan.divide(step, accumulate):
            rows = [int(lengths[list(pack)].sum()) for pack in batch]
            total += len(rows) * max(rows, default=0)
    return total


def token_problems(source: MeasuredSource, encoder: ChatEncoder, max_length: int) -> Iterator[Problem]:
    """What tokens show to be wrong. Conversations that have another fault too are among them."""
    lengths, dataset = source.lengths, source.dataset
    notes = [*lengths.faults, *(skipped for skipped in lengths.skipped if skipped.reason not in DAMAGE)]
    rows = {dataset.key(row): row for row in range(len(dataset))} if notes else {}
    for note in notes:
        shard, _ = dataset.locate(rows[note.key])
        problem = Problem(note.reason, note.conversation, note.detail)
        yield problem.at(source.name, str(dataset.folder / shard), note.key)
    examples = Examples(dataset, lengths, encoder, max_length, grouped=False)
    if not len(examples):
        yield Problem("nothing_left", "", f"{len(notes)} entries were skipped").at(source.name, str(dataset.folder), "")
        return
    try:
        check_supervision(encoder, [examples.read(i) for i in range(min(CHECKED_SAMPLES, len(examples)))])
    except WrongSupervision as error:
        yield Problem("wrong_supervision", "", str(error)).at(source.name, str(dataset.folder), "")
