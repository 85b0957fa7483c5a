"""Open questions as multiple choice: wrong options drawn from the answers to other questions of the same kind."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from data_prep.conversations.questions import QuestionRow, QuestionSource, choose
from data_prep.errors import PrepError
from data_prep.source import Dropped, Options
from medvlp.shards import Conversation

YES_NO = ("yes", "no")
MOST = 25
"""Wrong options at most: there are 26 letters."""

Pools = dict[tuple[str, ...], dict[str, str]]
"""Kind of question → the answers to such questions: folded → as the publisher writes it first."""


@dataclass(frozen=True)
class DrawnOptions(Options):
    """Options of sources whose questions can become an exam."""

    distractors: int = 0
    """Wrong options that a question gets, so that it becomes multiple choice; 0 leaves questions as they are."""


class DrawnOptionSource(QuestionSource):
    """A source whose questions can be prepared as multiple choice. Raises PrepError for a number that cannot be.

    A question that is answered by yes or no has these two as its options. Any other has its answer, and answers to other
    questions of the set of the same question type, answer type and language that share no word with it: those of the least
    sha256 of the question's id and the answer. The options stand in the order of another such hash, so that neither depends
    on the order of the questions. Questions with fewer such answers are drops (`few_options`).
    """

    option_type = DrawnOptions
    choices: DrawnOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        if not 0 <= self.choices.distractors <= MOST:
            raise PrepError(f"options.distractors={self.choices.distractors}, expected 0 to {MOST}")

    def options(self) -> dict[str, Any]:
        """The number of wrong options, where there are any."""
        count = self.choices.distractors
        return super().options() | ({"distractors": count} if count else {})

    def asked_rows(self, split: str) -> Iterator[QuestionRow | Dropped]:
        """The rows, as multiple choice if that was chosen."""
        if not self.choices.distractors:
            yield from self.rows(split)
            return
        for row in self.rows(split):
            if isinstance(row, Dropped) or row.conversation is None:
                yield row
            elif conversation := with_options(row.conversation, self._pools, self.choices.distractors):
                yield replace(row, conversation=conversation)
            else:
                detail = f"its kind of question has no {self.choices.distractors} other answers"
                yield Dropped(row.name, "few_options", detail)

    @cached_property
    def _pools(self) -> Pools:
        pools: Pools = {}
        for split in self.splits:
            for row in self.rows(split):
                if isinstance(row, QuestionRow) and row.conversation:
                    answer = row.conversation.turns[-1].text
                    pools.setdefault(kind_of(row.conversation), {}).setdefault(folded(answer), answer)
        return pools


def kind_of(conversation: Conversation) -> tuple[str, ...]:
    """What questions have in common whose answers can stand for each other."""
    return tuple(str(conversation.metadata.get(name, "")) for name in ("question_type", "answer_type", "language"))


def folded(answer: str) -> str:
    """The words of an answer."""
    return " ".join(re.findall(r"\w+", answer.casefold()))


def with_options(conversation: Conversation, pools: Pools, count: int) -> Conversation | None:
    """The question as multiple choice with so many wrong options; None where there are fewer.

    pools: kind of question → the answers to such questions.
    """
    *history, turn = conversation.turns
    answer, id = turn.text, conversation.id or ""
    if folded(answer) in YES_NO:
        texts = list(YES_NO)
        answer = folded(answer)
    else:
        words = set(folded(answer).split())
        candidates = [text for key, text in pools[kind_of(conversation)].items() if words.isdisjoint(key.split())]
        candidates = [text for text in candidates if folded(text) and folded(text) not in YES_NO]
        texts = sorted(candidates, key=lambda text: _digest("draw", id, text))[:count]
        if len(texts) < count:
            return None
        texts.append(answer)
    texts.sort(key=lambda text: _digest("order", id, text))
    options = {chr(ord("A") + position): text for position, text in enumerate(texts)}
    _, choice = choose(options, "", answer)
    metadata = {**conversation.metadata, **choice, "drawn_from": conversation.metadata.get("answer_type", "")}
    return replace(conversation, turns=[*history, replace(turn, text=answer)], metadata=metadata)


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
