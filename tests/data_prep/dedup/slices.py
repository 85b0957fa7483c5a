"""Slices that look alike and are not the same: heads of several people, made of one template, and chests from CT volumes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel
import nilearn
import numpy as np
from PIL import Image
from scipy import ndimage

from data_prep.dedup.fingerprints import Fingerprints
from tests.data_prep.dedup.fingerprinted import fingerprints_of, png, sample_of
from tests.data_prep.planted import ALTERED, plant

KNOTS = np.linspace(0, 1, 6)
CONTRASTS = (KNOTS, np.array([0, 0.35, 0.9, 0.7, 0.5, 0.4]), np.array([0, 0.1, 0.4, 0.75, 0.55, 0.6]))
"""Grey of a tissue by its grey in the template: T1, and curves like T2's and FLAIR's."""


@lru_cache(maxsize=1)
def template() -> np.ndarray:
    """The MNI152 template of nilearn's wheel, 0 to 1, a voxel a millimetre."""
    path = Path(nilearn.__file__).parent / "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    volume = nibabel.load(path).get_fdata(dtype=np.float32)
    return volume / volume.max()


class Head:
    """A person: the template bent by a few millimetres, with a contrast, a bias field and noise; 0 is the template itself."""

    def __init__(self, number: int) -> None:
        chance = np.random.default_rng(number)
        self.number = number
        self.bend = chance.normal(0, 2 + number % 4, (3, 7, 7, 7)) * bool(number)
        curve = CONTRASTS[number % 3] + chance.normal(0, 0.03, 6) * bool(number)
        self.curve = np.clip(curve * (KNOTS > 0), 0, 1)
        self.noise = [0, 0.01, 0.02][number % 3]
        self.bias = 1 + chance.normal(0, 0.06, (3, 3)) * bool(number)

    def axial(self, millimetre: int, side: int = 256) -> Image.Image:
        """A slice, this far above the volume's lower end."""
        volume = template()
        width, depth, height = volume.shape
        x, y = np.meshgrid(np.arange(width), np.arange(depth), indexing="ij")
        where = np.stack([x, y, np.full_like(x, millimetre)]).astype(np.float32)
        knots = where / (np.array([width, depth, height]) - 1)[:, None, None] * 6
        bent = [ndimage.map_coordinates(bend, knots, order=3, mode="nearest") for bend in self.bend]
        grey = np.interp(ndimage.map_coordinates(volume, where + np.stack(bent), order=1), KNOTS, self.curve)
        grey = grey * ndimage.map_coordinates(self.bias, knots[:2] / 3, order=1)
        chance = np.random.default_rng([self.number, millimetre])
        noise = chance.normal(0, self.noise, (2, *grey.shape))
        grey = np.hypot(grey + noise[0], noise[1])
        square = np.zeros((depth, depth))
        square[(depth - width) // 2 :][:width] = grey
        return grey_image(square[:, ::-1].T, side)


def chest(path: Path, slice_number: int, side: int = 256) -> Image.Image:
    """An axial slice of a CT volume in Hounsfield units, a lung window wide enough for the mediastinum."""
    volume = np.asanyarray(nibabel.load(path).dataobj)[:, :, slice_number]
    return grey_image((volume.T + 1000) / 1400, side)


def grey_image(values: np.ndarray, side: int) -> Image.Image:
    """0 to 1 as 8 bits."""
    picture = Image.fromarray(np.clip(values * 255, 0, 255).astype(np.uint8))
    return picture.resize((side, side), Image.Resampling.BICUBIC)


def neighbours(folder: Path, heads: range, millimetres: range, volumes: int, slices: range) -> dict[str, Image.Image]:
    """Name → slice: consecutive ones of each head and of each chest, so that all have a neighbour or two."""
    pictures = {f"head{n}-{z}": Head(n).axial(z) for n in heads for z in millimetres}
    paths = sorted((folder / "ct3d").glob("*.nii.gz"))[:volumes]
    return pictures | {f"{path.name[:-7]}-{z}": chest(path, z) for path in paths for z in slices}


def planted_marks(folder: Path, pictures: dict[str, Image.Image], copies: int) -> tuple[Fingerprints, list[str]]:
    """Fingerprints of the slices and of `copies` altered copies of each, the kinds in turn; and the slice that each row shows."""
    kinds = list(ALTERED)
    samples, names = [], []
    for number, (name, picture) in enumerate(pictures.items()):
        whole = png(picture.convert("RGB"))
        turn = [kinds[(number * copies + turn) % len(kinds)] for turn in range(copies)]
        samples += [sample_of(name, whole), *(sample_of(f"{name}-{kind}", plant(whole, kind)) for kind in turn)]
        names += [name] * (1 + copies)
    return fingerprints_of(folder, samples), names
