"""Pixels of an image file as a tensor, for training. H, W: pixels."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medvlp.data.images import jpeg
from medvlp.data.images.decode import damage_named, orientation_of, render, upright, with_header


class ImageFile:
    """An image file whose header was read, for pixels as a tensor: those of `decode_image`. size: (height, width), upright.

    A JPEG of 8 bits in grey or colour is decoded by libjpeg-turbo straight into the array. Where that reports anything, and for
    every other file, Pillow decodes.

    Raises:
        BadSample: as `open_image`.
    """

    def __init__(self, data: bytes, max_pixels: int) -> None:
        self.data = data
        self.picture: Image.Image | None = None
        with damage_named():
            self.image = with_header(data, max_pixels)
            self.is_plain = jpeg.is_plain(self.image, data)
            if self.is_plain:
                self.orientation = orientation_of(self.image)
                width, height = self.image.size
                self.size = (width, height) if self.orientation >= 5 else (height, width)
            else:
                self.picture = render(self.image, data)[0]
                self.size = (self.picture.height, self.picture.width)

    def pixels(self, reduction: int = 1) -> Tensor:
        """uint8 (3, H, W), whose memory is (H, W, 3).

        Args:
            reduction: 2, 4 or 8: a plain JPEG is decoded to ⌈H / reduction⌉ × ⌈W / reduction⌉; other files as they are.
        Raises:
            BadSample: `undecodable_image`.
        """
        if self.is_plain:
            pixels_HWC = jpeg.decoded(self.data, reduction)
            if pixels_HWC is not None:
                if self.orientation != 1:
                    pixels_HWC = np.asarray(upright(Image.fromarray(pixels_HWC), self.orientation))
                return tensor_of(pixels_HWC)
        if self.picture is None:
            with damage_named():
                self.picture = render(self.image, self.data)[0]
        return tensor_of(np.asarray(self.picture.convert("RGB")))


def open_pixels(data: bytes, max_pixels: int) -> Tensor:
    """`decode_image` as uint8 (3, H, W). Raises BadSample as it does."""
    return ImageFile(data, max_pixels).pixels()


def tensor_of(pixels_HWC: np.ndarray) -> Tensor:
    """(C, H, W), a view where the array can be written to."""
    return torch.from_numpy(pixels_HWC if pixels_HWC.flags.writeable else pixels_HWC.copy()).permute(2, 0, 1)
