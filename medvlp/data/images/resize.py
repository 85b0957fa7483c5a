"""A crop of pixels, resized: bicubic with antialiasing, by PyTorch's kernels. H, W: pixels; S: the view's side.

Of grey pixels the kernels would make three channels or four. Here four rows stand for four channels where columns are joined,
and four columns where rows are. No byte is computed twice, and each by the same arithmetic: pixels are equal to those of three
channels (tested). Bytes are interleaved by OpenCV where it is installed, elsewhere by numpy, which takes several times as long.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

LANES = 4
"""Channels of a pixel in the kernels."""

resize_into = torch.ops.aten._upsample_bicubic2d_aa.out


def resized_colour(crop_HWC: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) → (S, S, 3)."""
    view_SSC = np.empty((size, size, 3), np.uint8)
    _resize(np.ascontiguousarray(crop_HWC), view_SSC)
    return view_SSC


def resized_grey(crop_HW: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W) → (S, S, 3), three equal channels."""
    height = len(crop_HW)
    if height < LANES or size % LANES:
        return resized_colour(np.repeat(crop_HW[..., None], 3, axis=2), size)
    quarter = -(-height // LANES)
    starts = [min(lane * quarter, height - quarter) for lane in range(LANES)]  # the last bands overlap
    wide = interleaved([crop_HW[start : start + quarter] for start in starts])
    narrow = np.empty((quarter, size, LANES), np.uint8)
    _resize(wide, narrow)
    columns_HS = np.empty((height, size), np.uint8)
    for lane, start in enumerate(starts):
        extract(narrow, lane, columns_HS[start : start + quarter])
    view_SS = np.empty((size, size), np.uint8)
    _resize(columns_HS.reshape(height, -1, LANES), view_SS.reshape(size, -1, LANES))
    return interleaved([view_SS] * 3)


def resized_deep(crop_HW: np.ndarray, size: int) -> np.ndarray:
    """float32 (H, W) from 0 to 255 → (S, S, 3), three equal channels; what the filter puts outside is cut off."""
    crop = torch.from_numpy(np.ascontiguousarray(crop_HW))[None, None]
    view_SS = interpolate(crop, (size, size), mode="bicubic", antialias=True)[0, 0].clamp(0, 255)
    return view_SS[..., None].expand(-1, -1, 3).contiguous().numpy()


def _resize(pixels_HWC: np.ndarray, view_HWC: np.ndarray) -> None:
    pixels, view = (torch.from_numpy(array)[None].permute(0, 3, 1, 2) for array in (pixels_HWC, view_HWC))
    resize_into(pixels, list(view_HWC.shape[:2]), False, None, None, out=view)


@cache
def opencv() -> Any:
    """OpenCV, held to one thread; None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(0)
    return cv2


def interleaved(planes: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 (H, W) of each channel → (H, W, C)."""
    cv2 = opencv()
    return np.stack(planes, axis=-1) if cv2 is None else cv2.merge(planes)


def extract(pixels_HWC: np.ndarray, channel: int, plane_HW: np.ndarray) -> None:
    """Writes a channel of uint8 pixels into an array of its own."""
    cv2 = opencv()
    if cv2 is None:
        plane_HW[...] = pixels_HWC[..., channel]
    else:
        cv2.extractChannel(pixels_HWC, channel, plane_HW)
