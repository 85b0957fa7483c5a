"""A client of chat completions: what is asked again, what is given up at once, and what a person is told."""

import email.utils
import threading
import time

import httpx
import pytest

from medvlp.models.api.client import ApiClient
from medvlp.models.api.completion import MOST_OF_A_SENTENCE, ApiError, Completion, MalformedCompletion, parse_completion
from medvlp.models.api.retrying import Backoff, Gate, retry_after_s
from tests.api_server import MODEL, Request, completion, serving, stream_of

FAST = Backoff(retries=3, first_s=0.01, longest_s=5.0)
BODY = {"messages": [{"role": "user", "content": "Is it?"}], "temperature": 0, "max_tokens": 5, "seed": 0}


def answer(request: Request) -> str:
    return f"to {request.text()}"


def first(*faults):
    """A fault that answers the first requests, one each."""
    remaining, lock = list(faults), threading.Lock()

    def fault(request: Request) -> bool:
        with lock:
            step = remaining.pop(0) if remaining else None
        return bool(step and step(request))

    return fault


def client_of(server, **options) -> ApiClient:
    return ApiClient(
        server.url, options.pop("model", MODEL), options.pop("timeout_s", 5.0), Backoff(**vars(FAST) | options)
    )


def test_a_request_is_greedy_and_its_usage_is_counted():
    with serving(answer) as server:
        client = client_of(server)
        assert client.complete(BODY) == Completion("to Is it?", "stop", 7, 3, 0, MODEL)
    (request,) = server.requests
    assert request.body == {"model": MODEL, **BODY}
    assert client.requests == 1


PASSING = {
    "429": lambda request: request.error(429, "slow down", Retry_After="0"),
    "408": lambda request: request.error(408),
    "409": lambda request: request.error(409),
    "500": lambda request: request.error(500),
    "503 with a page": lambda request: request.send(503, b"<html>busy</html>", Content_Type="text/html"),
    "cut in the body": lambda request: request.cut(completion("half")[:40]),
    "cut before a byte": lambda request: request.cut(b""),
    "no JSON": lambda request: request.send(200, b'{"choices": [{"mess'),
    "other JSON": lambda request: request.send(200, b'["no completion"]'),
    "an error with 200": lambda request: request.send(200, b'{"error": {"message": "upstream is down", "code": 502}}'),
}


@pytest.mark.parametrize("failure", PASSING.values(), ids=list(PASSING))
def test_what_passes_is_asked_again(failure):
    with serving(answer, first(failure, failure)) as server:
        assert client_of(server).complete(BODY) == Completion("to Is it?", "stop", 7, 3, 2, MODEL)
    assert len(server.requests) == 3
    assert sum(server.answered.values()) == 1


def test_a_server_that_does_not_answer_in_time_is_asked_again():
    release = threading.Event()
    with serving(answer, first(lambda request: not release.wait(5))) as server:
        assert client_of(server, timeout_s=0.2).complete(BODY).retries == 1
        release.set()


def test_retry_after_holds_all_threads():
    """No request reaches the server while it asks to wait."""
    times, lock = [], threading.Lock()
    refusal_at = []

    def fault(request: Request) -> bool:
        with lock:
            times.append(time.monotonic())
            if not refusal_at:
                refusal_at.append(times[-1])
                return request.error(429, Retry_After="0.3")
        time.sleep(0.02)
        return False

    with serving(answer, fault) as server:
        client = client_of(server)
        bodies = [{**BODY, "messages": [{"role": "user", "content": str(n)}]} for n in range(6)]
        jobs = [lambda stop, body=body: client.complete(body, stop) for body in bodies]
        client.complete_all(jobs, 1)
        assert len(times) == 7
        assert times[1] - refusal_at[0] >= 0.3


def test_retries_end_and_say_what_failed():
    with serving(answer, lambda request: request.error(503, "overloaded")) as server:
        with pytest.raises(ApiError, match=r"failed 4 times in a row, at last with: status 503 \(overloaded\)"):
            client_of(server).complete(BODY)
        assert len(server.requests) == 4


PERMANENT = {
    "key": ((401, "Incorrect key"), r"refuses access \(status 401: Incorrect key\); OPENAI_API_KEY is not set"),
    "model": ((404, "no model x"), r"status 404: no model x\); it has made"),
    "request": (
        (400, "max_tokens is not supported"),
        r"refuses the request \(status 400: max_tokens is not supported\)",
    ),
    "max_tokens": ((400, "max_tokens: 100000 exceeds the limit of this model's answers"), r"max_tokens: 100000"),
    "quota": ((429, "pay first", "insufficient_quota"), r"no quota left \(status 429: pay first\)"),
}


@pytest.mark.parametrize(("error", "sentence"), PERMANENT.values(), ids=list(PERMANENT))
def test_what_does_not_pass_is_told_at_once(error, sentence, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(answer, lambda request: request.error(*error)) as server:
        with pytest.raises(ApiError, match=sentence):
            client_of(server).complete(BODY)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("error", "finish"),
    [
        ((400, "This model's maximum context length is 64 tokens. However, you requested 80"), "too_long"),
        ((400, "the request exceeds the available context size", "exceed_context_size_error"), "too_long"),
        ((400, "nope", "context_length_exceeded"), "too_long"),
        ((400, "the number of tokens (9000) exceeds what the model takes"), "too_long"),
        ((413, "Payload Too Large"), "too_large"),
        ((400, "filtered by policy", "content_filter"), "content_filter"),
    ],
)
def test_a_question_that_is_not_taken_ends_alone(error, finish):
    with serving(answer, first(lambda request: request.error(*error))) as server:
        client = client_of(server)
        assert client.complete(BODY) == Completion("", finish)
        assert client.complete(BODY).text == "to Is it?"


@pytest.mark.parametrize(
    ("body", "text", "finish"),
    [
        (completion(None, "content_filter"), "", "content_filter"),
        (completion("", "stop"), "", "empty"),
        (completion(None, "stop", refusal="I will not"), "", "refusal"),
        (completion("half a sen", "length"), "half a sen", "length"),
        (completion([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]), "in parts", "stop"),  # type: ignore[arg-type]
    ],
)
def test_answers_without_words_say_why(body, text, finish):
    parsed = parse_completion(body)
    assert (parsed.text, parsed.finish) == (text, finish)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": 7}}]}']
)
def test_another_body_is_no_completion(body):
    with pytest.raises(MalformedCompletion):
        parse_completion(body)


def test_waits_that_servers_ask_for():
    assert retry_after_s({"retry-after": "3"}) == 3.0
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "3"}) == 0.25
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert 55 < (retry_after_s({"retry-after": date}) or 0) <= 60
    for value in ("soon", "nan", "inf", "-inf"):
        assert retry_after_s({"retry-after": value}) is None
        assert retry_after_s({"retry-after-ms": value, "retry-after": "3"}) == 3.0
    assert retry_after_s({}) is None


def test_a_wait_that_is_too_long_is_not_waited_for():
    fault = first(lambda request: request.error(429, "tomorrow", Retry_After="86400"))
    sentence = r"asks to wait 86400 s.*tomorrow.*what was answered is kept"
    with serving(answer, fault) as server, pytest.raises(ApiError, match=sentence):
        client_of(server).complete(BODY)


def test_the_key_reaches_the_server_and_no_message(monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-made-secret")
    monkeypatch.setattr(Gate, "LONG_S", 0.0)
    fault = first(lambda r: r.error(500, "sk-made-secret?"), lambda r: r.error(401, "bad sk-made-secret"))
    sentence = r"bad \*\*\*\); OPENAI_API_KEY is not the key"
    with serving(answer, fault) as server, pytest.raises(ApiError, match=sentence) as error:
        client_of(server, retries=1).complete(BODY)
    assert server.requests[0].headers["authorization"] == "Bearer sk-made-secret"
    assert "sk-made-secret" not in str(error.value) + (printed := capsys.readouterr().err)
    assert "status 500 (***?), retry 1 of 1; next try in" in printed


def test_a_word_in_a_keys_place_is_no_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    with (
        serving(answer, lambda request: request.error(400, "maximum, extra")) as server,
        pytest.raises(ApiError, match="maximum, extra"),
    ):
        client_of(server).complete(BODY)


def test_a_key_comes_without_the_ends_of_its_line(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-made-secret\r\n")
    with serving(answer) as server:
        client_of(server).complete(BODY)
    assert server.requests[0].headers["authorization"] == "Bearer sk-made-secret"


@pytest.mark.parametrize("key", ["sk-made\rsecret", "sk-made-secret\u2019", "sk-made\x7fsecret"])
def test_a_key_that_no_request_can_carry_is_refused_and_not_told(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ApiError, match="OPENAI_API_KEY holds characters that no key has") as error:
        ApiClient("http://127.0.0.1:9/v1", MODEL)
    assert "made" not in str(error.value)


def test_a_sentence_that_is_cut_within_the_key_tells_nothing_of_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-made-secret")
    for cut in range(8, 14):
        sentence = "x" * (MOST_OF_A_SENTENCE - cut) + "sk-made-secret"
        with serving(answer, lambda request, sentence=sentence: request.error(400, sentence)) as server:
            with pytest.raises(ApiError, match=r"x\*\*\*\)") as error:
                client_of(server).complete(BODY)
            assert "sk-made" not in str(error.value)


def test_what_the_connection_says_is_told_without_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-made-secret")

    def refuse(request):
        raise httpx.LocalProtocolError(f"illegal header {request.headers['authorization']}")

    client = ApiClient("http://127.0.0.1:9/v1", MODEL, 1.0, Backoff(retries=0))
    monkeypatch.setattr(client._client._client, "_transport", httpx.MockTransport(refuse))
    monkeypatch.setattr(client._client._client, "_mounts", {})
    with pytest.raises(ApiError, match=r"no connection \(LocalProtocolError: illegal header Bearer \*\*\*\)"):
        client.complete(BODY)


def test_nothing_is_sent_on_to_another_server():
    with serving(answer) as other:
        redirect = lambda request: request.send(307, b"", Location=f"{other.url}/chat/completions")  # noqa: E731
        with serving(answer, redirect) as server, pytest.raises(ApiError, match=f"sends on to {other.url}"):
            client_of(server).complete(BODY)
        assert not other.requests


def test_the_first_error_ends_the_rest():
    """Jobs that are under way come to their end; no further ones begin."""
    with serving(answer, lambda request: "4" in request.text() and request.error(400, "no")) as server:
        client = client_of(server)
        answers = []
        bodies = [{**BODY, "messages": [{"role": "user", "content": str(n)}]} for n in range(40)]
        jobs = [lambda stop, body=body: answers.append(client.complete(body, stop)) for body in bodies]
        with pytest.raises(ApiError, match="status 400"):
            client.complete_all(jobs, 2)
        assert sum(server.answered.values()) == len(answers)
        assert 4 <= len(answers) < 12
        assert server.most_at_once <= 2


def test_a_stream_writes_its_pieces_and_a_cut_one_says_so():
    with serving(answer, first(lambda request: request.error(503))) as server:
        pieces: list[str] = []
        assert client_of(server).stream(BODY, pieces.append) == Completion("to Is it?", "stop", retries=1)
        assert [piece for piece in pieces if piece] == ["to", " Is", " it?"]
    events = stream_of("one two three").split(b"\n\n")
    half = b"\n\n".join(events[:2]) + b"\n\n"
    with serving(answer, lambda request: request.send(200, half, Content_Type="text/event-stream")) as server:
        with pytest.raises(ApiError, match="the answer was cut off"):
            client_of(server).stream(BODY, pieces.append)
        assert len(server.requests) == 1
