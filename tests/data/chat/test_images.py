import io

import numpy as np
import pytest
from PIL import Image

from medvlp.data.chat.images import Processed
from medvlp.shards import BadSample, Sample


class Brightness:
    """A processor that tells which image it got."""

    def __call__(self, images, return_tensors):
        return {"pixel_values": np.array([np.asarray(image).mean() for image in images])}


def test_images_come_in_the_order_of_their_names():
    def grey(level):
        buffer = io.BytesIO()
        Image.new("RGB", (20, 20), (level,) * 3).save(buffer, "PNG")
        return buffer.getvalue()

    sample = Sample("k", {"10.png": grey(30), "02.png": grey(20), "00.png": grey(10)})
    assert Processed(Brightness(), 10_000)(sample).tolist() == [10, 20, 30]
    assert Processed(Brightness(), 10_000)(Sample("k")).shape == (0,)
    with pytest.raises(BadSample, match="20 × 20 pixels, the cap is 399"):
        Processed(Brightness(), 399)(sample)
