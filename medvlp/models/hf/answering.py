"""Prompts as texts with images → answers and likelihoods, in batches that change neither."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TextIO

import torch
from PIL import Image

from medvlp.models.hf.decoding import NOT_FOR_GENERATE, Ids, end_ids, forced_logprobs, forget_settings, greedy, pad_id
from medvlp.models.sampling import Noise
from medvlp.terminal import text_streamer


class Row(NamedTuple):
    """A prompt: the text behind which the model goes on, and its images in the order of their places in the text.

    is_blank: the images show nothing.
    """

    text: str
    images: tuple[Image.Image, ...] = ()
    is_blank: bool = False


class TooLong(ValueError):
    """A prompt with its answer takes more tokens than the model has positions for."""


class Reader(Protocol):
    """Texts and images → what a model takes."""

    tokenizer: Any

    def inputs(self, rows: Sequence[Row]) -> Any:
        """Tensors of a batch by name, filled up on the left."""

    def ids(self, text: str) -> list[int]:
        """Tokens of a prompt's text, those of its images not counted."""


class Generator:
    """A model that goes on from prompts.

    Prompts of a batch have equally many images: processors that lay images out in rows then fill nothing up. Whatever else
    is filled up, no token sees.

    Args:
        model: of transformers, in evaluation mode. Its own settings of generation are taken out of it.
        reader: makes its input.
        batch_size: prompts in a batch. Answers do not depend on it, but for rounding.
    """

    def __init__(self, model: Any, reader: Reader, batch_size: int) -> None:
        self.model, self.reader, self.batch_size = model, reader, batch_size
        self.ends, self.pad = end_ids(model, reader.tokenizer), pad_id(reader.tokenizer)
        self.dropped_settings = forget_settings(model)

    @property
    def longest(self) -> int | None:
        """Tokens that a prompt and its answer may have together; None where nothing limits them."""
        config = self.model.config.get_text_config(decoder=True)
        limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
        return int(limit) if limit else None

    def generate(self, rows: Sequence[Row], max_new_tokens: int, noise: Noise | None = None) -> list[str]:
        """The greedy answer to each prompt, or a sampled one, without special tokens.

        Raises:
            TooLong: a prompt that is.
        """
        texts = [""] * len(rows)
        for indices in self._batches(rows):
            inputs = self._inputs([rows[i] for i in indices], max_new_tokens)
            sampler = noise.sampler(indices) if noise else None
            answers = greedy(self.model, inputs, self.ends, self.pad, max_new_tokens, sampler=sampler)
            for i, ids in zip(indices, answers, strict=True):
                texts[i] = self.reader.tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
        return texts

    def stream(self, row: Row, max_new_tokens: int, output: TextIO) -> str:
        """The greedy answer to one prompt, written as it is generated, as far as there are positions for it.

        Raises:
            TooLong: a prompt that leaves none.
        """
        inputs = self._inputs([row], 1)
        capacity = max_new_tokens if self.longest is None else self.longest - inputs["input_ids"].shape[1]
        streamer = text_streamer(self.reader.tokenizer, output)
        greedy(self.model, inputs, self.ends, self.pad, min(max_new_tokens, capacity), streamer)
        return str(streamer.text)

    def loglikelihood(self, rows: Sequence[Row], options: Sequence[Sequence[Ids]]) -> list[list[float]]:
        """For each prompt and each of its options, the log-probability in nats of the option's tokens behind it.

        Options that differ in their last token only are computed together.

        Raises:
            TooLong: a prompt with an option that is.
            ValueError: an option without tokens.
        """
        lasts: dict[tuple[int, Ids], set[int]] = defaultdict(set)
        for i, of_prompt in enumerate(options):
            for option in of_prompt:
                if not option:
                    raise ValueError("an option has no tokens: it has no likelihood")
                lasts[i, option[:-1]].add(option[-1])
        branches = sorted(lasts, key=lambda branch: (branch[0], len(branch[1]), branch[1]))
        totals: dict[tuple[int, Ids], dict[int, float]] = {}
        for indices in self._batches([rows[i] for i, _ in branches]):
            batch = [branches[j] for j in indices]
            of_batch = self._forced(
                [rows[i] for i, _ in batch], [prefix for _, prefix in batch], [sorted(lasts[b]) for b in batch]
            )
            totals |= dict(zip(batch, of_batch, strict=True))
        return [[totals[i, option[:-1]][option[-1]] for option in of_prompt] for i, of_prompt in enumerate(options)]

    def _forced(
        self, rows: Sequence[Row], prefixes: Sequence[Ids], lasts: Sequence[Sequence[int]]
    ) -> list[dict[int, float]]:
        """`forced_logprobs` of a batch, or of its halves where one prompt is too long for another's prefix only."""
        try:
            inputs = self._inputs(rows, 1 + max(map(len, prefixes)))
        except TooLong:
            if len(rows) == 1:
                raise
            half = len(rows) // 2
            return [
                *self._forced(rows[:half], prefixes[:half], lasts[:half]),
                *self._forced(rows[half:], prefixes[half:], lasts[half:]),
            ]
        return forced_logprobs(self.model, inputs, prefixes, lasts, self.pad)

    def _batches(self, rows: Sequence[Row]) -> Iterator[list[int]]:
        """Indices of rows with equally many images."""
        by_count: dict[tuple[int, bool], list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            by_count[len(row.images), row.is_blank].append(index)
        for indices in by_count.values():
            for start in range(0, len(indices), self.batch_size):
                yield indices[start : start + self.batch_size]

    def _inputs(self, rows: Sequence[Row], new_tokens: int) -> dict[str, Any]:
        inputs = self.reader.inputs(rows)
        length = inputs["input_ids"].shape[1] + new_tokens
        if self.longest is not None and length > self.longest:
            raise TooLong(f"a prompt with its answer takes {length} tokens; this model was made for {self.longest}")
        dtype = self.model.dtype
        return {
            name: value.to(self.model.device, dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
            if isinstance(value, torch.Tensor) and name not in NOT_FOR_GENERATE
        }
