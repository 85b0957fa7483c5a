"""What processors show of images: the rule is compared with the pixels that transformers' own processors make."""

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil, SiglipImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize

from medvlp.boxes.views import Geometry, View, geometry_of

SIDE = 64
SQUARE = {"height": SIDE, "width": SIDE}
PROCESSORS = {
    "crop": lambda: CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE),
    "larger crop": lambda: CLIPImageProcessorPil(size={"shortest_edge": 80}, crop_size=SQUARE),
    "squash": lambda: SiglipImageProcessorPil(size=SQUARE),
    "squash by CLIP": lambda: CLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE),
    "pad": lambda: LlavaImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE, do_pad=True),
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(("width", "height"), [(120, 80), (75, 131), (64, 64)])
def test_a_box_is_where_the_processor_puts_its_pixels(name, width, height):
    processor = PROCESSORS[name]()
    x0, y0, x1, y1 = width // 3, height // 4, width * 2 // 3, height * 3 // 4
    pixels = np.full((height, width, 3), 0, np.uint8)
    pixels[y0:y1, x0:x1] = 255
    made = processor([Image.fromarray(pixels)], return_tensors="np", do_normalize=False)["pixel_values"][0]
    rows, columns = np.nonzero(
        np.asarray(made).mean(axis=0) > 0.5 if name != "pad" else np.asarray(made).min(axis=0) > 0.7
    )
    view = geometry_of(processor).view(width, height)
    assert (view.width, view.height) == (SIDE, SIDE)
    seen = view.of_image((x0 / width, y0 / height, x1 / width, y1 / height))
    assert np.array(seen) * SIDE == pytest.approx(
        [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], abs=1.01
    )


@pytest.mark.parametrize(("width", "height"), [(640, 480), (20, 33), (5000, 3000), (28, 28), (1023, 77)])
def test_qwen_keeps_the_shape_in_multiples_as_its_own_code_does(width, height):
    geometry = geometry_of(Qwen2VLImageProcessor())
    high, wide = smart_resize(height, width, geometry.factor, geometry.least, geometry.most)
    assert geometry.view(width, height) == View((0, 0, 1, 1), wide, high)


def test_a_padded_square_moves_boxes_there_and_back():
    view = Geometry("pad", 336, 336).view(200, 100)
    assert view.window == (0, -0.5, 1, 1.5)
    assert view.of_image((0.1, 0.0, 0.5, 1.0)) == (0.1, 0.25, 0.5, 0.75)
    assert view.to_image((0.1, 0.25, 0.5, 0.75)) == (0.1, 0.0, 0.5, 1.0)


def test_what_a_crop_does_not_show_is_not_seen():
    view = Geometry("crop", 100, 100, 100).view(200, 100)
    assert view.of_image((0.0, 0.0, 0.2, 1.0)) is None
    assert view.of_image((0.0, 0.0, 0.5, 1.0)) == (0.0, 0.0, 0.5, 1.0)


def test_tiles_and_unknown_processors_show_the_whole_image_in_pixels_that_nobody_told():
    assert geometry_of(object()).view(200, 100) == View()
