"""Histograms as plain SVG in the page's own colours, so that they are legible on light and on dark."""

import numpy as np
from markupsafe import Markup

BINS = 40
WIDTH, HEIGHT, LEFT, BOTTOM = 460, 230, 52, 36
"""Of the drawing, and the margins of its axes."""


def histogram(title: str, values_N: np.ndarray, x_label: str) -> Markup:
    """Counts of at least one number, none negative; the last bin holds what is beyond the 99th percentile."""
    top = float(np.quantile(values_N, 0.99, method="higher"))
    largest = float(values_N.max())
    low = float(values_N.min())
    high = max(top, low + 1)
    counts, _ = np.histogram(np.minimum(values_N, high), bins=BINS, range=(low, high))
    x_label = x_label if largest <= high else f"{x_label} (last bin: up to {largest:g})"
    most = int(counts.max())
    across, up = WIDTH - LEFT - 8, HEIGHT - BOTTOM - 10
    step = across / BINS
    heights = [up * int(count) / most for count in counts]
    bars = [
        f'<rect class="bar" x="{LEFT + n * step:.1f}" y="{10 + up - height:.1f}" width="{step - 1:.1f}" '
        f'height="{height:.1f}"></rect>'
        for n, height in enumerate(heights)
        if height
    ]
    ticks = [
        _text(LEFT + across * share, 10 + up + 14, _number(low + (high - low) * share), anchor)
        for share, anchor in ((0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1, "end"))
    ]
    marks = [_text(LEFT - 6, 14, f"{most}", "end"), _text(LEFT - 6, 10 + up, "0", "end")]
    axis = f'<line class="axis" x1="{LEFT}" y1="{10 + up}" x2="{LEFT + across}" y2="{10 + up}"></line>'
    label = _text(LEFT + across / 2, HEIGHT - 5, x_label, "middle")
    body = "".join([*bars, axis, *ticks, *marks, label])
    name = Markup.escape(title)
    return Markup(f'<svg role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {HEIGHT}">{body}</svg>')


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{Markup.escape(text)}</text>'


def _number(value: float) -> str:
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f}k"
