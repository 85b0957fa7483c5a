"""Conversations as tokens: what is wrong with them, and what they cost by the ways of laying them out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from medvlp.data.audit.problems import Problem
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import DAMAGE, Lengths, cached_lengths
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


@dataclass(frozen=True, kw_only=True)
class TokenAudit:
    """The conversations of an instruction tuning, to be looked at as tokens.

    conversations: every source's name, weight and conversations. identity: of the encoder. max_length, too_long, packing:
    of objective. global_batch_size, accumulate, seed: of the run.
    """

    conversations: Sequence[tuple[str, float, ConversationDataset]]
    encoder: ChatEncoder
    identity: str
    max_length: int
    too_long: str
    packing: str
    global_batch_size: int
    accumulate: int
    seed: int

    @cached_property
    def sources(self) -> list[MeasuredSource]:
        """The sources with their lengths, which are measured once and cached next to the shards."""
        return [
            MeasuredSource(
                name,
                weight,
                dataset,
                cached_lengths(dataset, self.encoder, self.max_length, self.too_long, self.identity),
            )
            for name, weight, dataset in self.conversations
        ]

    def problems(self) -> Iterator[Problem]:
        """What tokens show to be wrong. Conversations that have another fault too are among them."""
        for source in self.sources:
            yield from token_problems(source, self.encoder, self.max_length)

    def epoch_tokens(self) -> dict[str, int]:
        """objective.packing → tokens of the first epoch; empty where a source has nothing to train on."""
        if not all(len(source.lengths.rows) for source in self.sources):
            return {}
        return {
            packing: epoch_tokens(
                self.sources,
                self.encoder,
                self.max_length,
                packing,
                self.global_batch_size,
                self.accumulate,
                self.seed,
            )
            for packing in LAYOUTS
        }


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
