"""`medvlp ask`: a question about an image, answered in the terminal word by word. Research use only."""

import contextlib
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from medvlp.cli import run_verb
from medvlp.config import AskConfig, ConfigError, compose, verb_help
from medvlp.errors import UsageError, UserError
from medvlp.process import STOPPED, Stopped

if TYPE_CHECKING:
    from torch import Tensor

    from medvlp.builders.llava import LoadedAssistant
    from medvlp.shards import Turn

NOTICE = "Research use only; not for clinical use."
PROMPT = "? "
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])|\x9b[0-?]*[ -/]*[@-~]")
"""ANSI sequences, whole: what remains of one that is cut in two is harmless without its control character."""
DIRECTION_MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
MAX_FILE_BYTES = 2**28


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp ask`; returns the exit code."""
    return run_verb("ask", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    keys = verb_help("ask").split("\n", 2)[2]
    return (
        'usage: medvlp ask checkpoint=<ckpt> image=<file> "question"\n\n'
        f"Without a question, in a terminal: a conversation, until an empty line.\n\n{keys}"
    )


def parse(args: list[str]) -> tuple[AskConfig, str]:
    """The configuration, and the question: "" for a conversation in the terminal.

    Raises:
        UsageError: no question, and no terminal to ask for one.
        ConfigError: an unknown key or a wrong value.
    """
    overrides, question = split_words(args)
    if not question and not sys.stdin.isatty():
        raise UsageError('medvlp ask: no question; medvlp ask checkpoint=<ckpt> image=<file> "question"')
    return compose("ask", overrides), question


def work(settings: tuple[AskConfig, str]) -> int:
    """Answer the question, or those that are typed."""
    from medvlp.environment import settle

    settle()
    config, question = settings
    try:
        conversation = Conversation(config)
        if question:
            conversation.ask(question, sys.stdout)
        else:
            talk(conversation)
    except (KeyboardInterrupt, Stopped):  # how a conversation ends, too
        print(f"\n{NOTICE}")
        return STOPPED
    print(NOTICE)
    return 0


def split_words(words: Sequence[str]) -> tuple[list[str], str]:
    """Overrides, and the question: all words that do not begin with `key=`."""
    keys, question = [], []
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not re.fullmatch(r"[a-z][a-z_.]*", key):
            question.append(word)
        else:
            keys.append(word)
    return keys, " ".join(question).strip()


class BadQuestion(UserError):
    """A question that cannot be asked: control tokens or placeholders in it, or one that the template refuses."""


class Conversation:
    """An assistant, images, and what was said about them.

    Args:
        config: of the verb.
    Raises:
        ConfigError: an image that is missing, unreadable or too large.
        CheckpointError: no assistant.
    """

    def __init__(self, config: AskConfig) -> None:

        from medvlp.environment import choose_device

        device = choose_device(config.accelerator)
        pictures = [read_image(path, config.max_pixels) for path in config.image]
        from medvlp.builders import load_assistant

        self.loaded: LoadedAssistant = load_assistant(config.checkpoint)
        assistant = self.loaded.assistant
        assistant.model.to(device)
        self.pixels: Tensor | None = None
        if pictures:
            self.pixels = assistant.processor(pictures, return_tensors="pt")["pixel_values"].to(device)
        self.images, self.device = len(pictures), device
        self.max_new_tokens = config.max_new_tokens
        self.turns: list[Turn] = []

    def ask(self, question: str, output: TextIO) -> str:
        """Write the answer as it comes; it is part of the conversation from then on.

        Raises:
            BadQuestion: it cannot be asked.
            ConfigError: no room for an answer is left.
        """
        import torch

        from medvlp.export.transformers import greedy
        from medvlp.shards import BadSample, Turn

        assistant, encoder = self.loaded.assistant, self.loaded.encoder
        words = question if self.turns or "<image>" in question else "<image>\n" * self.images + question
        asked = [*self.turns, Turn("user", words)]
        try:
            ids_L = torch.from_numpy(encoder.prompt(asked, self.images)).to(self.device)
        except BadSample as error:
            raise BadQuestion(str(error)) from None
        room = assistant.model.config.text_config.max_position_embeddings - len(ids_L)
        if room < 1:
            raise ConfigError(f"the conversation has {len(ids_L)} tokens: no room is left for an answer; begin anew")
        streamer = printer(assistant.tokenizer, output)
        assistant.model.generate(
            input_ids=ids_L[None],
            attention_mask=torch.ones_like(ids_L)[None],
            generation_config=greedy(assistant, encoder),
            max_new_tokens=min(self.max_new_tokens, room),
            streamer=streamer,
            **({} if self.pixels is None else {"pixel_values": self.pixels}),
        )
        answer: str = streamer.said
        output.write("\n")
        output.flush()
        remembered = [*asked, Turn("assistant", answer.strip())]
        with contextlib.suppress(BadSample):  # an empty answer, or one with control tokens: no question could follow it
            encoder.encode(remembered, self.images)
            self.turns = remembered
        return answer


def talk(conversation: Conversation) -> None:
    """Ask what is typed, until an empty line; what cannot be asked is said, and the conversation goes on."""
    print(f"{NOTICE} An empty line ends.")
    while question := read_line():
        try:
            conversation.ask(question, sys.stdout)
        except BadQuestion as error:
            print(f"medvlp ask: {error}")


def read_line() -> str:
    """A line that was typed, or nothing at the end of input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  arrow keys and history
    try:
        return input(PROMPT).strip()
    except EOFError:
        print()
        return ""


def read_image(path: str, max_pixels: int) -> Any:
    """An image as RGB.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """
    from medvlp.data.images.decode import FORMATS, changes_in_words, decode_with_changes
    from medvlp.shards import BadSample

    place = Path(path)
    if not place.is_file():
        raise ConfigError(f"image={path}: no such file")
    if place.stat().st_size > MAX_FILE_BYTES:
        raise ConfigError(f"image={path} has more than {MAX_FILE_BYTES // 2**20} MiB")
    try:
        picture, changes = decode_with_changes(place.read_bytes(), max_pixels)
        if changes:
            print(f"medvlp ask: image={path}: {changes_in_words(changes)}", file=sys.stderr)
        return picture.convert("RGB")
    except BadSample as error:
        if error.reason == "too_many_pixels":
            raise ConfigError(f"image={path}: {error.detail}; raise max_pixels if you trust the file") from None
        if error.reason != "undecodable_image":
            raise ConfigError(f"image={path}: {error.detail}") from None
        reason = re.sub(r" <_io.*?>", "", error.detail)
        raise ConfigError(f"image={path} is not a readable image ({', '.join(FORMATS)}): {reason}") from None


def printer(tokenizer: Any, output: TextIO) -> Any:
    """transformers' streamer, writing what is safe to `output`; `.said` is all of it."""
    from transformers import TextStreamer

    class Printer(TextStreamer):
        said = ""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            clean = harmless(text)
            self.said += clean
            output.write(clean)
            output.flush()

    return Printer(tokenizer, skip_prompt=True, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def harmless(text: str) -> str:
    """Text without what could steer a terminal: escape sequences, control characters, and marks that turn the direction
    of writing. A model's words are data."""
    return "".join(c for c in ESCAPES.sub("", text) if c in "\n\t" or not is_control(c))


def is_control(character: str) -> bool:
    """Whether a character moves, hides or turns others."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTION_MARKS
