"""Completions, as a server of OpenAI's chat completions gives them, and the errors that it answers with instead."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medvlp.errors import UserError

STOP = "stop"
"""How an answer ends that is whole; the server's other words ("length", "content_filter") are kept as they are."""
EMPTY, REFUSAL, CONTENT_FILTER = "empty", "refusal", "content_filter"
TOO_LONG, TOO_LARGE = "too_long", "too_large"
NOT_ASKED = (TOO_LONG, TOO_LARGE)
"""Ends of questions that the server did not take: nothing was answered, and nothing paid."""

TOO_LONG_SENTENCE = re.compile(
    r"context[ _](?:length|window|size)|maximum (?:context|model|input|sequence) length|max_model_len|too many tokens|"
    r"(?:prompt|input|request) is too long|\btokens?\b.{0,60}\bexceeds?\b",
    re.IGNORECASE,
)
"""In the sentences of vLLM, SGLang, llama.cpp, TGI and hosted services; not in those about `max_tokens` alone."""
MOST_OF_A_SENTENCE = 400


class ApiError(UserError):
    """A server that cannot be asked, or does not answer; the message says which, why, and what to do."""


class MalformedCompletion(Exception):
    """A body that is no completion: a proxy's page, a cut text, an error told with status 200."""


@dataclass(frozen=True)
class Completion:
    """One answer.

    text: empty where there is none. finish: why it ended: STOP, "length", CONTENT_FILTER, REFUSAL, EMPTY, or one of NOT_ASKED.
    prompt_tokens, completion_tokens: as the server counts them, 0 where it does not. retries: requests that failed before.
    model: what the server calls the model.
    """

    text: str
    finish: str = STOP
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0
    model: str = ""


def parse_completion(body: bytes, retries: int = 0) -> Completion:
    """The completion that a body holds.

    Raises:
        MalformedCompletion: with what was found instead.
    """
    try:
        answer = json.loads(body)
        if isinstance(answer, dict) and answer.get("error") and not answer.get("choices"):
            raise MalformedCompletion(f"status 200 with an error: {sentence_of(answer)}")
        choice = answer["choices"][0]
        message = choice["message"]
        text, refusal = _text(message.get("content")), message.get("refusal")
        usage = answer.get("usage") or {}
        counts = {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        excerpt = body[:80].decode("utf-8", "replace")
        raise MalformedCompletion(f"no completion ({type(error).__name__}): {excerpt!r}") from None
    finish = str(choice.get("finish_reason") or STOP)
    if not text.strip() and finish == STOP:
        finish = REFUSAL if refusal else EMPTY
    return Completion(text, finish, **counts, retries=retries, model=str(answer.get("model") or ""))


def parse_chunk(chunk: Any) -> tuple[str, str]:
    """The text that a chunk of a stream adds, and how the answer ends, "" while it does not.

    Raises:
        MalformedCompletion: another object.
    """
    try:
        choices = chunk.choices or []  # the last chunk may hold the usage alone
        text = "".join(str(choice.delta.content or "") for choice in choices[:1] if choice.delta)
        return text, str(choices[0].finish_reason or "") if choices else ""
    except (AttributeError, TypeError) as error:
        raise MalformedCompletion(f"no piece of a completion ({error})") from None


def _text(content: Any) -> str:
    """A message's text: a string, null, or a list of parts."""
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") in ("text", "output_text"))
    if not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__}")
    return content


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def sentence_of(body: Any) -> str:
    """What an error's body says, in one line: `error.message`, `message`, `detail`, or the text itself."""
    while isinstance(body, Mapping):
        body = next((body[name] for name in ("error", "message", "detail") if body.get(name)), "")
    text = body if isinstance(body, str) else json.dumps(body, default=str) if body else ""
    return " ".join(text.split())[:MOST_OF_A_SENTENCE]


def refused_question(status: int, code: str, sentence: str) -> str:
    """How a question ended that the server takes in no form: TOO_LONG, TOO_LARGE or CONTENT_FILTER; "" for other errors."""
    if status == 413:
        return TOO_LARGE
    if status not in (400, 422):
        return ""
    if code in ("content_filter", "content_policy_violation"):
        return CONTENT_FILTER
    is_too_long = code in ("context_length_exceeded", "exceed_context_size_error") or TOO_LONG_SENTENCE.search(sentence)
    return TOO_LONG if is_too_long else ""
