"""Similarity of two pictures: correlation of thumbnails after one has been zoomed and shifted onto the other.

Shapes: P pairs, S a thumbnail's side.

A perceptual hash knows low frequencies only: chest radiographs of two people can share most of its bits. A copy, however it was
re-encoded, scaled or brightened, correlates with its original almost perfectly; a cropped one does once the crop has
been undone, which is a zoom and a shift along each axis, found by least squares (Lucas and Kanade 1981, with gain and offset).

That tells pictures of different kinds apart. Neighbouring slices of a head, or those of two heads, share outline, surround and
most of their anatomy, and correlate by these alone; `residuals.py` looks at what is left of them, place by place.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 128
"""Rows and columns of a thumbnail."""

UNALIGNED_SIDE, ALIGN_SIDE, COMPARED_SIDE = 16, 32, 64
STEPS = 5
LEAST_GAIN = 3e-4
"""Of correlation, by one step: below it another step is not taken."""

_LEAST_4 = np.array([0.85, -0.1, 0.85, -0.1], np.float32)
_MOST_4 = np.array([1.18, 0.1, 1.18, 0.1], np.float32)
"""Placings that are sought: zoom and shift of y, then of x. A corner magnified until it is smooth is like many others."""

MIN_OVERLAP = 0.75
"""Of the area: pictures that share less are not compared."""

MIN_UNALIGNED, MIN_ALIGNED = 0.6, 0.85
"""Correlations of coarser versions below which a pair is given up; planted copies stay far above (see the tests)."""

FLAT = 2.0
"""Grey levels: thumbnails with a smaller standard deviation have nothing to correlate."""

BATCH = 256
Floats = NDArray[np.floating[Any]]


def is_flat(thumbnails_NSS: NDArray[Any]) -> NDArray[np.bool_]:
    """Thumbnails that could be anybody's, such as a black frame: only equal bytes say that two of them are one."""
    return thumbnails_NSS.reshape(len(thumbnails_NSS), -1).std(1, dtype=np.float32) < FLAT


def similarity(a_PSS: NDArray[np.uint8], b_PSS: NDArray[np.uint8], zoom: float) -> tuple[Floats, Floats, Floats]:
    """Two correlations from -1 to 1 of a, brought onto b, with b: of the pictures, and of their fine structure alone; and
    the placing (P, 4) that brought it there.

    zoom: the share of a's side that b is thought to show, from which the alignment starts. Pairs that are clearly two
    pictures get (-1, -1). Rounded to four digits, so that the last bits of another machine decide nothing.
    """
    score_P, detail_P = (np.full(len(a_PSS), -1, np.float32) for _ in range(2))
    placed_P4 = _straight(len(a_PSS), zoom)
    for start in range(0, len(a_PSS), BATCH):
        close = np.arange(start, min(start + BATCH, len(a_PSS)))
        close = close[_unaligned(a_PSS[close], b_PSS[close], zoom) >= MIN_UNALIGNED]
        coarse_P, placing_P4 = align(
            _pooled(a_PSS[close], ALIGN_SIDE), _pooled(b_PSS[close], ALIGN_SIDE), _straight(len(close), zoom)
        )
        close_P = coarse_P >= MIN_ALIGNED
        close, placing_P4 = close[close_P], placing_P4[close_P]
        a_float_PSS, b_float_PSS = _pooled(a_PSS[close], COMPARED_SIDE), _pooled(b_PSS[close], COMPARED_SIDE)
        score_P[close], placing_P4 = align(a_float_PSS, b_float_PSS, placing_P4)
        transformed_PSS, weight_PSS = transform(a_float_PSS, placing_P4)
        detail_P[close] = _correlation(_detail(transformed_PSS), _detail(b_float_PSS), weight_PSS)
        placed_P4[close] = placing_P4
    return score_P.round(4), detail_P.round(4), placed_P4


def _unaligned(a_PSS: NDArray[np.uint8], b_PSS: NDArray[np.uint8], zoom: float) -> Floats:
    """Correlation of the coarsest versions as they are: two small products instead of an alignment."""
    pool_CS = _pool(UNALIGNED_SIDE)
    zoomed_CS = pool_CS @ _samplers(_straight(1, zoom), SIDE, 0)[0][0]
    a_PCC = zoomed_CS @ a_PSS.astype(np.float32) @ zoomed_CS.T
    b_PCC = pool_CS @ b_PSS.astype(np.float32) @ pool_CS.T
    return _correlation(a_PCC, b_PCC, np.ones_like(a_PCC))


def _pooled(t_PSS: NDArray[np.uint8], side: int) -> Floats:
    # Cells of a thumbnail average other pixels once a picture was cropped; a blur over neighbouring cells makes up for it.
    pool_CS = smoother((1 / 4, 1 / 2, 1 / 4), 1, side) @ _pool(side)
    pooled_PSS: Floats = pool_CS @ t_PSS.astype(np.float32) @ pool_CS.T
    return pooled_PSS


def align(
    a_PSS: Floats, b_PSS: Floats, placing_P4: Floats, least_gain: float = LEAST_GAIN, margin: int = 0
) -> tuple[Floats, Floats]:
    """The best correlation on the way of at most `STEPS` steps from a placing, and the placing that gave it.

    margin: cells at the edges of both pictures that do not count.
    """
    best_P, best_P4 = _placed_score(a_PSS, b_PSS, placing_P4, margin), placing_P4.copy()
    moving = np.arange(len(a_PSS))
    for _ in range(STEPS):
        moving_a_PSS, moving_b_PSS = a_PSS[moving], b_PSS[moving]
        step_P4 = _step(moving_a_PSS, moving_b_PSS, best_P4[moving], margin)
        tried_P4 = np.clip(best_P4[moving] + step_P4, _LEAST_4, _MOST_4)
        score_P = _placed_score(moving_a_PSS, moving_b_PSS, tried_P4, margin)
        gain_P = score_P - best_P[moving]
        better = moving[gain_P > 0]
        best_P[better], best_P4[better] = score_P[gain_P > 0], tried_P4[gain_P > 0]
        moving = moving[gain_P > least_gain]
        if not len(moving):
            break
    return best_P, best_P4


def _placed_score(a_PSS: Floats, b_PSS: Floats, placing_P4: Floats, margin: int) -> Floats:
    transformed_PSS, weight_PSS = transform(a_PSS, placing_P4, margin)
    score_P = _correlation(transformed_PSS, b_PSS, weight_PSS)
    side = a_PSS.shape[1]
    score_P[weight_PSS.sum((1, 2)) < MIN_OVERLAP * (side - 2 * margin) ** 2] = -1
    return score_P


def _straight(pairs: int, zoom: float) -> Floats:
    """A placing is zoom and shift of y, then of x; shifts are shares of the side, so they hold at every size."""
    placing_P4 = np.zeros((pairs, 4), np.float32)
    placing_P4[:, [0, 2]] = zoom
    return placing_P4


def transform(t_PSS: Floats, placing_P4: Floats, margin: int = 0) -> tuple[Floats, Floats]:
    """The picture as placed, and the weight of each cell: 0 where it would show what is outside, or in the margin."""
    rows_PSS, columns_PSS, weight_PSS = _samplers(placing_P4, t_PSS.shape[1], margin)
    transformed_PSS: Floats = rows_PSS @ t_PSS @ columns_PSS
    return transformed_PSS, weight_PSS


def _samplers(placing_P4: Floats, side: int, margin: int) -> tuple[Floats, Floats, Floats]:
    """Matrices that resample the rows, and (transposed) the columns, and the weights of the cells."""
    rows_PSS, inside_y_PS = _sampler(placing_P4[:, 0], placing_P4[:, 1], side, margin)
    columns_PSS, inside_x_PS = _sampler(placing_P4[:, 2], placing_P4[:, 3], side, margin)
    weight_PSS = (inside_y_PS[:, :, None] & inside_x_PS[:, None, :]).astype(np.float32)
    return rows_PSS, columns_PSS.transpose(0, 2, 1), weight_PSS


def _sampler(zoom_P: Floats, shift_P: Floats, side: int, margin: int) -> tuple[Floats, NDArray[np.bool_]]:
    """One axis: cubic interpolation (Keys 1981) at zoom · x + shift about the centre, and which of these places are
    inside both pictures' margins."""
    position_PS = zoom_P[:, None] * _axis(side) + shift_P[:, None] * side + (side - 1) / 2
    is_inside_PS = (position_PS >= margin - 0.5) & (position_PS <= side - margin - 0.5)
    is_inside_PS[:, :margin] = is_inside_PS[:, side - margin :] = False
    position_PS = np.clip(position_PS, 0, side - 1)
    cell_PS = np.minimum(position_PS.astype(np.int32), side - 2)
    t = position_PS - cell_PS
    weights = (
        ((-0.5 * t + 1) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1,
        ((-1.5 * t + 2) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
    matrix_PSS = np.zeros((len(zoom_P), side, side), np.float32)
    pair_P1, row_1S = np.arange(len(zoom_P))[:, None], np.arange(side)[None]
    for offset, weight_PS in enumerate(weights, start=-1):  # a cell is named once in each: adding loses nothing
        matrix_PSS[pair_P1, row_1S, np.clip(cell_PS + offset, 0, side - 1)] += weight_PS
    return matrix_PSS, is_inside_PS


def _correlation(a_PSS: Floats, b_PSS: Floats, weight_PSS: Floats) -> Floats:
    area_P11 = np.maximum(weight_PSS.sum((1, 2), keepdims=True), 1)
    a_PSS = (a_PSS - (a_PSS * weight_PSS).sum((1, 2), keepdims=True) / area_P11) * weight_PSS
    b_PSS = (b_PSS - (b_PSS * weight_PSS).sum((1, 2), keepdims=True) / area_P11) * weight_PSS
    norm_P = np.sqrt((a_PSS**2).sum((1, 2)) * (b_PSS**2).sum((1, 2)))
    return (a_PSS * b_PSS).sum((1, 2)) / np.maximum(norm_P, 1e-3)


def _step(a_PSS: Floats, b_PSS: Floats, placing_P4: Floats, margin: int) -> Floats:
    """One least-squares step of the placing; gain and offset of a are free, for brightness and contrast."""
    side = a_PSS.shape[1]
    rows_PSS, columns_PSS, weight_PSS = _samplers(placing_P4, side, margin)
    slopes = (np.gradient(a_PSS, axis=1), np.gradient(a_PSS, axis=2))
    transformed_PSS, slope_y_PSS, slope_x_PSS = (rows_PSS @ t_PSS @ columns_PSS for t_PSS in (a_PSS, *slopes))
    axis_S = _axis(side)
    terms = [
        transformed_PSS,
        np.ones_like(transformed_PSS),
        slope_y_PSS * axis_S[:, None],
        slope_y_PSS,
        slope_x_PSS * axis_S,
        slope_x_PSS,
    ]
    design_P6N = np.stack([(t_PSS * weight_PSS).reshape(len(t_PSS), side * side) for t_PSS in terms], 1)
    target_PN1 = (b_PSS * weight_PSS).reshape(len(b_PSS), side * side, 1)
    normal_P66 = (design_P6N @ design_P6N.transpose(0, 2, 1)).astype(np.float64)
    # A picture without slopes along an axis says nothing of that axis: keep the matrix invertible.
    normal_P66 += np.eye(6) * (1e-6 * np.trace(normal_P66, axis1=1, axis2=2)[:, None, None] + 1)
    solved_P6 = np.linalg.solve(normal_P66, (design_P6N @ target_PN1).astype(np.float64))[:, :, 0]
    gain_P1 = np.where(np.abs(solved_P6[:, :1]) < 0.1, 1.0, solved_P6[:, :1])  # the slopes' terms come times the gain
    shift_unit_4 = np.array([1, side, 1, side])
    return np.clip(solved_P6[:, 2:] / gain_P1 / shift_unit_4, -0.05, 0.05).astype(np.float32)


@lru_cache
def _axis(side: int) -> Floats:
    return np.arange(side, dtype=np.float32) - (side - 1) / 2


@lru_cache
def _pool(side: int) -> Floats:
    """The matrix that averages one axis of a thumbnail down to `side`."""
    return np.eye(SIDE, dtype=np.float32).reshape(side, SIDE // side, SIDE).mean(1)


@lru_cache
def smoother(weights: tuple[float, ...], times: int, side: int) -> Floats:
    """The matrix that convolves one axis with the weights so many times, edges repeated."""
    matrix_SS = np.zeros((side, side), np.float32)
    for row in range(side):
        for offset, weight in enumerate(weights, start=-(len(weights) // 2)):
            matrix_SS[row, min(max(row + offset, 0), side - 1)] += weight
    return np.linalg.matrix_power(matrix_SS, times)


def _detail(t_PSS: Floats) -> Floats:
    """What a wide blur (of standard deviation 1.4 cells) takes away."""
    wide_SS = smoother((1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16), 2, t_PSS.shape[1])
    return t_PSS - wide_SS @ t_PSS @ wide_SS.T
