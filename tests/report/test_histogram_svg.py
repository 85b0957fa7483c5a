import re

import numpy as np
import pytest

from medvlp.report.histogram_svg import BINS, HEIGHT, histogram


def bars(chart):
    return [
        tuple(map(float, numbers)) for numbers in re.findall(r'class="bar" x="([\d.]+)".*?height="([\d.]+)"', chart)
    ]


def test_bars_are_as_high_as_the_counts_say():
    chart = histogram("Size", np.array([0] * 10 + [40] * 5 + [20]), "pixels")
    (first, full), (middle, low), (last, half) = bars(chart)
    assert (full, low, half) == pytest.approx((HEIGHT - 46, (HEIGHT - 46) / 10, (HEIGHT - 46) / 2), abs=0.1)
    assert (middle - first) / (last - first) == pytest.approx(20 / (BINS - 1), abs=0.01)
    assert ">10</text>" in chart
    assert ">pixels</text>" in chart


def test_a_giant_goes_to_the_last_bin():
    chart = histogram("Length", np.array([*range(1000), 10**6]), "characters")
    assert "characters (last bin: up to 1e+06)" in chart
    assert len(bars(chart)) == BINS


@pytest.mark.parametrize("values", [[7], [7, 7, 7], [0]])
def test_equal_numbers_are_one_bar(values):
    assert [height for _, height in bars(histogram("x", np.array(values), "y"))] == [HEIGHT - 46]


def test_labels_are_escaped():
    chart = histogram('a"<b>', np.array([1, 2]), "<script>")
    assert "<script>" not in chart
    assert 'aria-label="a&#34;&lt;b&gt;"' in chart
