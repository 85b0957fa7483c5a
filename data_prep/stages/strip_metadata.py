"""Metadata of image files, taken out: comments, EXIF, XMP, IPTC and PNG texts can hold names, dates and places.

Only what decoders need of a file stays: what is not known here goes. Colour profiles go too, of any size: their
descriptions are free text, and they name devices, with serial numbers and dates. Nothing here reads them; decoded values
are the same without.
"""

from __future__ import annotations

import struct

from data_prep.draft import Draft, Drop
from data_prep.stages.deidentify_pixels import need_one_frame

_PNG_KEPT = {
    **{b"IHDR": 13, b"PLTE": 768, b"IDAT": 2**31 - 1, b"IEND": 0},
    **{b"tRNS": 256, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"sBIT": 4, b"bKGD": 6, b"pHYs": 9},
}
"""Chunks that decoding or display needs → their greatest length; where one is longer, it is something else."""

_WEBP_KEPT = frozenset((b"VP8 ", b"VP8L", b"VP8X", b"ALPH"))
_WEBP_ANIMATION = 0x02
_WEBP_FLAGS_KEPT = 0x10
"""Of VP8X: alpha. What the others promise (EXIF, XMP, a colour profile) is not there any more."""

_JPEG_KEPT = frozenset((*range(0xC0, 0xC8), *range(0xC9, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD))
"""Frame headers, Huffman and arithmetic tables, scans, quantisation, number of lines, restart interval."""

_STANDALONE = frozenset((0x01, 0xD8, *range(0xD0, 0xD8)))
"""JPEG markers without a length."""


def strip_metadata(draft: Draft) -> Draft:
    """Images without anything but their pixels; those stay encoded as they are. Drops: broken_image, several_frames.

    What EXIF turns, `check_images` has turned before. Of the pictures in a JPEG's multi-picture format the first is left.
    """
    members: dict[str, bytes] = {}
    for name, data in draft.sample.images.items():
        picture = draft.pictures.get(name)
        if picture is None:
            members[name] = data
            continue
        if picture.format != "MPO":
            need_one_frame(name, picture)
        members[name] = stripped(name.rpartition(".")[2], data)
        draft.count("strip_metadata", "colour profiles taken out", int("icc_profile" in picture.info))
    changed = sum(data != draft.sample.images[name] for name, data in members.items())
    if changed:
        draft.count("strip_metadata", "images with metadata", changed)
        draft.replace_images(members)
    return draft


def stripped(extension: str, data: bytes) -> bytes:
    """The file without its metadata; what stands behind the end of the image goes too. Raises Drop broken_image."""
    strip = {"png": _strip_png, "webp": _strip_webp}.get(extension, _strip_jpeg)
    try:
        return strip(data)
    except (struct.error, IndexError, ValueError):
        raise Drop("strip_metadata", "broken_image", f"its {extension} structure cannot be followed") from None


def _strip_jpeg(data: bytes) -> bytes:
    """Segments that decoding needs; of COM and APPn, JFIF's without a thumbnail and Adobe's colour transform."""
    pieces, position, jfif = [data[:2]], 2, False
    while True:
        if data[position] != 0xFF:
            raise ValueError("no marker")
        while data[position + 1] == 0xFF:  # fill bytes
            position += 1
        marker = data[position + 1]
        if marker == 0xD9:
            return b"".join([*pieces, b"\xff\xd9"])
        if marker in _STANDALONE:
            pieces.append(data[position : position + 2])
            position += 2
            continue
        (length,) = struct.unpack(">H", data[position + 2 : position + 4])
        if length < 2:
            raise ValueError("a segment shorter than its length")
        end = position + 2 + length
        content = data[position + 4 : end]
        if marker == 0xDA:  # the scan runs to the next marker that is no restart and no stuffed zero
            end = _scan_end(data, end)
        if marker in _JPEG_KEPT:
            pieces.append(data[position:end])
        elif marker == 0xE0 and content.startswith(b"JFIF\0") and len(content) >= 14 and not jfif:
            pieces.append(b"\xff\xe0\0\x10" + content[:12] + b"\0\0")  # the sizes of its thumbnail, which follows them
            jfif = True
        elif marker == 0xEE and content.startswith(b"Adobe") and len(content) >= 12:
            pieces.append(b"\xff\xee\0\x0e" + content[:12])
        position = end


def _scan_end(data: bytes, position: int) -> int:
    while True:
        position = data.index(b"\xff", position)
        following = data[position + 1]
        if following and not 0xD0 <= following <= 0xD7 and following != 0xFF:
            return position
        position += 1


def _strip_png(data: bytes) -> bytes:
    pieces, position = [data[:8]], 8
    while True:
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            raise ValueError("a chunk runs over the end")
        if length <= _PNG_KEPT.get(kind, -1):
            pieces.append(data[position:end])
        elif kind in (b"IHDR", b"PLTE", b"IEND"):
            raise ValueError("a chunk longer than it can be")
        if kind == b"IEND":
            return b"".join(pieces)
        position = end


def _strip_webp(data: bytes) -> bytes:
    chunks: dict[bytes, bytes] = {}
    position, end = 12, 8 + struct.unpack("<I", data[4:8])[0]
    while position < min(end, len(data)):
        kind, length = struct.unpack("<4sI", data[position : position + 8])
        chunk = data[position : position + 8 + length]
        if len(chunk) < 8 + length:
            raise ValueError("a chunk runs over the end")
        if kind == b"VP8X":
            if chunk[8] & _WEBP_ANIMATION:  # frames are files in the file
                raise Drop("deidentify_pixels", "several_frames", "an animation, if only of one frame")
            chunk = chunk[:8] + bytes([chunk[8] & _WEBP_FLAGS_KEPT]) + chunk[9:]
        if kind in _WEBP_KEPT and kind not in chunks:
            chunks[kind] = chunk + bytes(length % 2)
        if kind in (b"VP8 ", b"VP8L"):  # decoders look at the first one, and at nothing behind it
            break
        position += 8 + length + length % 2
    else:
        raise ValueError("no image")
    body = b"WEBP" + b"".join(chunks.values())
    return b"RIFF" + struct.pack("<I", len(body)) + body
