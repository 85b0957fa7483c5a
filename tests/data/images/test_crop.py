import io

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import RandomResizedCrop

from medvlp.data.images.crop import RandomView, crop_box, resized, stacked
from medvlp.data.images.pixels import tensor_of


def picture(mode: str = "RGB") -> Image.Image:
    """Smooth, as figures are; noise would only measure the filters' handling of noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 18, 3), dtype=np.uint8))
    return coarse.resize((360, 240), Image.Resampling.BICUBIC).convert(mode)


def encoded(mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    picture(mode).save(buffer, "PNG")
    return buffer.getvalue()


def view(data: bytes, seed: int, scale: float = 0.3) -> torch.Tensor:
    return RandomView(32, [scale, 1], [0.75, 1.33], 10**6)(data, np.random.default_rng(seed))


def test_the_whole_image_is_within_2_of_pils_bicubic():
    image = picture().crop((0, 0, 240, 240))
    small = resized(tensor_of(np.asarray(image)), (0, 0, 240, 240), 64)
    pil = tensor_of(np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC)))
    assert small.dtype == torch.uint8
    assert (small.int() - pil.int()).abs().max() <= 2


def test_grey_is_three_equal_channels():
    assert torch.equal(view(encoded("L"), 5), view(encoded("L"), 5)[:1].expand(3, -1, -1))


def test_the_view_depends_on_the_random_state_alone():
    views = [view(encoded(), seed) for seed in (1, 1, 2)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_a_batch_keeps_the_images_order_in_memory():
    images = [view(encoded(), seed) for seed in (1, 2)]
    batch_BCHW = stacked(images)
    assert torch.equal(batch_BCHW, torch.stack(images))
    assert batch_BCHW.is_contiguous(memory_format=torch.channels_last)


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
