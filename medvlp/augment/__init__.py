"""Random changes of training images by name, such as colour jitter or small rotations; nothing here imports torch at its top."""

from medvlp.augment.base import AugmentError, Transform, augmented
from medvlp.augment.table import TRANSFORMS, parse_transforms

__all__ = ["TRANSFORMS", "AugmentError", "Transform", "augmented", "parse_transforms"]
