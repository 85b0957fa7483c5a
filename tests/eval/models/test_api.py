"""A model behind a server, as tasks ask it: nothing that was answered is lost or asked twice, whatever fails."""

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from medvlp.builders.models import open_model
from medvlp.config import EvalConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.model_names import parse_model_name
from medvlp.eval.models.api import ApiModel, encoded_image
from medvlp.eval.vqa.questions import QuestionFilter
from medvlp.eval.vqa.task import Vqa
from medvlp.models.api.completion import ApiError
from medvlp.shards import BadSample
from tests.api_client import answers, api_model
from tests.api_server import MODEL, Request, completion, serving
from tests.datasets import jpeg
from tests.eval.vqa.test_task import CHOICE, FOUR, NO_INTERVALS, dataset, sample
from tests.models.hf.families import CHAT
from tests.models.hf.stock import Stock

SAMPLES = [*FOUR, sample(4, CHOICE), sample(5, [("Is it large?", "no", "closed", {})], images=2)]
QUESTIONS = 9
REQUESTS = 9 + 5 + 6
"""About own images, blank ones (the same question about as many of them is one request), and exchanged ones (three of these
questions were asked about their own image, too)."""


def says(request: Request) -> str:
    """An answer that depends on every word and every image."""
    digest = hashlib.sha256(request.text().encode() + b"".join(request.images())).hexdigest()
    return f"{random.Random(digest).choice(['yes', 'no', 'left lung'])} {digest[:6]}"


def model_of(server, folder, **options) -> ApiModel:
    return api_model(server.url, folder, **options)


def run(shards, model, **options):
    return Vqa("made", shards, bootstrap=NO_INTERVALS, **{"batch_size": 4} | options).run(model)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return dataset(tmp_path_factory.mktemp("api") / "data", SAMPLES)


def test_a_task_is_answered_and_the_second_run_sends_nothing(shards, tmp_path, capsys):
    with serving(says) as server:
        result = run(shards, model_of(server, tmp_path))
        host = server.url.removesuffix("/v1")
        assert f"images and questions are sent to {host}\n" in capsys.readouterr().out
        assert sum(server.answered.values()) == len(server.answered) == REQUESTS
    # The server is gone.
    assert repr(run(shards, model_of(server, tmp_path))) == repr(result)
    assert "are sent to" not in capsys.readouterr().out
    assert result.protocol["usage"] == {
        "requests": REQUESTS,
        "retries": 0,
        "prompt_tokens": 7 * REQUESTS,
        "completion_tokens": 3 * REQUESTS,
        "images": REQUESTS + 3,
        "images_as_png": 0,
    }
    assert result.protocol["endings"] == {
        name: {"stop": QUESTIONS} for name in ("responses", "blank_image", "shuffled_images")
    }
    assert result.protocol["decoding"] == "greedy, at most 64 tokens"
    assert result.protocol["penalties"] == "as the server has them"
    assert result.protocol["weights"] == f"unknown (api:{server.url}#{MODEL})"
    assert set(result.protocol["omitted"].values()) == {"the model offers no loglikelihood"}
    assert {record["finish"] for record in result.records} == {"stop"}


def test_what_is_sent(shards, tmp_path):
    with serving(says) as server:
        run(shards, model_of(server, tmp_path, concurrency=1), controls=())
    first = server.requests[0]
    image = shards.read(0).images["jpg"]
    assert first.images() == [image]
    (turn,) = first.body["messages"]
    assert [part["type"] for part in turn["content"]] == ["image_url", "text"]
    assert turn["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert turn["content"][1]["text"] == "Is it large?"
    others = {name: value for name, value in first.body.items() if name != "messages"}
    assert others == {"model": MODEL, "temperature": 0, "max_tokens": 64, "seed": 0}
    assert [len(request.images()) for request in server.requests].count(2) == 1


def test_parameters_are_sent_and_change_what_is_asked_again(shards, tmp_path):
    with serving(says) as server:
        run(shards, model_of(server, tmp_path), controls=())
        parameters = {"seed": None, "chat_template_kwargs": {"enable_thinking": False}}
        run(shards, model_of(server, tmp_path, parameters=parameters), controls=())
        assert len(server.requests) == 2 * QUESTIONS
        body = server.requests[-1].body
        assert "seed" not in body
        assert body["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("concurrency", [1, 8])
def test_answers_do_not_depend_on_order_or_failures(shards, tmp_path, concurrency):
    """A third of all requests fails, in every way that passes; answers come in any order."""
    with serving(says) as server:
        expected = run(shards, model_of(server, tmp_path / "calm"))
    chance, lock = random.Random(0), threading.Lock()

    def failing(request: Request) -> bool:
        with lock:
            number, delay = chance.randrange(18), chance.random() / 50
        time.sleep(delay)
        failures = [
            lambda: request.error(429, Retry_After="0"),
            lambda: request.error(500),
            lambda: request.cut(completion("half")[:30]),
            lambda: request.cut(b""),
            lambda: request.send(200, b'{"choices": [{"message"'),
            lambda: bool(time.sleep(0.4)) or request.send(200, completion("too late")),
        ]
        return failures[number]() if number < len(failures) else False

    with serving(says, failing) as server:
        result = run(shards, model_of(server, tmp_path / "stormy", concurrency=concurrency, timeout_s=0.3))
        assert server.most_at_once <= 2 * concurrency  # a server still works on what a client has given up
    assert (result.records, repr(result.metrics)) == (expected.records, repr(expected.metrics))
    assert set(server.answered.values()) == {1}
    assert result.protocol["usage"]["retries"] == result.protocol["usage"]["requests"] - REQUESTS > 0
    assert result.protocol["usage"]["completion_tokens"] == 3 * REQUESTS


MANY = [
    sample(number, [("Is it large?", "no", "closed", {}), (f"Where is {number}?", "left", "open", {})])
    for number in range(12)
]


def client(server, shards, folder, concurrency) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.api_client", server.url, str(shards.folder), str(folder), str(concurrency)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_client_loses_and_repeats_nothing_that_was_answered(tmp_path):
    """Killed twice while the server holds a request: what it had answered before is never asked again."""
    shards = dataset(tmp_path / "data", MANY)
    clients: list[subprocess.Popen] = []
    deaths = [4, 15]

    def killing(request: Request) -> bool:
        if deaths and sum(server.answered.values()) >= deaths[0]:
            deaths.pop(0)
            os.kill(clients[-1].pid, signal.SIGKILL)
            return request.cut(b"")
        return False

    with serving(says, killing) as server:
        for _ in range(2):
            clients.append(client(server, shards, tmp_path, 1))
            clients[-1].communicate()
        assert [process.returncode for process in clients] == [-signal.SIGKILL, -signal.SIGKILL]
        assert 15 <= len(server.answered) < 24
        texts = answers(model_of(server, tmp_path), shards)
        assert len(server.answered) == 24
        assert set(server.answered.values()) == {1}
    with serving(says) as other:
        assert texts == answers(model_of(other, tmp_path / "other"), shards)


def test_two_processes_share_the_answers(tmp_path):
    shards = dataset(tmp_path / "data", MANY)

    def slow(request: Request) -> bool:
        time.sleep(0.03)
        return False

    with serving(says, slow) as server:
        process = client(server, shards, tmp_path, 2)
        while not server.requests and process.poll() is None:
            time.sleep(0.01)
        answers(model_of(server, tmp_path, concurrency=2), shards)
        assert process.communicate()[0][-5:] == "done\n"
        assert len(server.answered) == 24
        assert set(server.answered.values()) == {1}


def test_a_permanent_error_ends_the_run_and_keeps_the_answers(shards, tmp_path):
    with serving(says) as server:
        server.fault = lambda request: len(server.requests) > 6 and request.error(401, "expired")
        with pytest.raises(ApiError, match="status 401: expired"):
            run(shards, model_of(server, tmp_path, concurrency=2))
        answered = sum(server.answered.values())
        assert answered == 6
        server.fault = lambda request: False
        run(shards, model_of(server, tmp_path))
        assert set(server.answered.values()) == {1}
        assert len(server.answered) == REQUESTS


def test_a_question_that_is_too_long_for_the_server_is_excluded_and_named(shards, tmp_path):
    sentence = "This model's maximum context length is 64 tokens. However, you requested 80"

    def fault(request: Request) -> bool:
        return len(request.images()) == 2 and request.error(400, sentence)

    with serving(says, fault) as server:
        result = run(shards, model_of(server, tmp_path))
        question = "made__5__0__0#0"
        assert result.protocol["excluded"] == {"too_long": 1}
        assert result.protocol["not_taken"] == {question: "too_long"}
        assert any("too long for the model" in line for line in result.protocol["exclusions"])
        assert question not in {record["id"] for record in result.records}
        assert result.protocol["n"] == QUESTIONS - 1
        server.fault = lambda request: False  # with a larger context
        assert run(shards, model_of(server, tmp_path)).protocol["n"] == QUESTIONS


def test_answers_without_words_are_recorded_as_such(shards, tmp_path):
    def fault(request: Request) -> bool:
        text = request.text()
        if "Where" in text:
            return request.send(200, completion(None, "content_filter"))
        if "Left or right" in text:
            return request.send(200, completion("left and then", "length"))
        return False

    with serving(says, fault) as server:
        result = run(shards, model_of(server, tmp_path), controls=())
    by_question = {record["question"]: record for record in result.records}
    assert (by_question["Where is it?"]["prediction"], by_question["Where is it?"]["finish"]) == ("", "content_filter")
    assert by_question["Left or right?"]["finish"] == "length"
    assert result.protocol["endings"]["responses"] == {"content_filter": 2, "length": 1, "stop": QUESTIONS - 3}


def test_a_language_model_is_sent_no_image(shards, tmp_path):
    with serving(says) as server:
        result = run(shards, model_of(server, tmp_path, images=False))
    assert not any(request.images() for request in server.requests)
    assert result.protocol["images"].startswith("withheld")


def png(picture: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_images_go_as_they_are_or_as_png_of_the_same_pixels():
    plain = jpeg(1)
    assert encoded_image(plain, 10**6).data == plain
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(plain)).save(turned, "JPEG", exif=exif)
    image = encoded_image(turned.getvalue(), 10**6)
    assert image.is_reencoded
    assert image.sha256 == hashlib.sha256(turned.getvalue()).hexdigest()
    upright = np.asarray(Image.open(io.BytesIO(turned.getvalue())).transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.data))), upright)
    assert encoded_image(png(Image.new("RGBA", (4, 4), (0, 0, 0, 0))), 10**6).is_reencoded
    with pytest.raises(BadSample):
        encoded_image(plain[:100], 10**6)
    with pytest.raises(BadSample):
        encoded_image(plain, 10)


def test_the_log_holds_no_key_and_no_words_of_the_question(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-made-secret")
    with serving(says) as server:
        model = model_of(server, tmp_path)
        result = run(shards, model)
    content = model.log.path.read_text()
    assert "sk-made" not in content + json.dumps(result.protocol) + json.dumps(result.records)
    assert "Is it large" not in content


def test_behind_a_server_a_model_answers_as_hf_does(tmp_path):
    """The server is stock transformers: chat template, processor and `generate` of the same folder."""
    folder = CHAT["llava"](tmp_path / "model")
    stock, lock = Stock(folder), threading.Lock()

    def generates(request: Request) -> str:
        pictures = [Image.open(io.BytesIO(data)).convert("RGB") for data in request.images()]
        with lock:
            return stock.answer(request.text(), pictures, request.body["max_tokens"])

    shards = dataset(tmp_path / "data", SAMPLES)
    config = EvalConfig(checkpoints=["x"], tasks=["y"], cache=CacheConfig(max_gb=0))
    model = open_model(parse_model_name(f"hf:{folder}"), "cpu", config)
    options = {"question_filter": QuestionFilter("Be brief.", max_new_tokens=7), "controls": ("shuffled_images",)}
    expected = run(shards, model, **options).records
    with serving(generates) as server:
        records = run(shards, model_of(server, tmp_path), **options).records
    assert {record.pop("finish") for record in records} == {"stop"}
    assert [said(record) for record in records] == [said(record) for record in expected]
    assert len({record["prediction"] for record in records}) > QUESTIONS // 2


def said(record):
    return record["id"], record["question"], record["prediction"], record["controls"]
