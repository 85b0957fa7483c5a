"""Columns of scores against their definitions."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from medvlp.eval.scores import columns
from medvlp.eval.scores.columns import earlier_duplicates, quality_of


def test_quality_is_that_of_the_definitions():
    level_HW = np.random.default_rng(0).integers(0, 256, (9, 7))
    quality = quality_of(Image.fromarray(level_HW.astype(np.uint8)).convert("RGB"))
    counts = Counter(level_HW.ravel().tolist())
    assert quality["entropy"] == pytest.approx(-sum(n / 63 * math.log2(n / 63) for n in counts.values()))
    assert quality["contrast"] == pytest.approx(level_HW.std())
    neighbours = ((-1, 0), (1, 0), (0, -1), (0, 1))
    laplacian = [
        sum(level_HW[y + dy, x + dx] for dy, dx in neighbours) - 4 * level_HW[y, x]
        for y in range(1, 8)
        for x in range(1, 6)
    ]
    assert quality["sharpness"] == pytest.approx(np.var(laplacian))


def test_of_one_colour_and_of_one_pixel_there_is_nothing():
    for size in ((2000, 3), (1, 1)):
        assert quality_of(Image.new("RGB", size, (9, 9, 9))) == {"entropy": 0.0, "sharpness": 0.0, "contrast": 0.0}


def test_near_duplicates_are_counted_among_earlier_images(monkeypatch):
    monkeypatch.setattr(columns, "BLOCK", 2)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(4, 5))
    image_ND = vectors[[0, 1, 0, 2, 1, 0, 3, 0, 3]] + 1e-3 * rng.normal(size=(9, 5))
    image_ND = (image_ND / np.linalg.norm(image_ND, axis=1, keepdims=True)).astype(np.float32)
    image_ND[6] = np.nan  # has no image
    none_ND = np.full((2, 0), np.nan, np.float32)  # a part without any image
    parts = [image_ND[:3], none_ND, image_ND[3:6], image_ND[6:]]
    ranks, nearest = zip(*(earlier_duplicates(part, parts[:n], 0.99) for n, part in enumerate(parts)), strict=True)
    nearest_N = np.concatenate(nearest)
    assert np.concatenate(ranks).tolist() == [0, 0, 1, 0, 0, 0, 1, 2, 0, 3, 0]
    cosine_NN = image_ND @ image_ND.T
    expected = [max((cosine_NN[n, m] for m in range(n) if m != 6), default=np.nan) for n in range(9)]
    expected[6] = np.nan
    np.testing.assert_allclose(np.delete(nearest_N, [3, 4]), expected, rtol=1e-6)
    assert np.isnan(nearest_N[3:5]).all()


def test_equal_images_are_duplicates_whatever_rounding_makes_of_their_cosine():
    image_ND = np.random.default_rng(0).normal(size=(20, 512)).astype(np.float32)
    image_ND /= np.linalg.norm(image_ND, axis=1, keepdims=True)
    ranks, _ = earlier_duplicates(np.concatenate([image_ND, image_ND]), [], 1.0)
    assert ranks.tolist() == [0] * 20 + [1] * 20
