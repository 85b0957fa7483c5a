"""Text on a terminal: what comes from data or from a model steers nothing there."""

import contextlib
import re
import unicodedata
from typing import Any, TextIO

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])|\x9b[0-?]*[ -/]*[@-~]")
"""ANSI sequences, whole: what remains of one that is cut in two is harmless without its control character."""
DIRECTION_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def printable(text: str) -> str:
    """A line whose control characters are escapes: for names of files and keys, which are the data's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def harmless(text: str) -> str:
    """Text without what could steer a terminal: escape sequences, control characters, and characters that turn the
    direction of writing. For a model's answers, which are data."""
    return "".join(c for c in ESCAPES.sub("", text) if c in "\n\t" or not is_control(c))


def is_control(character: str) -> bool:
    """Whether a character moves, covers or turns others."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in DIRECTION_CONTROLS


def text_streamer(tokenizer: Any, output: TextIO) -> Any:
    """transformers' streamer, writing what is harmless to `output` as it is generated; `.text` is all of it."""
    from transformers import TextStreamer

    class HarmlessStreamer(TextStreamer):
        text = ""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            clean = harmless(text)
            self.text += clean
            output.write(clean)
            output.flush()

    return HarmlessStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def read_line(prompt: str) -> str:
    """A line that was typed, or nothing at the end of input."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  arrow keys and history
    try:
        return input(prompt).strip()
    except EOFError:
        print()
        return ""
