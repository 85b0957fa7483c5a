"""Image-blind controls: images that show nothing, or another sample's."""

from collections.abc import Sequence

import numpy as np

from medvlp.config.tasks import CONTROLS

BEST_CONSTANT, BLANK_IMAGE, SHUFFLED_IMAGES = CONTROLS

ImageIndex = tuple[int, int]
"""An image: (index of its sample, its position there)."""


class NoDerangement(ValueError):
    """One sample has more than half of the images."""


def derangement(images: Sequence[int], seed: int) -> list[list[ImageIndex]]:
    """For every sample the images that it is shown instead of its own: all images, each once, none in its own sample.

    images: how many each sample has. With one image each, the permutation is a cycle, uniformly at random.

    Raises:
        NoDerangement: one sample has more than half of the images.
    """
    most, total = max(images, default=0), sum(images)
    if 2 * most > total:
        raise NoDerangement(f"{total} images in {len(images)} cases cannot all change places: one case has {most}")
    order = np.random.default_rng(seed).permutation(len(images))
    indices = [(int(sample), position) for sample in order for position in range(images[sample])]
    # A sample's images stand together, so images that are `most` positions apart belong to different samples.
    donors = dict(zip(indices, [*indices[most:], *indices[:most]], strict=True))
    return [[donors[sample, position] for position in range(count)] for sample, count in enumerate(images)]
