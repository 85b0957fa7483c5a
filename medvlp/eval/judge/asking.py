"""Asking a judge: its responses to prompts, and to which it was not asked at all."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvlp.distributed import on_all_ranks
from medvlp.eval.models.answering import AnsweringModel, Prompt
from medvlp.eval.vqa.responses import response_of
from medvlp.models.api.completion import NOT_ASKED
from medvlp.shards import BadSample, Turn


@dataclass(frozen=True)
class Reply:
    """A judge's reply; problem: why it was not asked, or its reply cannot be whole. usage, request: as of `Response`."""

    text: str
    problem: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    request: str = ""


def responses_to(judge: AnsweringModel, prompts: Sequence[str], batch_size: int, max_new_tokens: int) -> list[Reply]:
    """A reply to each prompt, in order. Where torch.distributed runs, every rank asks its share and gets the whole result."""
    unique = list(dict.fromkeys(prompts))
    at_once = max(batch_size, getattr(judge, "prompts_at_once", 0))
    batches = [unique[start : start + at_once] for start in range(0, len(unique), at_once)]
    no_image = judge.blank(0)

    def ask(batch: Sequence[str]) -> list[Reply]:
        responses: list[Reply | None] = [_refusal(judge, text, max_new_tokens) for text in batch]
        indices = [i for i, reply in enumerate(responses) if reply is None]
        asked_prompts = [Prompt((Turn("user", batch[i]),), 0, no_image) for i in indices]
        answers = judge.generate(asked_prompts, max_new_tokens) if asked_prompts else []
        for i, answer in zip(indices, answers, strict=True):
            response = response_of(answer)
            problem = response.finish if response.finish in (*NOT_ASKED, "length", "content_filter") else ""
            responses[i] = Reply(response.text, problem, response.usage, response.request)
        return [reply for reply in responses if reply is not None]

    by_prompt = dict(zip(unique, (reply for part in on_all_ranks(batches, ask) for reply in part), strict=True))
    return [by_prompt[prompt] for prompt in prompts]


def _refusal(judge: AnsweringModel, text: str, max_new_tokens: int) -> Reply | None:
    """Why a judge is not asked a prompt; None where it can be."""
    turns = (Turn("user", text),)
    try:
        return None if judge.fits(turns, turns, [], [], max_new_tokens) else Reply("", "too_long")
    except BadSample as bad:
        return Reply("", bad.reason)


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
        reply.problem or "no verdict in the reply" for reply, read in zip(responses, is_read, strict=True) if not read
    ]
    return dict(sorted(Counter(reasons).items()))
