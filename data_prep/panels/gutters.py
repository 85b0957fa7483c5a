"""Where the panels of a figure are: recursive cuts along gutters (the XY-cut of Nagy and Seth, ICPR 1984).

Shapes: H, W pixels of the figure. A box is (x0, y0, x1, y1); column x1 and row y1 are outside.

A gutter is a band of rows or columns that crosses a region from side to side in one colour: white, the colour of the
figure's border, or black. It counts where a picture ends at it in a straight edge, or where it cuts the region into
pieces of similar size. Letters, titles and axis labels between gutters are too small for panels: they stay with the
panel nearest to them, and are dropped where there is little of them. Boxes come in reading order: row by row where
they stand in rows, else as they were cut, gutters across before gutters down.

Pictures have black bands and straight edges of their own. So there are several readings of a figure, from light gutters
alone to every straight edge, and a caller who knows from the caption how many panels there are takes the first that
finds as many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Box = tuple[int, int, int, int]

TOLERANCE = 48
"""Grey levels by which a pixel of a gutter may be off: as far as JPEG at quality 75 rings next to a hard edge."""

MEAN_TOLERANCE = 12
"""Grey levels by which a line of a gutter may be off on average."""

STRAY = 0.004
"""Share of a line's pixels that may be of any colour: specks, and less than the 1 % that the curve of a plot takes."""

SHARP = 0.35
"""Share of an edge's pixels that differ from the gutter where a picture ends there."""

SIMILAR = 1.6
"""How many times longer than the shortest the longest piece may be where a gutter has no sharp edge."""

PANEL_SHARE = 0.1
"""Of the figure's longer side: what is narrower or lower is no panel. A row of nine panels still passes."""

PANEL_SIDE = 28
"""Pixels, likewise."""

CONTENT_SHARE = 0.02
"""Of a panel's pixels that differ from a gutter: a black strip with the name of the window is no panel."""

INK_SHARE = 0.3
"""Of a strip of letters next to panels: with more ink than this it is taken for a part of them, as the axis of a plot."""

SEAM_CONTRAST = 16
"""Grey levels between the two sides of a seam."""

SEAM_SHARE = 0.7
"""Share of a seam's pixels, black against black excepted, that show the contrast."""

SEAM_PEAK, SEAM_WINDOW = 0.5, 31
"""By how much that share has to exceed the median of so many lines around it."""

EVEN = 6
"""How many times larger than the smallest panel the largest may be, in a reading that is little trusted."""

READINGS = ("light gutters", "black gutters", "black bands", "seams")
"""The readings of a figure, each finding what the one before it finds and more, and each trusted less."""

BELIEVED = ("light gutters", "black gutters")
"""Readings whose panels may be of any size: every gutter shows where a picture ends."""


def find_panels(gray_HW: np.ndarray, count: int) -> list[Box] | None:
    """The panels in reading order by the first reading that finds `count` of them; None if none does. gray: uint8."""
    for reading in READINGS:
        boxes = read_panels(gray_HW, reading)
        if len(boxes) == count:
            return boxes if reading in BELIEVED or _are_even(boxes) else None
    return None


def read_panels(gray_HW: np.ndarray, reading: str) -> list[Box]:
    """The panels that one reading finds, in reading order; a single box where it finds no gutter."""
    height, width = gray_HW.shape
    figure = _Figure(gray_HW, READINGS.index(reading))
    return _by_rows(list(figure.cut((0, 0, width, height))))


def _are_even(boxes: list[Box]) -> bool:
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    return max(areas) <= EVEN * min(areas)


def _by_rows(boxes: list[Box]) -> list[Box]:
    """Row by row where the boxes stand in rows; as they were cut where one stands next to several of another row."""
    rows: list[list[Box]] = []
    for box in sorted(boxes, key=lambda box: box[1] + box[3]):
        if rows and all(_share_a_row(box, neighbour) for neighbour in rows[-1]):
            rows[-1].append(box)
        else:
            rows.append([box])
    if any(
        _share_a_row(upper, lower)
        for upper_row, lower_row in pairwise(rows)
        for upper in upper_row
        for lower in lower_row
    ):
        return boxes
    return [box for row in rows for box in sorted(row)]


def _share_a_row(first: Box, second: Box) -> bool:
    overlap = min(first[3], second[3]) - max(first[1], second[1])
    return 2 * overlap > min(first[3] - first[1], second[3] - second[1])


class _Ground:
    """Which lines of a region are of one colour."""

    def __init__(self, gray_HW: np.ndarray, value: int) -> None:
        off_HW = np.abs(gray_HW.astype(np.int16) - value)
        self.value = value
        far_HW = off_HW > TOLERANCE
        # Running sums along lines: a line's share inside any region is then one subtraction.
        self.far = [_running(far_HW, axis) for axis in (0, 1)]
        self.off = [_running(off_HW, axis) for axis in (0, 1)]

    def far_share(self, box: Box, axis: int) -> np.ndarray:
        """For each line of the region across `axis` (0: rows), the share of its pixels that are not the ground's."""
        return _inside(self.far[axis], box, axis)

    def is_clean(self, box: Box, axis: int) -> np.ndarray:
        return (self.far_share(box, axis) <= STRAY) & (_inside(self.off[axis], box, axis) <= MEAN_TOLERANCE)


def _running(values_HW: np.ndarray, axis: int) -> np.ndarray:
    padded = np.pad(values_HW, ((0, 0), (1, 0)) if axis == 0 else ((1, 0), (0, 0)))
    return np.cumsum(padded, axis=1 - axis, dtype=np.int32)


def _inside(sums: np.ndarray, box: Box, axis: int) -> np.ndarray:
    x0, y0, x1, y1 = box
    if axis == 0:
        return (sums[y0:y1, x1] - sums[y0:y1, x0]) / (x1 - x0)
    return (sums[y1, x0:x1] - sums[y0, x0:x1]) / (y1 - y0)


@dataclass(frozen=True)
class _Band:
    """Lines start … stop of a region, counted from its edge, in one colour."""

    start: int
    stop: int
    ground: _Ground


class _Figure:
    def __init__(self, gray_HW: np.ndarray, level: int) -> None:
        self.gray_HW = gray_HW
        self.level = level
        self.panel_side = max(PANEL_SIDE, round(PANEL_SHARE * max(gray_HW.shape)))
        self.light = [_Ground(gray_HW, value) for value in _light_values(gray_HW)]
        self.grounds = self.light + ([_Ground(gray_HW, 0)] if level >= 1 else [])

    def cut(self, box: Box) -> Iterator[Box]:
        box = self.trim(box)
        if min(box[2] - box[0], box[3] - box[1]) < self.panel_side:
            return
        for axis in (0, 1):
            pieces = self.split(box, axis)
            if len(pieces) == 1:
                box = self.trim(pieces[0])
            else:
                for piece in pieces:
                    yield from self.cut(piece)
                return
        for axis in (0, 1):
            pieces = self.split_at_seam(box, axis) if self.level >= 3 and self.is_picture(box) else []
            if pieces:
                for piece in pieces:
                    yield from self.cut(piece)
                return
        if all(ground.far_share(box, 0).mean() >= CONTENT_SHARE for ground in self.grounds):
            yield box

    def trim(self, box: Box) -> Box:
        """Without light margins; empty if it is all margin. Black ones stay: most are the picture's own."""
        untrimmed = None
        while box != untrimmed:
            untrimmed = box
            for ground in self.light:
                for axis in (0, 1):
                    if box[0] == box[2] or box[1] == box[3]:
                        return box
                    dirty = np.flatnonzero(~ground.is_clean(box, axis))
                    if not dirty.size:
                        return (box[0], box[1], box[0], box[1])
                    box = _part(box, axis, int(dirty[0]), int(dirty[-1]) + 1)
        return box

    def split(self, box: Box, axis: int) -> list[Box]:
        """The region's pieces across the axis (0: from top to bottom); one, maybe smaller, if no gutter counts."""
        bands = self.bands(box, axis)
        sides = {band: self.sharp_sides(box, axis, band) for band in bands}
        sharp = [band for band in bands if any(sides[band])]
        for counted in (bands, sharp):
            if self.level < 2:
                counted = [band for band in counted if band.ground.value or any(sides[band])]
            pieces = self.pieces(box, axis, counted, sides)
            lengths = [stop - start for start, stop in pieces]
            if counted is sharp or not lengths or max(lengths) <= SIMILAR * min(lengths) or set(counted) == set(sharp):
                break
        return [_part(box, axis, start, stop) for start, stop in pieces] or [box]

    def bands(self, box: Box, axis: int) -> list[_Band]:
        length = box[3] - box[1] if axis == 0 else box[2] - box[0]
        bands = []
        for ground in self.grounds:
            clean = ground.is_clean(box, axis)
            edges = np.flatnonzero(np.diff(np.concatenate(([False], clean, [False])).astype(np.int8)))
            runs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
            bands += [_Band(start, stop, ground) for start, stop in runs if start > 0 and stop < length]
        bands.sort(key=lambda band: band.start)
        return [band for band in bands if band.stop - band.start >= 3 or all(self.sharp_sides(box, axis, band))]

    def sharp_sides(self, box: Box, axis: int, band: _Band) -> tuple[bool, bool]:
        """Whether a picture ends in a straight edge before the band, and after it."""
        share = band.ground.far_share(box, axis)
        # Three lines, for JPEG and reduction smear an edge.
        return bool(share[max(band.start - 3, 0) : band.start].max() >= SHARP), bool(
            share[band.stop : band.stop + 3].max() >= SHARP
        )

    def pieces(
        self, box: Box, axis: int, bands: list[_Band], sides: dict[_Band, tuple[bool, bool]]
    ) -> list[tuple[int, int]]:
        """(start, stop) between the bands, without letters, with crumbs joined to the neighbour across less gutter."""
        stops, starts = [], [0]
        for band in bands:
            # Black that runs into a picture's own black margin is shared between both sides.
            middle = (band.start + band.stop) // 2
            stops.append(band.start if band.ground.value or sides[band][0] else middle)
            starts.append(band.stop if band.ground.value or sides[band][1] else middle)
        stops.append(box[3] - box[1] if axis == 0 else box[2] - box[0])
        pieces = [
            piece
            for piece in zip(starts, stops, strict=True)
            if piece[0] < piece[1] and not self.is_letters(_part(box, axis, *piece), axis, bands)
        ]
        while len(pieces) > 1:
            lengths = [stop - start for start, stop in pieces]
            small = lengths.index(min(lengths))
            if lengths[small] >= self.panel_side:
                break
            gap_before = pieces[small][0] - pieces[small - 1][1] if small > 0 else None
            gap_after = pieces[small + 1][0] - pieces[small][1] if small + 1 < len(pieces) else None
            first = small - 1 if gap_after is None or (gap_before is not None and gap_before <= gap_after) else small
            pieces[first : first + 2] = [(pieces[first][0], pieces[first + 1][1])]
        return pieces

    def is_letters(self, box: Box, axis: int, bands: list[_Band]) -> bool:
        """A low or narrow strip on a light ground with little in it."""
        low = box[3] - box[1] if axis == 0 else box[2] - box[0]
        if low >= self.panel_side or not bands or not bands[0].ground.value:
            return False
        clean = bands[0].ground.is_clean(box, 1 - axis)
        return 1 - clean.mean() <= INK_SHARE

    def is_picture(self, box: Box) -> bool:
        """Not drawn on paper: the bars of a chart touch along straight edges too."""
        return bool(self.light[0].far_share(box, 0).mean() >= 0.5)

    def split_at_seam(self, box: Box, axis: int) -> list[Box]:
        """The region's two pieces where two pictures touch along a straight edge, or none."""
        x0, y0, x1, y1 = box
        lines = self.gray_HW[y0:y1, x0:x1].astype(np.int16)
        lines = lines if axis == 0 else lines.T
        if len(lines) < 2 * self.panel_side:
            return []
        pairs = (lines[1:] + lines[:-1]) // 2
        upper, lower = pairs[:-2], pairs[2:]  # a line on either side, and two smeared ones between
        lit = np.maximum(upper, lower) > TOLERANCE
        contrast = (np.abs(lower - upper) >= SEAM_CONTRAST) & lit
        share = contrast.sum(axis=1) / np.maximum(lit.sum(axis=1), lines.shape[1] / 2)
        # A noisy picture has contrast between all its lines: a seam stands out from those around it.
        nearby = sliding_window_view(np.pad(share, SEAM_WINDOW // 2, mode="edge"), SEAM_WINDOW)
        share = np.where(share - np.median(nearby, axis=1) >= SEAM_PEAK, share, 0)
        inner = share[self.panel_side - 2 : len(share) - self.panel_side + 2]
        if not inner.size or inner.max() < SEAM_SHARE:
            return []
        seam = int(inner.argmax()) + self.panel_side
        return [_part(box, axis, 0, seam), _part(box, axis, seam, len(lines))]


def _part(box: Box, axis: int, start: int, stop: int) -> Box:
    x0, y0, x1, y1 = box
    return (x0, y0 + start, x1, y0 + stop) if axis == 0 else (x0 + start, y0, x0 + stop, y1)


def _light_values(gray_HW: np.ndarray) -> list[int]:
    """White, and the colour of the figure's border where it has one that is neither white nor black."""
    border = np.concatenate([gray_HW[0], gray_HW[-1], gray_HW[:, 0], gray_HW[:, -1]])
    value = int(np.bincount(border, minlength=256).argmax())
    is_plain = np.mean(np.abs(border.astype(np.int16) - value) <= MEAN_TOLERANCE) >= 0.9
    return [255, value] if is_plain and TOLERANCE < value < 255 - TOLERANCE else [255]
