"""Scores of the boxes of a reply. One to one: each right box has at most one partner, and each box of the reply.

With one right box and one box in the reply, `box_accuracy@0.5` is the accuracy of referring expressions (RefCOCO: Yu 2016) and
`box_iou` its mean IoU. Average precision is not among them: boxes in text have no confidence by which to rank them.
"""

from collections.abc import Sequence

import numpy as np

from medvlp.boxes.canonical import Box
from medvlp.eval.boxes.matching import best_pairs, iou, union_iou

THRESHOLDS = (0.3, 0.5, 0.7)
"""Least IoU of a pair that counts as right."""
MAIN = ("box_iou", "box_accuracy@0.5")
CANDIDATES = 2000
"""Right boxes that are tried as the constant answer."""
METRICS = (
    "box_iou",
    "box_union_iou",
    *(f"box_{name}@{threshold}" for name in ("accuracy", "recall", "precision") for threshold in THRESHOLDS),
)
DESCRIPTIONS = {
    "box_iou": "mean IoU of one-to-one pairs with the largest sum; a box without a partner, on either side, counts as 0",
    "box_union_iou": "IoU of the area that all right boxes cover and of the area that all boxes of the reply cover",
    "box_accuracy@t": "every right box has a partner of IoU t or more, and no box of the reply is left over; where nothing is "
    "right, the reply says so",
    "box_recall@t, box_precision@t": "share of the right boxes, and of the reply's, that have a partner of IoU t or more",
}


def box_scores(boxes: Sequence[Box] | None, right: Sequence[Box]) -> dict[str, float | None]:
    """Every metric of a reply's boxes (None: unread, which is wrong). Where nothing is right, IoU and recall have no value, and
    precision none where the reply has no box either."""
    if boxes is None:
        precision: float | None = 0.0 if right else None
        unread = dict.fromkeys(METRICS, 0.0) | {f"box_precision@{t}": precision for t in THRESHOLDS}
        return unread if right else unread | dict.fromkeys(_of_right_boxes(), None)
    iou_KM = iou(boxes, right)
    most = max(len(boxes), len(right))
    total = sum(iou_KM[pair] for pair in best_pairs(iou_KM)) if boxes and right else 0.0
    scores: dict[str, float | None] = {
        "box_iou": float(total) / most if right else None,
        "box_union_iou": union_iou(boxes, right) if right else None,
    }
    for threshold in THRESHOLDS:
        hits = _hits(iou_KM >= threshold)
        scores[f"box_accuracy@{threshold}"] = float(hits == most)
        scores[f"box_recall@{threshold}"] = hits / len(right) if right else None
        scores[f"box_precision@{threshold}"] = hits / len(boxes) if boxes else (0.0 if right else None)
    return {name: scores[name] for name in METRICS}


def _of_right_boxes() -> list[str]:
    return [name for name in METRICS if name.endswith("iou") or "recall" in name]


def _hits(is_near_KM: np.ndarray) -> int:
    """Pairs of the largest one-to-one matching."""
    if not is_near_KM.any():
        return 0
    near_KM = is_near_KM.astype(np.float64)
    return int(sum(near_KM[pair] for pair in best_pairs(near_KM)))


def best_constant_box(right_boxes: Sequence[Sequence[Box]]) -> Box:
    """The box that scores the highest mean `box_iou` as the one answer to every question: what a reply scores that knows where
    things usually are, and sees nothing. Of the right boxes (at most `CANDIDATES`, evenly spaced) and of the medians of their
    sides; of equals the first.

    right_boxes: of each question; those of questions where nothing is right do not count, and one at least has some.
    """
    answered = [boxes for boxes in right_boxes if boxes]
    boxes_M = [box for boxes in answered for box in boxes]
    count_Q = np.array([len(boxes) for boxes in answered])
    first_Q = np.cumsum(count_Q) - count_Q
    stride = -(-len(boxes_M) // CANDIDATES)
    x0, y0, x1, y1 = np.median(np.array(boxes_M, np.float64), axis=0).tolist()
    candidates = list(dict.fromkeys([*boxes_M[::stride], (x0, y0, x1, y1)]))
    # of one box, the best partner is all that pairs; the other right boxes count as 0
    means = [float((np.maximum.reduceat(iou([box], boxes_M)[0], first_Q) / count_Q).mean()) for box in candidates]
    return candidates[int(np.argmax(means))]
