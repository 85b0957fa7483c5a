"""Images of samples, as pairs are trained and evaluated. n: images of a sample; S: side."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medvlp.data.images.decode import decode_image
from medvlp.shards import BadSample, Sample


def images_of(sample: Sample, most: int, rng: np.random.Generator) -> list[bytes]:
    """A sample's images in the order of their names; where it has more than `most`, so many at random.

    Raises BadSample: there is none, or several where `most` is 0.
    """
    if not most:
        return [only_image(sample)]
    names = sorted(sample.images)
    if not names:
        raise BadSample("not_one_image", key=sample.key, detail="0 images, a pair has at least one")
    return [sample.images[names[index]] for index in sampled_images(len(names), most, rng)]


def sampled_images(count: int, most: int, rng: np.random.Generator) -> list[int]:
    """Indices of the images of an example, in their order."""
    if count <= most or not most:
        return list(range(count))
    indices: list[int] = sorted(rng.choice(count, most, replace=False).tolist())
    return indices


def only_image(sample: Sample) -> bytes:
    """The image of a pair. Raises BadSample: there is none, or several."""
    if len(sample.images) != 1:
        raise BadSample("not_one_image", key=sample.key, detail=f"{len(sample.images)} images, a pair has one")
    return next(iter(sample.images.values()))


@dataclass
class EvaluationView:
    """A pair's images as evaluation sees them.

    Args:
        transform: PIL image → (3, S, S).
        max_pixels: larger images are bad samples.
        takes_several: a sample may have more than one.
    """

    transform: Callable[..., Tensor]
    max_pixels: int
    takes_several: bool = False

    def __call__(self, sample: Sample) -> Tensor:
        """(n, 3, S, S), images in the order of their names. Raises BadSample."""
        if not (self.takes_several and sample.images):
            only_image(sample)
        images = [sample.images[name] for name in sorted(sample.images)]
        return torch.stack([self.transform(decode_image(data, self.max_pixels)) for data in images])
