"""What image files carry beside their pixels: comments, EXIF, XMP, IPTC and PNG texts can hold names, dates and places."""

from __future__ import annotations

import io
import struct

from data_prep.stages.draft import Draft, Drop

_PNG_KEPT = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"bKGD", b"pHYs")
)
"""Chunks that decoding or display needs."""

_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"))
_STANDALONE = frozenset((0x01, 0xD8, *range(0xD0, 0xD8)))
"""JPEG markers without a length."""


def strip_metadata(draft: Draft) -> Draft:
    """Images without anything but their pixels; those stay encoded as they are.

    Of a picture that EXIF turns, the turned pixels are encoded anew, as PNG. Drops: broken_image.
    """
    images: dict[str, bytes] = {}
    for name, data in draft.sample.images.items():
        picture = draft.pictures.get(name)
        if picture is None:
            images[name] = data
        elif picture.getexif().get(0x0112, 1) != 1:
            images[f"{name.rpartition('.')[0]}.png".lstrip(".")] = _upright(draft, name)
        else:
            images[name] = stripped(name.rpartition(".")[2], data)
    changed = sum(data != draft.sample.images.get(name) for name, data in images.items())
    if changed:
        draft.count("strip_metadata", "images with metadata", changed)
        draft.replace_images(images)
    return draft


def stripped(extension: str, data: bytes) -> bytes:
    """The file without its metadata; what stands behind the end of the image goes too. Raises Drop broken_image."""
    strip = {"png": _strip_png, "webp": _strip_webp}.get(extension, _strip_jpeg)
    try:
        return strip(data)
    except (struct.error, IndexError, ValueError):
        raise Drop("strip_metadata", "broken_image", f"its {extension} structure cannot be followed") from None


def _strip_jpeg(data: bytes) -> bytes:
    """Segments but COM and APPn; of these JFIF (0), an ICC profile (2) and Adobe's colour transform (14) stay."""
    kept, place = [data[:2]], 2
    while True:
        if data[place] != 0xFF:
            raise ValueError("no marker")
        while data[place + 1] == 0xFF:  # fill bytes
            place += 1
        marker = data[place + 1]
        if marker == 0xD9:
            return b"".join([*kept, b"\xff\xd9"])
        if marker in _STANDALONE:
            kept.append(data[place : place + 2])
            place += 2
            continue
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        end = place + 2 + length
        if marker == 0xDA:  # the scan runs to the next marker that is no restart and no stuffed zero
            end = _scan_end(data, end)
        if not (marker == 0xFE or 0xE0 <= marker <= 0xEF) or _is_needed(marker, data[place + 4 : place + 18]):
            kept.append(data[place:end])
        place = end


def _is_needed(marker: int, begin: bytes) -> bool:
    names = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}
    return marker in names and begin.startswith(names[marker])


def _scan_end(data: bytes, place: int) -> int:
    while True:
        place = data.index(b"\xff", place)
        following = data[place + 1]
        if following and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return place
        place += 1


def _strip_png(data: bytes) -> bytes:
    kept, place = [data[:8]], 8
    while True:
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 12 + length
        if end > len(data):
            raise ValueError("a chunk runs over the end")
        if kind in _PNG_KEPT:
            kept.append(data[place:end])
        if kind == b"IEND":
            return b"".join(kept)
        place = end


def _strip_webp(data: bytes) -> bytes:
    kept, place, end = [], 12, 8 + struct.unpack("<I", data[4:8])[0]
    while place < min(end, len(data)):
        kind, length = struct.unpack("<4sI", data[place : place + 8])
        size = 8 + length + length % 2
        chunk = data[place : place + size]
        if kind == b"VP8X":  # its flags promise EXIF (8) and XMP (4)
            chunk = chunk[:8] + bytes([chunk[8] & ~0x0C]) + chunk[9:]
        if kind in _WEBP_KEPT:
            kept.append(chunk)
        place += size
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _upright(draft: Draft, name: str) -> bytes:
    from PIL import ImageOps

    buffer = io.BytesIO()
    turned = ImageOps.exif_transpose(draft.pictures[name])
    turned.info.clear()
    turned.getexif().clear()
    turned.save(buffer, "PNG")
    return buffer.getvalue()
