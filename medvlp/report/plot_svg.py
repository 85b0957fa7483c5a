"""Line plots as plain SVG in the page's own colours, so that they are legible on light and on dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

COLOURS = 8
"""Colours of the page, `c0` to `c7`; more curves than that do not belong into one plot."""
TICKS = 4
"""About as many on an axis."""
FARTHEST = 1e300
"""End of an axis at most: spans of larger numbers are beyond float64."""
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 44, 12, 10, 38
"""Of the axes inside the drawing, pixels."""


@dataclass(frozen=True)
class Curve:
    """Points in the order of x, and the interval of each y where there is one."""

    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high)."""
    sizes: Sequence[float] = ()
    """Radius of each point's dot, pixels; none are drawn without."""
    colour: int = 0


@dataclass(frozen=True)
class Axis:
    """What an axis spans, and its label."""

    low: float
    high: float
    label: str

    def ticks(self) -> list[float]:
        """Round numbers inside."""
        span = self.high - self.low
        power = 10 ** math.floor(math.log10(span / TICKS))
        step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= TICKS + 2)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Plot:
    """A drawing of curves in one pair of axes."""

    title: str
    """For those who cannot see it."""
    x: Axis
    y: Axis
    curves: Sequence[Curve] = field(default_factory=list)
    has_diagonal: bool = False
    width: int = 400
    height: int = 240

    def svg(self) -> Markup:
        """The drawing."""
        parts = [*self._axes()]
        if self.has_diagonal:
            low, high = max(self.x.low, self.y.low), min(self.x.high, self.y.high)
            parts.append(f'<path class="ideal" d="M{self._point(low, low)}L{self._point(high, high)}"></path>')
        for curve in self.curves:
            parts += self._curve(curve)
        title = Markup.escape(self.title)
        box = f"0 0 {self.width} {self.height}"
        return Markup(f'<svg class="plot" role="img" aria-label="{title}" viewBox="{box}">{"".join(parts)}</svg>')

    def _x(self, value: float) -> float:
        share = (value - self.x.low) / (self.x.high - self.x.low)
        return MARGIN_LEFT + share * (self.width - MARGIN_LEFT - MARGIN_RIGHT)

    def _y(self, value: float) -> float:
        share = (value - self.y.low) / (self.y.high - self.y.low)
        return self.height - MARGIN_BOTTOM - share * (self.height - MARGIN_TOP - MARGIN_BOTTOM)

    def _point(self, x: float, y: float) -> str:
        return f"{self._x(x):.1f} {self._y(y):.1f}"

    def _axes(self) -> list[str]:
        start, end = MARGIN_LEFT, self.width - MARGIN_RIGHT
        top, bottom = MARGIN_TOP, self.height - MARGIN_BOTTOM
        grid = "".join(f"M{start} {self._y(tick):.1f}H{end}" for tick in self.y.ticks())
        parts = [f'<path class="grid" d="{grid}"></path><path class="axis" d="M{start} {top}V{bottom}H{end}"></path>']
        parts += [_text(start - 5, self._y(tick) + 4, _number(tick), "end") for tick in self.y.ticks()]
        parts += [_text(self._x(tick), bottom + 15, _number(tick), "middle") for tick in self.x.ticks()]
        parts.append(_text((start + end) / 2, self.height - 6, self.x.label, "middle"))
        if self.y.label:
            middle = (top + bottom) / 2
            turn = f' transform="rotate(-90 11 {middle:.1f})"'
            parts.append(_text(11, middle, self.y.label, "middle", turn))
        return parts

    def _curve(self, curve: Curve) -> list[str]:
        colour = f"c{curve.colour % COLOURS}"
        parts = []
        if curve.band:
            upper = [self._point(x, high) for x, _, high in curve.band]
            lower = [self._point(x, low) for x, low, _ in reversed(curve.band)]
            parts.append(f'<path class="band {colour}" d="M{"L".join([*upper, *lower])}Z"></path>')
        points = [self._point(x, y) for x, y in curve.points]
        if len(points) > 1:
            parts.append(f'<path class="line {colour}" d="M{"L".join(points)}"></path>')
        for (x, y), size in zip(curve.points, curve.sizes, strict=False):
            parts.append(
                f'<circle class="dot {colour}" cx="{self._x(x):.1f}" cy="{self._y(y):.1f}" r="{size:.1f}"></circle>'
            )
        return parts


def axis_around(values: Sequence[float], label: str, least: float = 0.0) -> Axis:
    """An axis that holds all values, with space at its ends, and spans at least so much; of fractions it stays from 0 to 1."""
    low, high = max(min(values), -FARTHEST), min(max(values), FARTHEST)
    space = max(0.05 * (high - low), (least - (high - low)) / 2, 1e-9 * max(abs(low), abs(high), 1))
    if low >= 0 and high <= 1:
        return Axis(max(low - space, 0.0), min(high + space, 1.0), label)
    return Axis(low - space, high + space, label)


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many of the points, first and last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(n * (len(points) - 1) / (most - 1))] for n in range(most)]


def _text(x: float, y: float, text: str, anchor: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{Markup.escape(text)}</text>'


def _number(value: float) -> str:
    text = f"{round(value, 10):g}"
    return text if abs(value) < 10_000 else f"{value / 1000:g}k"
