"""A conversation with a trained assistant about images, its answers written as they are generated."""

import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch
from PIL import Image
from torch import Tensor

from medvlp.config import ConfigError
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.images.decode import FORMATS, changes_in_words, decode_with_changes
from medvlp.errors import UserError
from medvlp.export.transformers import greedy
from medvlp.models.llava.model import Assistant
from medvlp.shards import BadSample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN
from medvlp.terminal import text_streamer

MAX_FILE_BYTES = 2**28


class BadQuestion(UserError):
    """A question that cannot be asked: control tokens or placeholders in it, or one that the template refuses."""


class Conversation:
    """An assistant, images, and the turns about them.

    Args:
        pictures: shown with the first question, unless it says with placeholders where they are.
        device: where the model is moved to.
        max_new_tokens: of an answer, at most.
    """

    def __init__(
        self,
        assistant: Assistant,
        encoder: ChatEncoder,
        pictures: Sequence[Image.Image],
        device: str,
        max_new_tokens: int,
    ) -> None:
        assistant.model.to(device)
        self.assistant, self.encoder, self.device = assistant, encoder, device
        self.images, self.max_new_tokens = len(pictures), max_new_tokens
        self.pixels: Tensor | None = None
        if pictures:
            self.pixels = assistant.processor(list(pictures), return_tensors="pt")["pixel_values"].to(device)
        self.turns: list[Turn] = []

    def ask(self, question: str, output: TextIO) -> str:
        """Write the answer as it comes; it is part of the conversation from then on.

        Raises:
            BadQuestion: it cannot be asked.
            ConfigError: the conversation leaves no tokens for an answer.
        """
        is_complete = bool(self.turns) or IMAGE_TOKEN in question
        text = question if is_complete else f"{IMAGE_TOKEN}\n" * self.images + question
        turns = [*self.turns, Turn("user", text)]
        try:
            ids_L = torch.from_numpy(self.encoder.prompt(turns, self.images)).to(self.device)
        except BadSample as error:
            raise BadQuestion(str(error)) from None
        model = self.assistant.model
        capacity = model.config.text_config.max_position_embeddings - len(ids_L)
        if capacity < 1:
            raise ConfigError(f"the conversation has {len(ids_L)} tokens: no room is left for an answer; begin again")
        streamer = text_streamer(self.assistant.tokenizer, output)
        model.generate(
            input_ids=ids_L[None],
            attention_mask=torch.ones_like(ids_L)[None],
            generation_config=greedy(self.assistant, self.encoder),
            max_new_tokens=min(self.max_new_tokens, capacity),
            streamer=streamer,
            **({} if self.pixels is None else {"pixel_values": self.pixels}),
        )
        answer: str = streamer.text
        output.write("\n")
        output.flush()
        turns.append(Turn("assistant", answer.strip()))
        with contextlib.suppress(BadSample):  # an empty answer, or one with control tokens: no question could follow it
            self.encoder.encode(turns, self.images)
            self.turns = turns
        return answer


def open_image(path: str, max_pixels: int) -> Image.Image:
    """An image file as RGB; what had to be changed in it is said on stderr.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"image={path}: no such file")
    if file.stat().st_size > MAX_FILE_BYTES:
        raise ConfigError(f"image={path} has more than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        picture, changes = decode_with_changes(file.read_bytes(), max_pixels)
    except BadSample as error:
        if error.reason == "too_many_pixels":
            raise ConfigError(f"image={path}: {error.detail}; raise max_pixels if you trust the file") from None
        if error.reason != "undecodable_image":
            raise ConfigError(f"image={path}: {error.detail}") from None
        reason = re.sub(r" <_io.*?>", "", error.detail)
        raise ConfigError(f"image={path} is not a readable image ({', '.join(FORMATS)}): {reason}") from None
    if changes:
        print(f"medvlp ask: image={path}: {changes_in_words(changes)}", file=sys.stderr)
    return picture.convert("RGB")
