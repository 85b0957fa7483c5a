"""What a model would score without looking: images that show nothing, or something else."""

from collections.abc import Sequence

import numpy as np

BEST_CONSTANT, BLANK_IMAGE, SHUFFLED_IMAGES = "best_constant", "blank_image", "shuffled_images"
CONTROLS = (BEST_CONSTANT, BLANK_IMAGE, SHUFFLED_IMAGES)

Place = tuple[int, int]
"""An image: (number of its case, its place there)."""


def derangement(images: Sequence[int], seed: int) -> list[list[Place]]:
    """For every case the images that it is shown instead of its own: all images, each once, none in its own case.

    images: how many each case has. With one image each, the permutation is a cycle drawn uniformly at random.

    Raises:
        ValueError: one case has more than half of the images.
    """
    most, total = max(images, default=0), sum(images)
    if 2 * most > total:
        raise ValueError(f"{total} images in {len(images)} cases cannot all change places: one case has {most}")
    order = np.random.default_rng(seed).permutation(len(images))
    places = [(int(case), place) for case in order for place in range(images[case])]
    # A case's images stand together, so images that are `most` places apart belong to different cases.
    other = dict(zip(places, [*places[most:], *places[:most]], strict=True))
    return [[other[case, place] for place in range(count)] for case, count in enumerate(images)]
