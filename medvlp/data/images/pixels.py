"""Pixels of an image file as a tensor, for training. H, W: pixels; C: 1 for grey, 3 for colour."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from medvlp.data.images import jpeg
from medvlp.data.images.decode import (
    check_size,
    damage_named,
    deep_values,
    orientation_of,
    render,
    upright,
    with_header,
)


class ImageFile:
    """An image file whose header was read, for pixels as a tensor: those of `open_image`. size: (height, width), upright.

    is_deep: grey values of more than 8 bits stay as they are, see `deep_values`.

    A JPEG of 8 bits in grey or colour is decoded by libjpeg-turbo straight into the array, and where its header says all, without
    Pillow. Where libjpeg reports anything, and for every other file, Pillow decodes.

    Raises:
        BadSample: as `open_image`.
    """

    def __init__(self, data: bytes, max_pixels: int, is_deep: bool = False) -> None:
        self.data, self.max_pixels, self.is_deep, self.orientation = data, max_pixels, is_deep, 1
        self.picture: np.ndarray | None = None
        size = jpeg.plain_size(data)
        self.is_plain = size is not None
        if size is not None:
            self.size = size
            check_size(size[1], size[0], max_pixels)
        else:
            self._read_header()

    def _read_header(self) -> None:
        with damage_named():
            image = with_header(self.data, self.max_pixels)
            self.is_plain = jpeg.is_plain(image, self.data)
            if self.is_plain:
                self.orientation = orientation_of(image)
                width, height = image.size
                self.size = (width, height) if self.orientation >= 5 else (height, width)
            else:
                self.picture = self._rendered(image)
                self.size = (self.picture.shape[0], self.picture.shape[1])

    def _rendered(self, image: Image.Image) -> np.ndarray:
        """(H, W) or (H, W, 3), uint8 or float32."""
        values_HW = deep_values(image, self.data) if self.is_deep else None
        return np.asarray(render(image, self.data)[0]) if values_HW is None else values_HW

    def pixels(self, reduction: int = 1) -> Tensor:
        """uint8 (C, H, W), whose memory is (H, W, C); deep values are float32 (1, H, W).

        Args:
            reduction: 2, 4 or 8: a plain JPEG is decoded to ⌈H / reduction⌉ × ⌈W / reduction⌉; other files as they are.
        Raises:
            BadSample: `undecodable_image`.
        """
        if self.is_plain:
            pixels_HWC = jpeg.decoded(self.data, reduction)
            if pixels_HWC is not None:
                if self.orientation != 1:
                    picture = Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
                    pixels_HWC = np.asarray(upright(picture, self.orientation))
                return tensor_of(pixels_HWC)
        if self.picture is None:
            with damage_named():
                self.picture = self._rendered(with_header(self.data, self.max_pixels))
        return tensor_of(self.picture)


def open_pixels(data: bytes, max_pixels: int) -> Tensor:
    """`open_image` as uint8 (C, H, W). Raises BadSample as it does."""
    return ImageFile(data, max_pixels).pixels()


def tensor_of(pixels: np.ndarray) -> Tensor:
    """(C, H, W) of (H, W, C) or (H, W), a view where the array can be written to."""
    pixels_HWC = pixels.reshape(*pixels.shape[:2], -1)
    return torch.from_numpy(pixels_HWC if pixels_HWC.flags.writeable else pixels_HWC.copy()).permute(2, 0, 1)
