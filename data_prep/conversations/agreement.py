"""Boxes that several readers drew of one thing: those that enough of them agree on, as one box each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from medvlp.boxes.canonical import Box, overlap


@dataclass(frozen=True)
class Agreement:
    """When readers mean the same. iou: of two of their boxes, at least. least: readers who drew it.

    Boxes of different readers that overlap so are of one group, and so are those that a third one links. A group of enough
    readers becomes one box: the mean of each side over readers, each by the mean of their own boxes in the group.
    """

    iou: float = 0.5
    least: int = 2

    def agreed(self, boxes: Sequence[tuple[Box, str]]) -> tuple[list[Box], int]:
        """(the boxes that are agreed on, in the order of their first, how many are of too few readers).

        boxes: with the reader of each. Where no reader is named, or one is enough, all of them are agreed on already.
        """
        if self.least < 2 or not any(reader for _, reader in boxes):
            return list(dict.fromkeys(box for box, _ in boxes)), 0
        merged, too_few = [], 0
        for group in self._groups(boxes):
            of_reader: dict[str, list[Box]] = {}
            for box, reader in group:
                of_reader.setdefault(reader, []).append(box)
            if len(of_reader) < self.least:
                too_few += len(group)
                continue
            merged.append(_mean([_mean(group_boxes) for group_boxes in of_reader.values()]))
        return merged, too_few

    def _groups(self, boxes: Sequence[tuple[Box, str]]) -> list[list[tuple[Box, str]]]:
        groups: list[list[tuple[Box, str]]] = []
        for box, reader in boxes:
            linked = [i for i, group in enumerate(groups) if self._is_linked(box, reader, group)]
            merged = [pair for i in linked for pair in groups[i]]
            position = linked[0] if linked else len(groups)
            groups = [group for i, group in enumerate(groups) if i not in linked]
            groups.insert(position, [*merged, (box, reader)])
        return groups

    def _is_linked(self, box: Box, reader: str, group: Sequence[tuple[Box, str]]) -> bool:
        return any(reader != rival and overlap(box, rival_box) >= self.iou for rival_box, rival in group)


def _mean(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = (fmean(sides) for sides in zip(*boxes, strict=True))
    return x0, y0, x1, y1


UNION = Agreement(least=1)
"""Every box of every reader."""
