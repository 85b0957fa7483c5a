"""Intersection over union of boxes, and which box of a reply stands for which right one. K: boxes of a reply, M: right ones."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvlp.boxes.canonical import Box

Array = NDArray[np.float64]


def iou(boxes_K: Sequence[Box], right_M: Sequence[Box]) -> Array:
    """(K, M) intersection over union, as torchvision.ops.box_iou has it; boxes have an area."""
    a_K4 = np.array(boxes_K, np.float64).reshape(-1, 4)
    b_M4 = np.array(right_M, np.float64).reshape(-1, 4)
    low_KM2 = np.maximum(a_K4[:, None, :2], b_M4[None, :, :2])
    high_KM2 = np.minimum(a_K4[:, None, 2:], b_M4[None, :, 2:])
    common_KM = np.prod(np.maximum(high_KM2 - low_KM2, 0), axis=2)
    area_K, area_M = (np.prod(box_N4[:, 2:] - box_N4[:, :2], axis=1) for box_N4 in (a_K4, b_M4))
    return common_KM / (area_K[:, None] + area_M[None] - common_KM)


def union_iou(boxes_K: Sequence[Box], right_M: Sequence[Box]) -> float:
    """Intersection over union of the areas that all boxes of either side cover together, exactly; 0 where one side is empty."""
    if not boxes_K or not right_M:
        return 0.0
    box_N4 = np.array([*boxes_K, *right_M], np.float64)
    x, y = np.unique(box_N4[:, ::2]), np.unique(box_N4[:, 1::2])
    is_covered = [_covered(np.array(side, np.float64), x, y) for side in (boxes_K, right_M)]
    area_YX = np.diff(y)[:, None] * np.diff(x)[None]
    return float((area_YX * (is_covered[0] & is_covered[1])).sum() / (area_YX * (is_covered[0] | is_covered[1])).sum())


def _covered(box_N4: Array, x: Array, y: Array) -> NDArray[np.bool_]:
    """Which cells of the grid that all edges make lie in a box."""
    in_x = (box_N4[:, None, 0] <= x[None, :-1]) & (x[None, 1:] <= box_N4[:, None, 2])
    in_y = (box_N4[:, None, 1] <= y[None, :-1]) & (y[None, 1:] <= box_N4[:, None, 3])
    in_box: NDArray[np.bool_] = in_y[:, :, None] & in_x[:, None, :]
    return np.logical_or.reduce(in_box, axis=0)


def best_pairs(value_KM: Array) -> list[tuple[int, int]]:
    """Pairs (row, column), each row and column at most once, whose values have the largest sum (Kuhn 1955); values >= 0.

    Shortest augmenting paths, O(K² M).
    """
    if value_KM.shape[0] > value_KM.shape[1]:
        return sorted((row, column) for column, row in best_pairs(value_KM.T))
    rows, columns = value_KM.shape
    row_price, column_price = np.zeros(rows + 1), np.zeros(columns + 1)
    row_of = np.zeros(columns + 1, np.int64)  # of each column; 0: none. Counted from 1, as is common for this algorithm
    for row in range(1, rows + 1):
        row_of[0], column = row, 0
        least = np.full(columns + 1, np.inf)
        came_from, is_used = np.zeros(columns + 1, np.int64), np.zeros(columns + 1, bool)
        while True:
            is_used[column] = True
            reduced = -value_KM[row_of[column] - 1] - row_price[row_of[column]] - column_price[1:]
            is_better = ~is_used[1:] & (reduced < least[1:])
            least[1:][is_better], came_from[1:][is_better] = reduced[is_better], column
            nearest = int(np.argmin(np.where(is_used, np.inf, least)))
            step = least[nearest]
            row_price[row_of[is_used]] += step
            column_price[is_used] -= step
            least[~is_used] -= step
            column = nearest
            if row_of[column] == 0:
                break
        while column:
            previous = int(came_from[column])
            row_of[column], column = row_of[previous], previous
    return sorted((int(row) - 1, column - 1) for column, row in enumerate(row_of) if column and row)
