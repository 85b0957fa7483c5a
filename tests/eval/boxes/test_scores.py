"""Scores of boxes: torchvision's IoU, scipy's assignment, pixels, and values worked out by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from medvlp.eval.boxes.matching import best_pairs, iou, union_iou
from medvlp.eval.boxes.scores import METRICS, best_constant_box, box_scores

HALF_A, HALF_B = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def some_boxes(rng, count, grid=20):
    corners = np.sort(rng.integers(0, grid + 1, (count, 2, 2)), axis=1)
    corners[:, 1] += corners[:, 0] == corners[:, 1]
    return [tuple(map(float, (corner / grid).ravel())) for corner in corners]


def test_iou_is_torchvisions():
    rng = np.random.default_rng(0)
    a, b = some_boxes(rng, 40), some_boxes(rng, 30)
    expected = box_iou(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    np.testing.assert_allclose(iou(a, b), expected.numpy(), rtol=1e-12, atol=1e-15)
    assert iou([], b).shape == (0, 30)


def test_pairs_have_the_largest_sum_as_scipy_finds_it():
    rng = np.random.default_rng(1)
    for rows, columns in [(1, 1), (1, 5), (5, 1), (4, 4), (3, 7), (8, 5), (9, 9)]:
        for value in (rng.random((rows, columns)), rng.integers(0, 2, (rows, columns)).astype(float)):
            pairs = best_pairs(value)
            assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == min(rows, columns)
            expected = value[linear_sum_assignment(value, maximize=True)].sum()
            assert sum(value[pair] for pair in pairs) == pytest.approx(expected)


def test_the_iou_of_unions_is_that_of_pixels():
    rng = np.random.default_rng(2)
    for _ in range(10):
        sides = [some_boxes(rng, 4), some_boxes(rng, 3)]
        masks = []
        for boxes in sides:
            mask = np.zeros((25, 25), bool)
            for box in boxes:
                x0, y0, x1, y1 = (round(side * 20) for side in box)
                mask[y0:y1, x0:x1] = True
            masks.append(mask)
        expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
        assert union_iou(*sides) == pytest.approx(expected)


def test_one_box_is_scored_as_a_referring_expression():
    scores = box_scores([(0.0, 0.0, 0.5, 0.6)], [HALF_A])
    assert scores["box_iou"] == scores["box_union_iou"] == pytest.approx(0.6)
    assert [scores[f"box_accuracy@{t}"] for t in (0.3, 0.5, 0.7)] == [1, 1, 0]
    assert list(scores) == list(METRICS)


def test_a_pair_at_the_threshold_is_right():
    assert box_scores([(0.0, 0.0, 0.5, 0.5)], [HALF_A])["box_accuracy@0.5"] == 1


@pytest.mark.parametrize(
    ("boxes", "right", "iou_", "union", "accuracy", "recall", "precision"),
    [
        ([HALF_A, HALF_B], [HALF_B, HALF_A], 1, 1, 1, 1, 1),
        ([HALF_A], [HALF_A, HALF_B], 0.5, 0.5, 0, 0.5, 1),
        ([HALF_A, HALF_B], [HALF_A], 0.5, 0.5, 0, 1, 0.5),
        ([HALF_A, (0.0, 0.0, 0.5, 0.9)], [HALF_A, HALF_B], 0.5, 0.5, 0, 0.5, 0.5),
        ([], [HALF_A], 0, 0, 0, 0, 0),
        (None, [HALF_A], 0, 0, 0, 0, 0),
        ([], [], None, None, 1, None, None),
        ([HALF_A], [], None, None, 0, None, 0),
        (None, [], None, None, 0, None, None),
    ],
)
def test_several_boxes_none_and_unread_replies(boxes, right, iou_, union, accuracy, recall, precision):
    scores = box_scores(boxes, right)
    assert list(scores) == list(METRICS)
    got = [
        scores[name] for name in ("box_iou", "box_union_iou", "box_accuracy@0.5", "box_recall@0.5", "box_precision@0.5")
    ]
    assert got == [iou_, union, accuracy, recall, precision]


def test_matching_at_a_threshold_finds_every_pair_that_there_is():
    """The closest partner of the first right box is the only one of the second."""
    first, second = (0.0, 0.0, 0.4, 1.0), (0.1, 0.0, 0.55, 1.0)
    near_both, near_first = (0.06, 0.0, 0.45, 1.0), (0.0, 0.0, 0.25, 1.0)
    scores = box_scores([near_both, near_first], [first, second])
    assert scores["box_recall@0.5"] == 1


def test_the_best_constant_box_is_the_one_that_no_other_candidate_beats():
    boxes = some_boxes(np.random.default_rng(0), 30)
    right_boxes = [boxes[:1], [], boxes[1:4], *([box] for box in boxes[4:])]
    median = tuple(np.median(np.array(boxes), axis=0).tolist())
    scores = {
        box: np.mean([box_scores([box], right)["box_iou"] for right in right_boxes if right])
        for box in [*boxes, median]
    }
    assert scores[best_constant_box(right_boxes)] == max(scores.values())
    west, east = (0.1, 0.2, 0.4, 0.8), (0.6, 0.2, 0.9, 0.8)  # their median is in neither
    assert best_constant_box([[west], [east], [west]]) == west
