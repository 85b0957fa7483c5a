"""Charts as inline SVG: deterministic bytes, text as text, nothing that a browser would have to fetch."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

POINTS = 400
"""Points of a curve in a chart; longer ones are averaged over stretches, with their range shaded."""

COLOURS = ("#0b5cad", "#c2410c", "#15803d", "#7c3aed", "#a16207", "#be185d", "#0e7490", "#4b5563")

Curve = Sequence[tuple[float, float]]

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "medvlp",  # element ids would otherwise be random
    "svg.fonttype": "none",
    "text.parse_math": False,  # a metric's name may hold a dollar sign
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#6b7280",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "axes.axisbelow": True,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def thin(curve: Curve) -> list[tuple[float, float, float, float]]:
    """At most POINTS of (x, mean, lowest, highest) over stretches of equal length; values that are not finite go."""
    finite = [(x, y) for x, y in curve if math.isfinite(y)]
    stride = max(1, math.ceil(len(finite) / POINTS))
    points = []
    for start in range(0, len(finite), stride):
        xs, ys = zip(*finite[start : start + stride], strict=True)
        points.append((sum(xs) / len(xs), sum(ys) / len(ys), min(ys), max(ys)))
    return points


def line_chart(title: str, curves: Mapping[str, Curve]) -> Markup:
    """Curves over steps by name, in one pair of axes."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _axes(title)
        for colour, (name, curve) in zip(cycle(COLOURS), curves.items(), strict=False):
            points = thin(curve)
            x, mean, low, high = (list(column) for column in zip(*points, strict=True)) if points else ([], [], [], [])
            marker = "o" if len(points) < 3 else None  # a line through one point is invisible
            axes.plot(x, mean, color=colour, linewidth=1.5, label=name, marker=marker, markersize=4)
            if len(points) < len(curve):
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel("step")
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize=8)
        return _svg(figure, title)


def _axes(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 2.7), layout="constrained")
    axes = figure.subplots()
    # Plain numbers: matplotlib's common factor (1e-5) would stand where the title does.
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if abs(value) < 10_000 else f"{value / 1000:g}k")
    axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
    return figure, axes


def _svg(figure: Figure, title: str) -> Markup:
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata=_NO_METADATA, transparent=True)
    text = svg.getvalue()
    text = text[text.index("<svg") :]  # the XML declaration and the DTD's address do not belong inside HTML
    label = Markup.escape(title)  # matplotlib escapes the texts inside by itself
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))
