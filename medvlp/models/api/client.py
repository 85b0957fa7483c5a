"""A client of OpenAI's chat completions, as vLLM, SGLang, Ollama and hosted services speak them: greedy, patient, counting.

What a server answers is data: it is parsed here, and its sentences are shortened before they are told.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from medvlp.models.api.completion import (
    EMPTY,
    STOP,
    ApiError,
    Completion,
    MalformedCompletion,
    parse_chunk,
    parse_completion,
    refused_question,
    sentence_of,
)
from medvlp.models.api.retrying import Backoff, Gate, is_transient, retry_after_s

KEY = "OPENAI_API_KEY"
TELLING = 8
"""Characters of a key's beginning that are masked as well. Shorter keys, such as `EMPTY`, are no secrets."""
Body = dict[str, Any]


class _Failure(Exception):
    """A request that failed in a way that passes. wait_s: what the server asks to wait, None where it does not."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class ApiClient:
    """One model behind one server. Threads may share a client.

    The key comes from OPENAI_API_KEY, where it is set; it is sent to the server and stands nowhere else.

    Args:
        base_url: up to and with `/v1`.
        model: as the server calls it.
        timeout_s: of a request, without a sign of life.
        backoff: how often and when a failed request is sent again.

    Raises:
        ApiError: the openai package is missing, or the key cannot stand in a request.
    """

    def __init__(self, base_url: str, model: str, timeout_s: float = 300.0, backoff: Backoff | None = None) -> None:
        try:
            import openai
        except ImportError:
            raise ApiError("models behind a server need the openai package: pip install 'medvlp[api]'") from None
        self.base_url, self.model, self.backoff = base_url, model, backoff or Backoff()
        self.requests = 0
        self._lock, self._gate = threading.Lock(), Gate(self._tell)
        self._key = _key_of_the_environment()
        self._openai = openai
        is_here = urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")
        self._client = openai.OpenAI(
            base_url=base_url,
            api_key=self._key or "none",  # servers of one's own want none, the package does
            timeout=openai.Timeout(timeout_s, connect=min(timeout_s, 15.0)),
            max_retries=0,  # they are counted here
            # A server elsewhere would see what was meant for this one; and no proxy stands before this machine.
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=not is_here),
        )

    @property
    def name(self) -> str:
        """As models are named."""
        return f"api:{self.base_url}#{self.model}"

    @property
    def host(self) -> str:
        """Where requests go: scheme, host and port."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def complete(self, body: Body, stop: threading.Event | None = None) -> Completion:
        """The completion of one request, sent again where it fails in a way that passes.

        body: messages and all parameters but the model. stop: ends the waiting, not a request that is under way.

        Raises:
            ApiError: a permanent error, or all retries have failed.
        """
        return self._patiently(lambda retries: self._request(body, retries), stop or threading.Event())

    def complete_all(self, jobs: Sequence[Callable[[threading.Event], None]], concurrency: int) -> None:
        """Run jobs that complete requests, so many at a time. jobs: each is given the event that ends its waiting.

        After the first error no further job begins; requests that are under way come to their end, so that nothing that was
        paid for is lost.

        Raises:
            ApiError and others: the first error of a job.
        """
        stop = threading.Event()
        executor = ThreadPoolExecutor(min(concurrency, len(jobs)) or 1, thread_name_prefix="api")
        try:
            futures = [executor.submit(job, stop) for job in jobs]
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()
        finally:
            stop.set()
            executor.shutdown(wait=True, cancel_futures=True)

    def stream(self, body: Body, write: Callable[[str], None]) -> Completion:
        """One answer, its pieces written as they come. A request that fails before the first piece is sent again.

        Raises:
            ApiError: as `complete`, or a stream that ends before the answer does.
        """
        return self._patiently(lambda retries: self._stream(body, write, retries), threading.Event())

    def _patiently(self, request: Callable[[int], Completion], stop: threading.Event) -> Completion:
        """The first completion that a request gives. request: told how many have failed."""
        retries, due = 0, 0.0
        while self._gate.passes(stop, due):
            with self._lock:
                self.requests += 1
            try:
                return request(retries)
            except _Failure as failure:
                if retries >= self.backoff.retries:
                    raise ApiError(
                        f"{self.name} failed {retries + 1} times in a row, at last with: {failure}. Run the command again when "
                        "the server is well: only what is missing is asked (api.retries and api.timeout_s give it longer)"
                    ) from None
                wait_s = self.backoff.wait_s(retries)
                if failure.wait_s is not None:
                    self._check_wait(failure.wait_s, str(failure))
                    self._gate.hold(failure.wait_s)
                    wait_s += failure.wait_s
                retries, due = retries + 1, time.monotonic() + wait_s
                self._gate.tell(f"{failure}, retry {retries} of {self.backoff.retries}", wait_s)
        raise ApiError(f"{self.name} is not asked any further")

    def _request(self, body: Body, retries: int) -> Completion:
        with self._failures() as rejections:
            create = self._client.chat.completions.with_raw_response.create
            return parse_completion(create(**self._arguments(body)).content, retries)
        return replace(rejections[0], retries=retries)

    def _stream(self, body: Body, write: Callable[[str], None], retries: int) -> Completion:
        text, finish = "", ""
        try:
            with self._failures() as rejections:
                for chunk in self._client.chat.completions.create(**self._arguments(body), stream=True):
                    piece, ending = parse_chunk(chunk)
                    write(piece)
                    text, finish = text + piece, ending or finish
                if not finish:
                    raise MalformedCompletion("the stream ended before the answer did")
                return Completion(text, finish if text.strip() or finish != STOP else EMPTY, retries=retries)
        except _Failure as failure:
            if text:
                raise ApiError(f"{self.name}: the answer was cut off: {failure}") from None
            raise
        return replace(rejections[0], retries=retries)

    @contextmanager
    def _failures(self) -> Iterator[list[Completion]]:
        """Errors of the package as ours; a question that the server does not take is put into the list."""
        openai, rejections = self._openai, list[Completion]()
        try:
            yield rejections
        except openai.APIStatusError as error:
            rejections.append(self._refused(error))
        except openai.APITimeoutError:
            raise _Failure("no answer in time") from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            reason = f"no connection ({type(cause).__name__}: {cause})" if cause else str(error)
            raise _Failure(self._without_key(reason)) from None
        except openai.APIError as error:  # told in a stream
            raise _Failure(self._without_key(sentence_of(error.body) or str(error))) from None
        except (MalformedCompletion, json.JSONDecodeError) as error:  # the latter in a stream
            raise _Failure(self._without_key(str(error))) from None

    def _arguments(self, body: Body) -> Body:
        extra = {name: value for name, value in body.items() if name != "messages"}
        return {"model": self.model, "messages": body["messages"], "extra_body": extra}

    def _refused(self, error: Any) -> Completion:
        """The completion of a question that the server does not take. Raises _Failure or ApiError for all other statuses."""
        status, code = int(error.status_code), str(error.code or error.type or "")
        sentence = self._without_key(sentence_of(error.body) or sentence_of(error.response.text))
        if is_transient(status, code):
            raise _Failure(f"status {status} ({sentence or 'no reason given'})", retry_after_s(error.response.headers))
        if finish := refused_question(status, code, sentence):
            return Completion("", finish)
        raise ApiError(self._permanent(status, sentence, error.response.headers))

    def _permanent(self, status: int, sentence: str, headers: Mapping[str, str]) -> str:
        quoted = f": {sentence}" if sentence else ""
        if status in (401, 403):
            is_set = "is not the key of this service" if self._key else "is not set"
            return (
                f"{self.name} refuses access (status {status}{quoted}); {KEY} {is_set}: export the key, and run again"
            )
        if status == 404:
            names = self._model_names()
            models = f"it has {', '.join(names)}" if names else "its address usually ends in /v1"
            return f"{self.name} knows no such model or address (status 404{quoted}); {models}"
        if status == 429:
            return f"{self.name} has no quota left (status 429{quoted}); what was answered is kept"
        if 300 <= status < 400:
            target = self._without_key(str(headers.get("location", "elsewhere"))[:200])
            return f"{self.name} sends on to {target}; name that address if images and questions may go there"
        return f"{self.name} refuses the request (status {status}{quoted})"

    def _model_names(self) -> list[str]:
        try:
            return sorted(str(model.id)[:80] for model in self._client.models.list().data)[:20]
        except Exception:  # only for a message: whatever fails here says less than the error that is being told
            return []

    def _check_wait(self, wait_s: float, reason: str) -> None:
        if wait_s > self.backoff.longest_s:
            raise ApiError(
                f"{self.name} asks to wait {wait_s:.0f} s, and {self.backoff.longest_s:.0f} s are waited at most "
                f"(api.longest_wait_s): {reason}; what was answered is kept: run the command again then"
            )

    def _without_key(self, text: str) -> str:
        """The text, its key masked; of one that was cut with the text, what is left of it."""
        for length in range(len(self._key), TELLING - 1, -1):
            text = text.replace(self._key[:length], "***")
        return text

    def _tell(self, line: str) -> None:
        print(f"{self.name}: {line}", file=sys.stderr, flush=True)


def _key_of_the_environment() -> str:
    """The key without what a file with other line ends puts around it; "" where none is set. Raises ApiError."""
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not key.isprintable():
        raise ApiError(f"{KEY} holds characters that no key has (not printable, or not ASCII): export it again")
    return key
