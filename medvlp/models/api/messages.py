"""Messages of OpenAI's chat completions: a conversation's turns, and images as data URLs."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SIGNATURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
"""First bytes of the files that servers take, and their media types; WebP's stand behind a length."""


@dataclass(frozen=True)
class EncodedImage:
    """An image file as a server takes it.

    sha256: of the bytes that the data have, by which what was asked is recognised; or a word for one that is made here.
    is_reencoded: whether `data` are other bytes.
    """

    data: bytes
    sha256: str
    is_reencoded: bool = False


def media_type(data: bytes) -> str:
    """The media type of an image file; "" for one that servers do not take."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((name for signature, name in SIGNATURES.items() if data.startswith(signature)), "")


def data_url(data: bytes) -> str:
    """A file as a URL."""
    return f"data:{media_type(data)};base64,{base64.b64encode(data).decode('ascii')}"


def message(role: str, pieces: Sequence[str], urls: Iterator[str]) -> dict[str, Any]:
    """One turn. pieces: its text, cut where an image stands; urls: of images, of which it takes what it needs."""
    if len(pieces) == 1:
        return {"role": role, "content": pieces[0]}
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(pieces):
        if number:
            parts.append({"type": "image_url", "image_url": {"url": next(urls)}})
        # A line break next to a placeholder belongs to the placeholder.
        text = piece.removeprefix("\n") if number else piece
        if text := text.removesuffix("\n") if number < len(pieces) - 1 else text:
            parts.append({"type": "text", "text": text})
    return {"role": role, "content": parts}
