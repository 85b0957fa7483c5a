"""A model whose responses are kept: it is asked only what nobody has asked it before, and shown only those images."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any, TextIO

from medvlp.eval.models.answering import AnsweringModel, FrontModel, Prompt, Sampling
from medvlp.eval.store.responses import BLANK, ResponseLog, question_key
from medvlp.jsonl import Row
from medvlp.shards import Sample, Turn


class KeptImages:
    """Images that are decoded when a question about them has no response yet.

    Args:
        digests: sha256 of each file, or BLANK.
        decode: gives the model's own images.
    """

    def __init__(self, digests: Sequence[str], decode: Callable[[], Any]) -> None:
        self.digests, self._decode = tuple(digests), decode

    @cached_property
    def content(self) -> Any:
        """What the model's `pictures`, `gathered` or `blank` gives."""
        return self._decode()


class KeptModel(FrontModel):
    """An `AnsweringModel` in front of another: what the log holds comes from there, the rest is asked and added.

    Args:
        model: what answers.
        log: its responses; its parts are all that decides them next to the question.
    """

    def __init__(self, model: AnsweringModel, log: ResponseLog) -> None:
        self.model, self.log = model, log
        self._readable = {digest for row in log.rows() for digest in row.get("images", ())}
        self._blanks: dict[int, KeptImages] = {}

    def pictures(self, sample: Sample) -> KeptImages:
        """A sample's images. Raises BadSample: one that cannot be read."""
        digests = [sha256(sample.images[name]).hexdigest() for name in sorted(sample.images)]
        images = KeptImages(digests, lambda: self.model.pictures(sample))
        if not self._readable.issuperset(digests):
            _ = images.content  # now, so that the sample is known to be bad before it is asked about
        return images

    def gathered(self, images: Sequence[tuple[KeptImages, int]]) -> KeptImages:
        """Images of several samples as those of one."""
        digests = [of_sample.digests[position] for of_sample, position in images]
        return KeptImages(digests, lambda: self.model.gathered([(of_sample.content, i) for of_sample, i in images]))

    def blank(self, count: int) -> KeptImages:
        """So many images that show nothing, the same object each time."""
        return self._blanks.setdefault(count, KeptImages([BLANK] * count, lambda: self.model.blank(count)))

    def fits(
        self,
        turns: Sequence[Turn],
        option_turns: Sequence[Turn],
        images: Sequence[bytes],
        options: Iterable[str],
        max_new_tokens: int,
    ) -> bool:
        """As the model; what was answered fits. Raises BadSample."""
        digests, option_texts = [sha256(data).hexdigest() for data in images], list(options)
        keys = [question_key(turns, digests, {"max_new_tokens": max_new_tokens})]
        if option_texts:
            keys.append(question_key(option_turns, digests, {"answers": option_texts}))
        if all(self.log.get(key) for key in keys):
            return True
        return self.model.fits(turns, option_turns, images, option_texts, max_new_tokens)

    def metadata(self) -> dict[str, Any]:
        """As the model."""
        return self.model.metadata()

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The greedy answer to each prompt."""
        requests = [{"max_new_tokens": max_new_tokens} for _ in prompts]

        def ask(numbers: list[int]) -> list[Row]:
            texts = self.model.generate([self._shown(prompts[number]) for number in numbers], max_new_tokens)
            return [{"text": text} for text in texts]

        return [str(row["text"]) for row in self._responses(prompts, requests, ask)]

    def sample(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], sampling: Sampling, max_new_tokens: int
    ) -> list[str]:
        """A sampled answer to each prompt, kept under its number and seed."""
        requests = [{"max_new_tokens": max_new_tokens, **sampling.request(number)} for number in numbers]

        def ask(indices: list[int]) -> list[Row]:
            texts = self.model.sample(
                [self._shown(prompts[i]) for i in indices], [numbers[i] for i in indices], sampling, max_new_tokens
            )
            return [{"text": text} for text in texts]

        return [str(row["text"]) for row in self._responses(prompts, requests, ask)]

    def stream(self, prompt: Prompt, max_new_tokens: int, output: TextIO) -> str:
        """As the model; nothing of it is kept."""
        return self.model.stream(self._shown(prompt), max_new_tokens, output)

    def loglikelihood(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[str]]
    ) -> list[list[tuple[float, int]]]:
        """For each prompt and each of its possible answers, the answer's log-probability in nats and its number of tokens."""
        requests = [{"answers": list(of_prompt)} for of_prompt in answers]

        def ask(numbers: list[int]) -> list[Row]:
            rows = self.model.loglikelihood(
                [self._shown(prompts[number]) for number in numbers], [answers[number] for number in numbers]
            )
            return [{"likelihoods": [list(pair) for pair in row]} for row in rows]

        rows = self._responses(prompts, requests, ask)
        return [[(float(nats), int(tokens)) for nats, tokens in row["likelihoods"]] for row in rows]

    def _shown(self, prompt: Prompt) -> Prompt:
        return prompt._replace(pixels=prompt.pixels.content)

    def _responses(
        self, prompts: Sequence[Prompt], requests: Sequence[Row], ask: Callable[[list[int]], list[Row]]
    ) -> list[Row]:
        """A response to each prompt. ask: numbers of prompts → responses that the log does not hold."""
        keys = [
            question_key(prompt.turns, prompt.pixels.digests, request)
            for prompt, request in zip(prompts, requests, strict=True)
        ]
        if any(self.log.get(key) is None for key in keys):
            self.log.refresh()
        missing = {key: number for number, key in reversed(list(enumerate(keys))) if self.log.get(key) is None}
        numbers = sorted(missing.values())
        new = {keys[number]: row for number, row in zip(numbers, ask(numbers) if numbers else [], strict=True)}
        images = {keys[number]: list(prompts[number].pixels.digests) for number in numbers}
        self.log.add({key: {**row, "images": images[key]} for key, row in new.items() if _is_finite(row)})
        self._readable.update(digest for digests in images.values() for digest in digests)
        return [new.get(key) or self.log.get(key) or {} for key in keys]


def _is_finite(row: Row) -> bool:
    """Whether JSON can hold a response. Others are signs of a broken model, and asked for again."""
    return all(math.isfinite(nats) for nats, _ in row.get("likelihoods", ()))
