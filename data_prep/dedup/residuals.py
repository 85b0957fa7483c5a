"""Agreement of the fine structure of two aligned pictures, without outline, surround and common anatomy.

Shapes: P pairs, S a thumbnail's side, W windows along an axis.

Everything of a copy is the original's: fine structure agrees at every place that has any, but for a letter that was drawn on
it. Between neighbouring slices, or two patients, it agrees where the anatomy does and not elsewhere. So fine structure is
correlated window by window, windows without any (a black surround, air, the inside of an organ) do not count, and the weaker
windows decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.dedup.similarity import Floats, align, smoother, transform

MARGIN = 8
"""Cells at the edges that do not count: blurs see a crop's edge there, and not what was beyond."""
BLOCK = 8
"""Windows are of two blocks a side, and overlap by one."""
MIN_TEXTURE = 1.5
"""Grey levels: standard deviation of the fine structure in a window, below which it has none."""
MIN_WINDOWS = 4
QUANTILE = 0.3
"""Of the windows' correlations: a letter, a mark or a clipped highlight may spoil fewer."""
LEAST_GAIN = 1e-5
BATCH = 32


def agreement(a_PSS: NDArray[Any], b_PSS: NDArray[Any], placing_P4: Floats) -> Floats:
    """The correlation (-1 to 1) of fine structure that seven of ten windows reach or pass.

    placing_P4: how a is brought onto b, roughly (see `similarity`); it is refined here. Where fewer than `MIN_WINDOWS` windows
    have structure, those with most of it decide. Rounded to four digits.
    """
    agreement_P = np.zeros(len(a_PSS), np.float32)
    for start in range(0, len(a_PSS), BATCH):
        batch = slice(start, start + BATCH)
        a_float_PSS, b_float_PSS = _smooth(a_PSS[batch]), _smooth(b_PSS[batch])
        _, placed_P4 = align(a_float_PSS, b_float_PSS, placing_P4[batch], LEAST_GAIN, MARGIN)
        transformed_PSS, weight_PSS = transform(a_float_PSS, placed_P4, MARGIN)
        correlation_PN, texture_PN = _windows(_fine(transformed_PSS), _fine(b_float_PSS), weight_PSS)
        agreement_P[batch] = [_weaker(*pair) for pair in zip(correlation_PN, texture_PN, strict=True)]
    return agreement_P.round(4)


def halved(t_PSS: NDArray[np.uint8]) -> Floats:
    """Thumbnails of half the side, for pictures that have no finer structure."""
    pairs, side, _ = t_PSS.shape
    half_PSS: Floats = t_PSS.reshape(pairs, side // 2, 2, side // 2, 2).mean((2, 4), dtype=np.float32)
    return half_PSS


def _smooth(t_PSS: NDArray[Any]) -> Floats:
    # Finer than a cell or two, a copy has its own: what the encoder and the resizing left.
    narrow_SS = smoother((1 / 4, 1 / 2, 1 / 4), 4, t_PSS.shape[1])
    smooth_PSS: Floats = narrow_SS @ t_PSS.astype(np.float32) @ narrow_SS.T
    return smooth_PSS


def _fine(t_PSS: Floats) -> Floats:
    """What a wide blur (of standard deviation 2 cells) takes away."""
    wide_SS = smoother((1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16), 4, t_PSS.shape[1])
    return t_PSS - wide_SS @ t_PSS @ wide_SS.T


def _windows(a_PSS: Floats, b_PSS: Floats, weight_PSS: Floats) -> tuple[Floats, Floats]:
    """(P, W²) correlation in each window, and the greater standard deviation; -1 for one that is not whole."""
    area_PWW = _summed(weight_PSS)
    is_whole_PWW = area_PWW >= 0.9 * (2 * BLOCK) ** 2
    area_PWW = np.maximum(area_PWW, 1)
    a_PSS, b_PSS = a_PSS * weight_PSS, b_PSS * weight_PSS
    mean_a_PWW, mean_b_PWW = _summed(a_PSS) / area_PWW, _summed(b_PSS) / area_PWW
    var_a_PWW = np.maximum(_summed(a_PSS * a_PSS) / area_PWW - mean_a_PWW**2, 0)
    var_b_PWW = np.maximum(_summed(b_PSS * b_PSS) / area_PWW - mean_b_PWW**2, 0)
    covariance_PWW = _summed(a_PSS * b_PSS) / area_PWW - mean_a_PWW * mean_b_PWW
    correlation_PWW = covariance_PWW / np.sqrt(np.maximum(var_a_PWW * var_b_PWW, 1e-6))
    texture_PWW = np.where(is_whole_PWW, np.sqrt(np.maximum(var_a_PWW, var_b_PWW)), -1)
    pairs = len(a_PSS)
    return correlation_PWW.reshape(pairs, -1), texture_PWW.reshape(pairs, -1)


def _summed(t_PSS: Floats) -> Floats:
    """Sums over windows."""
    pairs, side, _ = t_PSS.shape
    blocks = side // BLOCK
    block_PBB = t_PSS.reshape(pairs, blocks, BLOCK, blocks, BLOCK).sum((2, 4))
    rows_PWB = block_PBB[:, :-1] + block_PBB[:, 1:]
    summed_PWW: Floats = rows_PWB[:, :, :-1] + rows_PWB[:, :, 1:]
    return summed_PWW


def _weaker(correlation_N: Floats, texture_N: Floats) -> float:
    counted_N = texture_N > MIN_TEXTURE
    if counted_N.sum() < MIN_WINDOWS:
        counted_N = np.zeros(len(texture_N), bool)
        counted_N[np.argsort(-texture_N, kind="stable")[:MIN_WINDOWS]] = True
    return float(np.quantile(correlation_N[counted_N], QUANTILE))
