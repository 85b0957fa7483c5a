"""What instruction tuning draws: conversations, or groups of conversations about one image that fit a sequence."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Union

import numpy as np

from medvlp.data.chat.encoder import IMAGE, ChatEncoder, split_long
from medvlp.data.chat.lengths import Lengths
from medvlp.data.texts import texts_of
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn

Conversations = Union[ShardDataset, "Rewritten"]


class Rewritten:
    """A dataset whose samples are changed as they are read. Its identity is the shards' and that of the change."""

    def __init__(self, dataset: "Conversations", change: object) -> None:
        self.dataset = dataset
        self.folder: Path = dataset.folder
        self.shards_hash: str = dataset.shards_hash
        material = json.dumps([dataset.manifest_hash, change]).encode()
        self.manifest_hash: str = hashlib.sha256(material).hexdigest()
        self.key: Callable[[int], str] = dataset.key
        self.locate: Callable[[int], tuple[str, int]] = dataset.locate

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, i: int) -> Sample:
        """Sample i, changed."""
        return self.change(self.dataset.read(i))

    def change(self, sample: Sample) -> Sample:
        """The sample, or another in its place."""
        return sample


class Asked(Rewritten):
    """Captions as answers: samples without conversations get one from each of their texts.

    The question is one of several, chosen by the sample's key and the text's field, so it is the same in every epoch.

    Args:
        dataset: the shards.
        fields: texts to ask for.
        questions: what to ask, without placeholders.
    """

    def __init__(self, dataset: "Conversations", fields: Sequence[str], questions: Sequence[str]) -> None:
        super().__init__(dataset, ["asked", list(fields), list(questions)])
        self.fields, self.questions = list(fields), list(questions)

    def change(self, sample: Sample) -> Sample:
        """With conversations."""
        if sample.conversations:
            return sample
        images = "".join(f"{IMAGE}\n" for _ in sample.images)
        made = []
        for name, text in texts_of(sample, self.fields).items():
            digest = hashlib.sha256(f"{sample.key}\0{name}".encode()).digest()
            question = self.questions[int.from_bytes(digest[:8], "little") % len(self.questions)]
            made.append(Conversation([Turn("user", images + question), Turn("assistant", text)], name))
        return replace(sample, conversations=made)


class Worded(Rewritten):
    """Questions and answers in other words, from what is known of each conversation: a rationale before or after the
    answer (MedThink), a region as text.

    Args:
        dataset: the shards.
        question, answer: what the last question and the last answer become; `{question}` and `{answer}` stand for
            themselves, `{<name>}` for a field of the conversation's metadata; numbers are written with two decimals.
            Empty leaves it as it is.
    """

    def __init__(self, dataset: "Conversations", question: str, answer: str) -> None:
        super().__init__(dataset, ["worded", question, answer])
        self.question, self.answer = question, answer

    def change(self, sample: Sample) -> Sample:
        """With the last pair of every conversation in other words.

        Raises:
            BadSample: `missing_field`, where a conversation lacks what a wording names.
        """
        return replace(sample, conversations=[self._worded(sample.key, one) for one in sample.conversations])

    def _worded(self, key: str, conversation: Conversation) -> Conversation:
        *before, asked, answered = conversation.turns
        placeholders, question = "", asked.text
        while question.startswith(IMAGE):
            placeholders, question = placeholders + IMAGE + "\n", question.removeprefix(IMAGE).lstrip("\n")
        known = {**conversation.metadata, "question": question, "answer": answered.text}

        def fill(found: re.Match[str]) -> str:
            if found[1] not in known:
                detail = f"conversation {conversation.id}: no {found[1]!r} in its metadata"
                raise BadSample("missing_field", key=key, detail=detail)
            return as_words(known[found[1]])

        question = re.sub(FIELD, fill, self.question or "{question}")
        answer = re.sub(FIELD, fill, self.answer or "{answer}")
        turns = [*before, Turn(asked.role, placeholders + question), Turn(answered.role, answer)]
        return replace(conversation, turns=turns)


FIELD = re.compile(r"\{(\w+)\}")


def as_words(value: object) -> str:
    """A metadata value as text: boxes and numbers with two decimals, lists in brackets."""
    if isinstance(value, list):
        return "[" + ", ".join(as_words(one) for one in value) + "]"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class Examples:
    """A dataset as examples: rows of their own, each a sample with some of its conversations.

    Args:
        dataset: the shards.
        lengths: their token table.
        encoder: splits conversations that are too long, as it did when they were measured.
        max_length: tokens of a sequence.
        grouped: all pieces of a sample that fit behind one beginning are one example; otherwise each piece is.
    """

    def __init__(
        self, dataset: Conversations, lengths: Lengths, encoder: ChatEncoder, max_length: int, grouped: bool
    ) -> None:
        self.dataset, self.table, self.encoder, self.max_length = dataset, lengths, encoder, max_length
        starts: list[int] = []
        tokens: list[int] = []
        for piece, (row, own, shared) in enumerate(zip(lengths.rows, lengths.tokens, lengths.shared, strict=True)):
            tail = int(own - shared)
            joins = grouped and starts and lengths.rows[starts[-1]] == row and tokens[-1] + tail <= max_length
            if joins:
                tokens[-1] += tail
            else:
                starts.append(piece)
                tokens.append(int(own))
        self.starts = np.array([*starts, len(lengths.rows)], np.int64)
        self.lengths = np.array(tokens, np.int64)
        self.conversations = np.diff(self.starts)
        sums = np.concatenate([[0], np.cumsum(lengths.supervised)])
        self.supervised = sums[self.starts[1:]] - sums[self.starts[:-1]]
        digest = hashlib.sha256(dataset.manifest_hash.encode())
        for column in (self.starts, lengths.rows, lengths.conversations, lengths.pieces):
            digest.update(column.tobytes())
        self.manifest_hash = digest.hexdigest()
        self.shards_hash: str = dataset.shards_hash

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, i: int) -> Sample:
        """The sample with the example's conversations only."""
        begin, end = int(self.starts[i]), int(self.starts[i + 1])
        sample = self.dataset.read(int(self.table.rows[begin]))
        chosen = [self._conversation(sample, piece) for piece in range(begin, end)]
        return replace(sample, key=self.key(i), conversations=chosen)

    def _conversation(self, sample: Sample, piece: int) -> Conversation:
        whole = sample.conversations[int(self.table.conversations[piece])]
        part = int(self.table.pieces[piece])
        if part < 0:
            return whole
        pieces, _ = split_long(whole.turns, len(sample.images), self.encoder, self.max_length)
        return replace(whole, turns=pieces[part])

    def key(self, i: int) -> str:
        """The sample's key, `#` and what part of it: its first conversation's number (and piece)."""
        first = int(self.starts[i])
        part = int(self.table.pieces[first])
        name = f"{self.dataset.key(int(self.table.rows[first]))}#{int(self.table.conversations[first])}"
        return name if part < 0 else f"{name}.{part}"

    def locate(self, i: int) -> tuple[str, int]:
        """The shard that holds the sample, and its place there."""
        return self.dataset.locate(int(self.table.rows[int(self.starts[i])]))

    def samples(self) -> Iterator[Sample]:
        """All examples, in order."""
        return (self.read(i) for i in range(len(self)))
