import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import RandomResizedCrop

from medvlp.data.images.crop import crop_box, random_crop, to_tensor


def picture(mode: str = "RGB") -> Image.Image:
    """Smooth, as figures are; noise would only measure the filters' handling of noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 18, 3), dtype=np.uint8))
    return coarse.resize((360, 240), Image.Resampling.BICUBIC).convert(mode)


def test_the_whole_image_is_within_2_of_pils_bicubic():
    view = random_crop(picture().crop((0, 0, 240, 240)), 64, [1, 1], [1, 1], np.random.default_rng(0))
    pil = to_tensor(picture().crop((0, 0, 240, 240)).resize((64, 64), Image.Resampling.BICUBIC))
    assert view.dtype == torch.uint8
    assert (view.int() - pil.int()).abs().max() <= 2


def test_grey_is_resized_once_with_the_result_of_three_equal_channels():
    grey = picture("L")
    views = [
        random_crop(image, 56, [0.5, 1], [0.75, 1.33], np.random.default_rng(5))
        for image in (grey, grey.convert("RGB"))
    ]
    assert torch.equal(*views)


def test_the_view_depends_on_the_random_state_alone():
    views = [random_crop(picture(), 32, [0.3, 1], [0.75, 1.33], np.random.default_rng(s)) for s in (1, 1, 2)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_boxes_are_distributed_as_torchvisions():
    height, width, scale, ratio = 240, 360, (0.2, 0.8), (3 / 4, 4 / 3)
    rng = np.random.default_rng(0)
    ours = np.array([crop_box(height, width, scale, ratio, rng) for _ in range(4000)])
    torch.manual_seed(0)
    crop, image = RandomResizedCrop(10, scale=scale, ratio=ratio), torch.zeros(1, height, width)
    drawn = [crop.make_params([image]) for _ in range(4000)]
    theirs = np.array([[d[k] for k in ("top", "left", "height", "width")] for d in drawn])
    assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < 3  # pixels; four standard errors
    assert np.abs(ours.std(axis=0) - theirs.std(axis=0)).max() < 3
    assert (ours[:, 0] + ours[:, 2]).max() <= height
    assert (ours[:, 1] + ours[:, 3]).max() <= width


def test_an_extreme_shape_falls_back_to_the_centre():
    assert crop_box(10, 1000, (1, 1), (1, 1), np.random.default_rng(0)) == (0, 495, 10, 10)
