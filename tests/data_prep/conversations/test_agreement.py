"""Boxes of several readers: which of them mean the same, worked out by hand."""

import pytest

from data_prep.conversations.agreement import UNION, Agreement

BOX, NEAR, FAR = (0.0, 0.0, 0.4, 0.4), (0.0, 0.0, 0.4, 0.3), (0.6, 0.6, 1.0, 1.0)  # BOX and NEAR: IoU 0.75
BETWEEN = (0.0, 0.0, 0.4, 0.2)  # IoU with BOX 0.5, with NEAR 2/3


@pytest.mark.parametrize(
    ("boxes", "agreed", "alone"),
    [
        ([(BOX, "R8"), (NEAR, "R9"), (FAR, "R9")], [(0.0, 0.0, 0.4, 0.35)], 1),
        ([(BOX, "R8"), (NEAR, "R8")], [], 2),  # of one reader
        ([(BOX, "R8"), (FAR, "R9")], [], 2),
        ([(FAR, "R8"), (BOX, "R8"), (FAR, "R9"), (NEAR, "R9")], [FAR, (0.0, 0.0, 0.4, 0.35)], 0),
        # a reader with two boxes counts once: (mean of 0.4 and 0.3, and 0.4) / 2
        ([(BOX, "R8"), (NEAR, "R8"), (BOX, "R9")], [(0.0, 0.0, 0.4, 0.375)], 0),
        ([(BOX, "R8"), (BOX, "R8"), (FAR, "R9")], [], 3),
        ([(BOX, ""), (BOX, ""), (FAR, "")], [BOX, FAR], 0),  # a consensus
    ],
)
def test_boxes_that_two_readers_drew(boxes, agreed, alone):
    assert Agreement().agreed(boxes) == ([pytest.approx(box) for box in agreed], alone)


def test_a_third_box_links_two_and_thresholds_count():
    boxes = [(BOX, "R8"), (BETWEEN, "R9"), (NEAR, "R10")]
    assert Agreement(0.6).agreed(boxes) == ([pytest.approx((0.0, 0.0, 0.4, 0.3))], 0)
    assert Agreement(0.7).agreed(boxes) == ([pytest.approx((0.0, 0.0, 0.4, 0.35))], 1)
    assert Agreement(0.6, 3).agreed(boxes[:2]) == ([], 2)
    assert UNION.agreed(boxes) == ([BOX, BETWEEN, NEAR], 0)
