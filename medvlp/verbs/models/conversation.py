"""A conversation with a model about images, its answers written as they come."""

import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from medvlp.builders.models import model_kind_of, named_model
from medvlp.config import AskConfig, ConfigError, EvalConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.model_names import parse_model_name
from medvlp.data.images.decode import FORMATS, changes_in_words, decode_with_changes
from medvlp.errors import UserError
from medvlp.eval.models.answering import Answer, AnsweringModel, Prompt, without_images
from medvlp.shards import BadSample, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

MAX_FILE_BYTES = 2**28
ENDINGS = {
    "length": "the answer was cut at max_new_tokens",
    "too_long": "the conversation is too long for the model; begin again",
    "too_large": "the images are larger than what the server takes",
}
"""Why an answer of a server ended, in words."""


class BadQuestion(UserError):
    """A question that cannot be asked: control tokens or placeholders in it, or one that the template refuses."""


def answering_model(config: AskConfig, device: str) -> AnsweringModel:
    """The model that a configuration names.

    Raises:
        ConfigError: it is not understood, or it does not answer.
        UserError: nothing there, or damaged.
    """
    name = parse_model_name(config.checkpoint)
    kind = model_kind_of(name)
    if "generate" not in kind.offers:
        raise ConfigError(
            f"checkpoint={name.text} is {kind.title}, which writes no answers; name an assistant's checkpoint, or hf: or api: "
            "of a model that generates text"
        )
    if config.image and not kind.takes_images:
        raise ConfigError(f"checkpoint={name.text} is {kind.title}, which takes no images; leave out image=")
    if config.image and name.scheme == "api" and not config.api.images:
        raise ConfigError("api.images=false sends no images; leave out image=, or that key")
    # The options of an evaluation that a conversation has, too; nothing of it is stored.
    options = EvalConfig(
        checkpoints=[name.text],
        tasks=[],
        max_pixels=config.max_pixels,
        load=config.load,
        api=config.api,
        cache=CacheConfig(max_gb=0),
    )
    model: Any = named_model(name).open(device, options)
    return model


class Conversation:
    """A model, images, and the turns about them.

    Args:
        images: files, shown with the first question, unless it says with placeholders where they are.
        max_new_tokens: of an answer, at most.
    """

    def __init__(self, model: AnsweringModel, images: Sequence[bytes], max_new_tokens: int) -> None:
        self.model, self.max_new_tokens = model, max_new_tokens
        self.images = list(images) if model.takes_images else []
        sample = Sample("conversation", {f"{number:03d}.png": data for number, data in enumerate(self.images)})
        self.pictures = model.pictures(sample) if self.images else model.blank(0)
        self.turns: list[Turn] = []

    def ask(self, question: str, output: TextIO) -> str:
        """Write the answer as it comes; it is part of the conversation from then on.

        Raises:
            BadQuestion: it cannot be asked.
            ConfigError: the conversation leaves no tokens for an answer.
        """
        is_complete = bool(self.turns) or IMAGE_TOKEN in question
        text = question if is_complete else f"{IMAGE_TOKEN}\n" * len(self.images) + question
        turns = [*self.turns, Turn("user", text)]
        if not self.model.takes_images:
            turns = list(without_images(turns))
        try:
            if not self.model.fits(turns, turns, self.images, (), 1):
                raise ConfigError("the conversation leaves no room for an answer; begin again")
        except BadSample as error:
            raise BadQuestion(str(error)) from None
        answer = self.model.stream(Prompt(turns, len(self.images), self.pictures), self.max_new_tokens, output)
        output.write("\n")
        output.flush()
        finish = answer.finish if isinstance(answer, Answer) else ""
        if finish not in ("", "stop"):
            print(f"medvlp ask: {ENDINGS.get(finish, f'the server ended its answer with: {finish}')}", file=sys.stderr)
        turns.append(Turn("assistant", answer.strip()))
        following = [*turns, Turn("user", "Why?")]
        with contextlib.suppress(BadSample):  # an empty answer, or one with control tokens: no question could follow it
            self.model.fits(following, following, self.images, (), 1)
            self.turns = turns if answer.strip() else self.turns
        return answer


def read_image(path: str, max_pixels: int) -> bytes:
    """An image file that can be shown; what has to be changed in it is said on stderr.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"image={path}: no such file")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ConfigError(f"image={path} has more than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        data = file.read_bytes()
        _, changes = decode_with_changes(data, max_pixels)
    except BadSample as error:
        if error.reason == "too_many_pixels":
            raise ConfigError(f"image={path}: {error.detail}; raise max_pixels if you trust the file") from None
        if error.reason != "undecodable_image":
            raise ConfigError(f"image={path}: {error.detail}") from None
        reason = re.sub(r" <_io.*?>", "", error.detail)
        raise ConfigError(f"image={path} is not a readable image ({', '.join(FORMATS)}): {reason}") from None
    if changes:
        print(f"medvlp ask: image={path}: {changes_in_words(changes)}", file=sys.stderr)
    return data
