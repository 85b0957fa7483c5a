import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from medvlp.data.images import resize


def grain(height: int, width: int, channels: int = 1) -> np.ndarray:
    pixels_HWC = np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, channels), dtype=np.uint8
    )
    return pixels_HWC[..., 0] if channels == 1 else pixels_HWC


def by_interpolate(pixels_HWC: np.ndarray, size: int) -> np.ndarray:
    pixels = torch.from_numpy(pixels_HWC.transpose(2, 0, 1).copy())[None]
    return interpolate(pixels, (size, size), mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()


SHAPES = [(3, 50), (4, 4), (5, 9), (17, 64), (63, 500), (97, 101), (130, 40), (401, 13)]


@pytest.mark.parametrize("has_opencv", [True, False])
@pytest.mark.parametrize("size", [16, 30, 64])
def test_grey_is_what_three_channels_become(size, has_opencv, monkeypatch):
    if not has_opencv:
        monkeypatch.setattr(resize, "opencv", lambda: None)
    for height, width in SHAPES:
        crop_HW = grain(height + 2, width + 5)[1:-1, 2:-3]
        expected = by_interpolate(np.repeat(crop_HW[..., None], 3, axis=2), size)
        assert np.array_equal(resize.resized_grey(crop_HW, size), expected), (height, width)


def test_colour_is_what_interpolate_makes_of_it():
    for height, width in SHAPES:
        crop_HWC = grain(height + 2, width + 5, 3)[1:-1, 2:-3]
        assert np.array_equal(resize.resized_colour(crop_HWC, 24), by_interpolate(crop_HWC, 24)), (height, width)
