"""Asking a judge: its responses to prompts, or the likelihoods of lines behind them, and to which it was not asked at all."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from medvlp.distributed import on_all_ranks
from medvlp.eval.models.answering import AnsweringModel, Prompt
from medvlp.eval.vqa.responses import response_of
from medvlp.models.api.completion import NOT_ASKED
from medvlp.shards import BadSample, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN


@dataclass(frozen=True)
class JudgePrompt:
    """What a judge is asked. row: of the sample whose images stand in front; None without. lines: of which the likelihoods are
    asked for; empty where the judge writes."""

    text: str
    row: int | None = None
    lines: tuple[str, ...] = ()


class Samples(Protocol):
    """Where the images come from that a judge sees."""

    def read(self, row: int) -> Sample:
        """The sample of a row. Raises BadSample."""


@dataclass(frozen=True)
class Reply:
    """A judge's reply; problem: why it was not asked, or its reply cannot be whole. usage, request: as of `Response`.

    likelihoods: (nats, tokens) of each line that was asked about.
    """

    text: str
    problem: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    request: str = ""
    likelihoods: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Asking:
    """How a judge is asked. samples: where its images come from."""

    judge: AnsweringModel
    batch_size: int
    max_new_tokens: int
    samples: Samples | None = None

    def responses(self, prompts: Sequence[JudgePrompt]) -> list[Reply]:
        """A reply to each prompt, in order. Where torch.distributed runs, every rank asks its share and gets the whole result."""
        unique = list(dict.fromkeys(prompts))
        at_once = max(self.batch_size, getattr(self.judge, "prompts_at_once", 0))
        batches = [unique[start : start + at_once] for start in range(0, len(unique), at_once)]
        responses = [reply for part in on_all_ranks(batches, self._ask) for reply in part]
        by_prompt = dict(zip(unique, responses, strict=True))
        return [by_prompt[prompt] for prompt in prompts]

    def _ask(self, batch: Sequence[JudgePrompt]) -> list[Reply]:
        responses: list[Reply | None] = [None] * len(batch)
        full: list[Prompt] = []
        pixels_of: dict[int, tuple[list[bytes], Any]] = {}
        no_image = self.judge.blank(0)
        for i, prompt in enumerate(batch):
            try:
                files, pixels = ([], no_image) if prompt.row is None else self._images(prompt.row, pixels_of)
                turns = (Turn("user", f"{IMAGE_TOKEN}\n" * len(files) + prompt.text),)
                new_tokens = 1 if prompt.lines else self.max_new_tokens
                if not self.judge.fits(turns, turns, files, prompt.lines, new_tokens):
                    raise BadSample("too_long")
                full.append(Prompt(turns, len(files), pixels))
            except BadSample as bad:
                responses[i] = Reply("", bad.reason)
        indices = [i for i, reply in enumerate(responses) if reply is None]
        for ask, is_of_kind in ((self._written, False), (self._likelihoods, True)):
            jobs = [(i, prompt) for i, prompt in zip(indices, full, strict=True) if bool(batch[i].lines) == is_of_kind]
            of_kind: Callable[..., list[Reply]] = ask
            if jobs:
                answered = of_kind([prompt for _, prompt in jobs], [batch[i].lines for i, _ in jobs])
                for (i, _), reply in zip(jobs, answered, strict=True):
                    responses[i] = reply
        return [reply for reply in responses if reply is not None]

    def _images(self, row: int, pixels_of: dict[int, tuple[list[bytes], Any]]) -> tuple[list[bytes], Any]:
        """The image files of a sample, and what the judge makes of them: the same object for all prompts of a batch. Raises
        BadSample."""
        assert self.samples is not None
        if row not in pixels_of:
            sample = self.samples.read(row)
            pixels_of[row] = [sample.images[name] for name in sorted(sample.images)], self.judge.pictures(sample)
        return pixels_of[row]

    def _written(self, prompts: Sequence[Prompt], lines: Sequence[Sequence[str]]) -> list[Reply]:
        responses = []
        for answer in self.judge.generate(prompts, self.max_new_tokens):
            response = response_of(answer)
            problem = response.finish if response.finish in (*NOT_ASKED, "length", "content_filter") else ""
            responses.append(Reply(response.text, problem, response.usage, response.request))
        return responses

    def _likelihoods(self, prompts: Sequence[Prompt], lines: Sequence[Sequence[str]]) -> list[Reply]:
        return [Reply("", likelihoods=tuple(row)) for row in self.judge.loglikelihood(prompts, lines)]


def usage_of(responses: Sequence[Reply]) -> dict[str, int]:
    """What the responses took together; each request counts once."""
    by_request = {reply.request: reply.usage for reply in responses if reply.usage}
    total = Counter[str]()
    for counts in by_request.values():
        total.update(counts)
    return dict(total)


def problems_of(responses: Sequence[Reply], is_read: Sequence[bool]) -> dict[str, Any]:
    """Reason → responses that gave no verdict."""
    reasons = [
        reply.problem or ("equal likelihoods" if reply.likelihoods else "no verdict in the reply")
        for reply, read in zip(responses, is_read, strict=True)
        if not read
    ]
    return dict(sorted(Counter(reasons).items()))
