"""Models behind a server of chat completions, as tasks ask them. What was answered is kept before it is used."""

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from medvlp.config import ApiConfig
from medvlp.data.chat.templates import split_thought
from medvlp.data.images.decode import VERSION, decode_with_changes
from medvlp.eval.errors import TaskError
from medvlp.eval.models.answering import Answer, Prompt, Sampling
from medvlp.eval.store.responses import BLANK, KeyLocks, ResponseLog, question_key
from medvlp.jsonl import Row
from medvlp.models.api.client import ApiClient
from medvlp.models.api.completion import NOT_ASKED, Completion
from medvlp.models.api.messages import EncodedImage, data_url, media_type, message
from medvlp.shards import BadSample, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN
from medvlp.terminal import harmless

Images = tuple[EncodedImage, ...]
FORMAT = 1
"""Of requests: raised where the same turns and images become other messages."""
BLANK_SIDE, BLANK_GREY = 336, 127
"""Pixels of an image that shows nothing, and their value: a server does not say what its mean colour is."""
SURROGATE = re.compile("[\ud800-\udfff]")
POLL_S = 0.2
"""Seconds between looks for an answer that another process has asked for."""


class ApiModel:
    """A model behind a server. It generates; servers give no likelihoods of answers that are given to them.

    Args:
        client: of the server.
        config: temperature and the like.
        log: what it has answered. Its parts are `answer_parts`.
        max_pixels: larger images are bad samples.
    """

    offers = ("generate",)

    def __init__(
        self,
        client: ApiClient,
        config: ApiConfig,
        log: ResponseLog,
        max_pixels: int,
    ) -> None:
        self.client, self.config, self.log, self.max_pixels = client, config, log, max_pixels
        self._locks = KeyLocks(log.path.with_suffix(".lock") if log.path else None)
        self._is_told, self._telling = False, threading.Lock()

    def kept_in(self, root: Path | None) -> "ApiModel":
        """The same model, whose answers are kept in the folder of a store. Raises ShardError: they cannot be read."""
        return ApiModel(self.client, self.config, ResponseLog(root, self.log.parts), self.max_pixels)

    @property
    def identity(self) -> str:
        """Server and model: what weights stand behind them is unknown."""
        return f"unknown ({self.client.name})"

    @property
    def prompts_at_once(self) -> int:
        """Prompts that `generate` should be given together, so that the end of a batch costs little."""
        return 4 * self.config.concurrency

    @property
    def takes_images(self) -> bool:
        """Whether images are sent."""
        return self.config.images

    @property
    def takes_several_images(self) -> bool:
        """Messages do; what the server makes of them, only it knows."""
        return self.config.images

    def pictures(self, sample: Sample) -> Images:
        """A sample's images: the publisher's bytes, or PNG where they have to be shown in another way. Raises BadSample."""
        return tuple(encoded_image(sample.images[name], self.max_pixels) for name in sorted(sample.images))

    def gathered(self, images: Sequence[tuple[Images, int]]) -> Images:
        """Images of several samples as those of one."""
        return tuple(of_sample[position] for of_sample, position in images)

    def blank(self, count: int) -> Images:
        """So many grey images."""
        return (EncodedImage(_png(Image.new("RGB", (BLANK_SIDE,) * 2, (BLANK_GREY,) * 3)), BLANK),) * count

    def fits(
        self,
        turns: Sequence[Turn],
        option_turns: Sequence[Turn],
        images: Sequence[bytes],
        options: Iterable[str],
        max_new_tokens: int,
    ) -> bool:
        """True: only the server knows. Raises BadSample: `placeholder_count`, `broken_text`."""
        placeholders = sum(turn.text.count(IMAGE_TOKEN) for turn in turns)
        if placeholders != len(images):
            raise BadSample("placeholder_count", detail=f"{placeholders} × {IMAGE_TOKEN} for {len(images)} images")
        if any(SURROGATE.search(turn.text) for turn in turns):
            raise BadSample("broken_text", detail="half of a pair of characters, which no request can hold")
        return True

    def prompt_text(self, turns: Sequence[Turn], images: int) -> str:
        """The messages as JSON, with `<image>` for the data of an image. The template is the server's."""
        return json.dumps(messages_of(turns, [IMAGE_TOKEN] * images), ensure_ascii=False)

    def generate(self, prompts: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        """The answer to each prompt, of which the log gives what it holds; with `finish` and `usage`.

        Raises:
            ApiError: the server cannot be asked, or does not answer.
        """
        return self._answers([(prompt, {"max_new_tokens": max_new_tokens}) for prompt in prompts])

    def sample(
        self, prompts: Sequence[Prompt], numbers: Sequence[int], sampling: Sampling, max_new_tokens: int
    ) -> list[str]:
        """A sampled answer to each prompt, kept under its number and seed. A server need not heed the seed.

        Raises:
            ApiError: as `generate`.
            TaskError: api.parameters set the temperature too.
        """
        if fixed := [name for name in ("temperature", "top_p") if name in self.config.parameters]:
            raise TaskError(
                f"{self.client.name}: api.parameters.{fixed[0]} is set, and the task samples at a temperature of its own; leave "
                f"one of the two out"
            )
        requests = [{"max_new_tokens": max_new_tokens, **sampling.request(number)} for number in numbers]
        return self._answers(list(zip(prompts, requests, strict=True)))

    def _answers(self, questions: Sequence[tuple[Prompt, Row]]) -> list[str]:
        """questions: prompts, and what decides an answer next to each."""
        keys = [_key(prompt, request) for prompt, request in questions]
        if any(self.log.get(key) is None for key in keys):
            self.log.refresh()
        missing = {key: question for key, question in zip(keys, questions, strict=True) if self.log.get(key) is None}
        not_asked: dict[str, Row] = {}
        jobs = [partial(self._answer, key, *question, not_asked) for key, question in missing.items()]
        self.client.complete_all(jobs, self.config.concurrency)
        return [answer_of(self.log.get(key) or not_asked[key], key) for key in keys]

    def stream(self, prompt: Prompt, max_new_tokens: int, output: TextIO) -> str:
        """The answer to a prompt, its pieces written as they come; nothing of it is kept. Raises ApiError."""

        def write(piece: str) -> None:
            output.write(harmless(piece))
            output.flush()

        self._tell()
        completion = self.client.stream(self._body(prompt, {"max_new_tokens": max_new_tokens}), write)
        return Answer(harmless(completion.text), completion.finish)

    def metadata(self) -> dict[str, Any]:
        """How the server is asked."""
        return {
            "server": self.client.base_url,
            "model": self.client.model,
            "penalties": "as the server has them",
            "parameters": fixed_parameters(self.config),
            "template": "the server's",
            "blank_image": f"{BLANK_SIDE} × {BLANK_SIDE} pixels of grey {BLANK_GREY}",
            "image_files": "the publisher's bytes; PNG where they are turned, scaled to 8 bits or have transparent pixels",
        }

    def _answer(self, key: str, prompt: Prompt, request: Row, not_asked: dict[str, Row], stop: Any) -> None:
        """Have the log hold an answer. One of several processes asks, the others wait for it."""
        while not self._locks.take(key):
            if stop.wait(POLL_S):
                return
            self.log.refresh()
            if self.log.get(key):
                return
        try:
            self.log.refresh()
            if self.log.get(key):
                return
            self._tell()
            completion = self.client.complete(self._body(prompt, request), stop)
            row = response_row(completion, prompt.pixels)
            if completion.finish in NOT_ASKED:
                not_asked[key] = row
            else:
                self.log.add({key: row})
        finally:
            self._locks.release(key)

    def _body(self, prompt: Prompt, request: Row) -> Row:
        urls = [data_url(image.data) for image in prompt.pixels]
        parameters = request_parameters(self.config, request["max_new_tokens"])
        if "sample" in request:
            sampling = Sampling(request["temperature"], request["top_p"], request["seed"])
            seed = sampling.seed_of(prompt.turns, request["sample"]) % 2**31  # what servers take as one
            parameters |= {"temperature": sampling.temperature}
            parameters |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
            parameters |= {"seed": seed} if "seed" in parameters else {}
        return {"messages": messages_of(prompt.turns, urls), **parameters}

    def _tell(self) -> None:
        with self._telling:
            if not self._is_told:
                self._is_told = True
                print(f"{self.client.name}: images and questions are sent to {self.client.host}", flush=True)


def _key(prompt: Prompt, request: Row) -> str:
    return question_key(prompt.turns, [image.sha256 for image in prompt.pixels], request)


def request_parameters(config: ApiConfig, max_new_tokens: int) -> Row:
    """All of a request but its model and messages: greedy, and what the configuration adds or takes away (null)."""
    parameters = {"temperature": 0, "max_tokens": max_new_tokens, "seed": config.seed, **config.parameters}
    return {name: value for name, value in parameters.items() if value is not None}


def fixed_parameters(config: ApiConfig) -> Row:
    """Those that are the same for all questions of all tasks."""
    parameters = request_parameters(config, 0)
    return (
        parameters if "max_tokens" in config.parameters else parameters | {"max_tokens": "max_new_tokens of the task"}
    )


def answer_parts(client: ApiClient, config: ApiConfig, max_pixels: int) -> Row:
    """What decides an answer next to the question."""
    return {
        "kind": "api",
        "server": client.base_url,
        "model": client.model,
        "parameters": fixed_parameters(config),
        "images": {"decoding": VERSION, "max_pixels": max_pixels, "blank": [BLANK_SIDE, BLANK_GREY]},
        "format": FORMAT,
    }


def response_row(completion: Completion, images: Images) -> Row:
    """A completion as the log holds it."""
    return {
        "text": completion.text,
        "finish": completion.finish,
        "model": completion.model,
        "images": [image.sha256 for image in images],
        "usage": {
            "requests": 1 + completion.retries,
            "retries": completion.retries,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "images": len(images),
            "images_as_png": sum(image.is_reencoded for image in images),
        },
    }


def answer_of(row: Row, key: str) -> Answer:
    """An answer that the log holds."""
    return Answer(str(row["text"]), str(row["finish"]), row["usage"], key)


def messages_of(turns: Sequence[Turn], urls: Sequence[str]) -> list[Row]:
    """The messages of a conversation, answers without their thoughts. urls: of its images, in the order of the placeholders."""
    remaining = iter(urls)
    texts = [split_thought(turn.text)[1] if turn.role == "assistant" else turn.text for turn in turns]
    return [message(turn.role, text.split(IMAGE_TOKEN), remaining) for turn, text in zip(turns, texts, strict=True)]


def encoded_image(data: bytes, max_pixels: int) -> EncodedImage:
    """An image file for a server: its own bytes where every reader shows them as we do, else PNG without loss.

    Raises:
        BadSample: as `decode_with_changes`.
    """
    digest = hashlib.sha256(data).hexdigest()
    picture, changes = decode_with_changes(data, max_pixels)
    if changes or not media_type(data):
        return EncodedImage(_png(picture), digest, is_reencoded=True)
    return EncodedImage(data, digest)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
