"""Rows of instruction tuning: conversations, or groups of conversations about one image that fit a sequence."""

import hashlib
from dataclasses import replace

import numpy as np

from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.lengths import Lengths
from medvlp.data.chat.rewriting import ConversationDataset
from medvlp.data.chat.splitting import split_long
from medvlp.shards import Conversation, Sample


class Examples:
    """A dataset as examples: rows of their own, each a sample with some of its conversations.

    Args:
        dataset: the shards.
        lengths: their token table.
        encoder: splits conversations that are too long, as it did when they were measured.
        max_length: tokens of a sequence.
        grouped: all pieces of a sample that fit behind one shared prefix are one example; otherwise each piece is.
    """

    def __init__(
        self, dataset: ConversationDataset, lengths: Lengths, encoder: ChatEncoder, max_length: int, grouped: bool
    ) -> None:
        self.dataset, self.table, self.encoder, self.max_length = dataset, lengths, encoder, max_length
        starts: list[int] = []
        tokens: list[int] = []
        for piece, (row, length, prefix) in enumerate(
            zip(lengths.rows, lengths.tokens, lengths.shared_prefix, strict=True)
        ):
            suffix = int(length - prefix)
            joins = grouped and starts and lengths.rows[starts[-1]] == row and tokens[-1] + suffix <= max_length
            if joins:
                tokens[-1] += suffix
            else:
                starts.append(piece)
                tokens.append(int(length))
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
        conversations = [self._conversation(sample, piece) for piece in range(begin, end)]
        return replace(sample, key=self.key(i), conversations=conversations)

    def _conversation(self, sample: Sample, piece: int) -> Conversation:
        conversation = sample.conversations[int(self.table.conversations[piece])]
        part = int(self.table.pieces[piece])
        if part < 0:
            return conversation
        pieces, _ = split_long(conversation.turns, len(sample.images), self.encoder, self.max_length)
        return replace(conversation, turns=pieces[part])

    def key(self, i: int) -> str:
        """The sample's key, `#` and what part of it: its first conversation's number (and piece)."""
        first = int(self.starts[i])
        part = int(self.table.pieces[first])
        name = f"{self.dataset.key(int(self.table.rows[first]))}#{int(self.table.conversations[first])}"
        return name if part < 0 else f"{name}.{part}"

    def locate(self, i: int) -> tuple[str, int]:
        """The shard that holds the sample, and its position there."""
        return self.dataset.locate(int(self.table.rows[int(self.starts[i])]))
