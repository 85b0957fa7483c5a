"""A sample's images as an assistant's tower wants them. n: images of the sample; S: side; P: tokens an image; D: width."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medvlp.data.images.decode import decode_image
from medvlp.shards import Sample


@dataclass
class Processed:
    """Pixels by a transformers image processor: the one that the exported model is used with.

    Args:
        processor: image → pixel_values.
        max_pixels: larger images are bad samples.
    """

    processor: Any
    max_pixels: int

    def __call__(self, sample: Sample) -> Tensor:
        """(n, 3, S, S), images in the order of their names; (0,) without any."""
        images = [decode_image(sample.images[name], self.max_pixels) for name in sorted(sample.images)]
        if not images:
            return torch.empty(0)
        return self.processor(images, return_tensors="pt")["pixel_values"]
