"""Histograms as plain SVG in the page's own colours, so that they are legible on light and on dark."""

import numpy as np
from markupsafe import Markup

BINS = 40
WIDTH, HEIGHT, Y_AXIS, X_AXIS = 460, 230, 52, 36
"""Size of the drawing, width of its y axis, and height of its x axis."""


def histogram(title: str, values_N: np.ndarray, x_label: str) -> Markup:
    """Counts of at least one number, none negative; the last bin holds what is beyond the 99th percentile."""
    top = float(np.quantile(values_N, 0.99, method="higher"))
    largest = float(values_N.max())
    low = float(values_N.min())
    high = max(top, low + 1)
    counts, _ = np.histogram(np.minimum(values_N, high), bins=BINS, range=(low, high))
    x_label = x_label if largest <= high else f"{x_label} (last bin: up to {largest:g})"
    most = int(counts.max())
    plot_width, plot_height = WIDTH - Y_AXIS - 8, HEIGHT - X_AXIS - 10
    step = plot_width / BINS
    heights = [plot_height * int(count) / most for count in counts]
    bars = [
        f'<rect class="bar" x="{Y_AXIS + n * step:.1f}" y="{10 + plot_height - height:.1f}" width="{step - 1:.1f}" '
        f'height="{height:.1f}"></rect>'
        for n, height in enumerate(heights)
        if height
    ]
    ticks = [
        _text(Y_AXIS + plot_width * share, 10 + plot_height + 14, _number(low + (high - low) * share), anchor)
        for share, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    ]
    counts_axis = [_text(Y_AXIS - 6, 14, f"{most}", "end"), _text(Y_AXIS - 6, 10 + plot_height, "0", "end")]
    axis = f'<line class="axis" x1="{Y_AXIS}" y1="{10 + plot_height}" x2="{Y_AXIS + plot_width}" y2="{10 + plot_height}"></line>'
    label = _text(Y_AXIS + plot_width / 2, HEIGHT - 5, x_label, "middle")
    body = "".join([*bars, axis, *ticks, *counts_axis, label])
    name = Markup.escape(title)
    return Markup(f'<svg role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {HEIGHT}">{body}</svg>')


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{Markup.escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f}k"
