"""Intensity windows: which values of an image of more than 8 bits become black and white. H, W: pixels."""

import struct
from collections.abc import Iterator, Sequence

import numpy as np

TOPS = (1, 255, 1023, 4095, 16383, 65535)
"""Greatest values that scanners and programs use for white: 1 for floats, then 8, 10, 12, 14 and 16 bits."""

SHARES = (0.1, 99.9)
"""Percentiles between which an image's values lie: a hot pixel or a bright label outside does not decide."""

LEAST_SPAN = 1 / 8
"""Share of the range from 0 to its top that an image has to use; with less it would show fewer than 32 of 256 levels."""

LEAST_LEVELS = 16
"""Steps of the values that are stretched at least: what spans fewer is nearly constant, and stretching would show noise."""

FULL = (0.0, 65535.0)


def value_range(
    values_HW: np.ndarray, bits: int = 0, limits: Sequence[float] = (), is_float: bool = False
) -> tuple[float, float, str]:
    """(value shown black, value shown white, rule).

    The first that applies: "option", the given limits; "header", 0 to the greatest value of the bits that the file says
    are significant; "bits", 0 to the least of `TOPS` that holds every value; "percentiles", 0.1% to 99.9% of the values,
    where some are negative or above 65,535, or these lie within an eighth of that range.

    Args:
        values_HW: finite numbers.
        bits: significant bits by the file's header; 0 where it says nothing.
        limits: (black, white) that somebody chose, or nothing.
        is_float: the values are no integers: their steps can be of any size.
    """
    if len(limits) == 2:
        return float(limits[0]), float(limits[1]), "option"
    lowest, highest = float(values_HW.min()), float(values_HW.max())
    # PNG has values of fewer bits scaled up to 16, with sBIT telling the bits; many programs only say the bits.
    if bits and lowest >= 0:
        return 0.0, 2.0**bits - 1 if highest < 2**bits else FULL[1], "header"
    low, high = (float(value) for value in np.percentile(values_HW, SHARES))
    step = max(abs(lowest), abs(highest)) * 1e-4 if is_float else 1.0
    is_stretchable = high - low >= LEAST_LEVELS * step > 0
    rounded = highest * (1 - 1e-9)  # what was rescaled is not quite what it was
    if lowest >= 0 and rounded <= TOPS[-1]:
        top = float(next(top for top in TOPS if rounded <= top and (is_float or top > 1)))
        if high - low >= LEAST_SPAN * top or not is_stretchable:
            return 0.0, top, "bits"
    return (low, high, "percentiles") if is_stretchable else (low, low + 255 * max(step, 1e-30), "percentiles")


def to_eight_bits(values_HW: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8 (H, W); from 0 to 65,535 these are the upper 8 of 16 bits."""
    scaled_HW = np.floor((values_HW.astype(np.float64) - low) * (256 / (high - low)))
    return np.clip(scaled_HW, 0, 255).astype(np.uint8)


def finite(values_HW: np.ndarray) -> np.ndarray:
    """The values as float64; what is no number becomes the least that is one."""
    values_HW = values_HW.astype(np.float64)
    is_finite_HW = np.isfinite(values_HW)
    if is_finite_HW.all():
        return values_HW
    return np.where(is_finite_HW, values_HW, values_HW[is_finite_HW].min() if is_finite_HW.any() else 0.0)


def significant_bits(data: bytes) -> int:
    """Bits of a grey PNG of 16 bits that its chunk sBIT calls significant; 0 where there is none, or no PNG."""
    for kind, content in _png_chunks(data):
        if kind == b"sBIT" and len(content) == 1 and 1 <= content[0] <= 16:
            return content[0]
    return 0


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of each chunk before the pixels."""
    offset = 8 if data.startswith(b"\x89PNG\r\n\x1a\n") else len(data)
    while offset + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[offset : offset + 8])
        if kind == b"IDAT":
            return
        yield kind, data[offset + 8 : offset + 8 + min(length, 64)]
        offset += 12 + length
