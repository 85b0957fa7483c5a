"""Slices of the MNI152 brain template, which nilearn's wheel carries: real images without a download.

The ICBM 152 2009a nonlinear symmetric template (Fonov et al., NeuroImage 2009 and 2011; Collins et al. 1999), an
average of 152 healthy adults at 1 mm: a T1-weighted image without the skull, and the probabilities of grey and of white
matter. Every slice along the three axes is one sample; the caption says what the slice shows, and nothing else.

Neighbouring slices look similar, so splits are contiguous blocks of positions, taking turns along each axis from the
first slice with enough brain, with a few slices skipped between them. Sagittal slices are blocked by their distance
from the midline, because the left and right halves mirror each other. All contrasts of a position are in one split.
Slices of different axes do cross; that remains. A sample's group is its block: the whole is one brain.

Licence: the template is © 1993–2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute,
McGill University, who permit use, copying, modification and distribution if the notice is kept. nilearn is
BSD-3-Clause and states no licence of its own for the template.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.errors import PrepError
from data_prep.png import encode_png
from data_prep.readers.guarded import digest_file, readable
from data_prep.source import Dropped, Source, Unit, chunks
from medvlp.shards import Sample, make_key
from medvlp.shards.publication import Publication
from medvlp.shards.vocabulary import SPLITS

FILES = {
    "T1": "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "grey matter": "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "white matter": "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
}
"""Contrast → file. Intensities are 0 to 255; of the tissue maps, 255 is probability 1."""
ADVICE = "reinstall nilearn"
PLANES = ("sagittal", "coronal", "axial")
"""By the axis that a plane cuts, in RAS order: left→right, posterior→anterior, inferior→superior."""
BLOCKS = (
    *(("train", 14), ("margin", 3), ("valid", 4), ("margin", 3)),
    *(("train", 14), ("margin", 3), ("test", 5), ("margin", 3)),
)
"""Runs of slices (1 mm each) that repeat along an axis."""
MIN_BRAIN = 0.1
"""Share of a slice's pixels that have to be brain; a smaller rim of cortex looks the same in all planes."""

NAMES = {
    "T1": ("T1-weighted MRI", "T1-weighted MR image", "T1-weighted magnetic resonance image"),
    "grey matter": ("grey matter probability map", "map of grey matter", "grey matter tissue map"),
    "white matter": ("white matter probability map", "map of white matter", "white matter tissue map"),
}
THIRDS = {
    "coronal": ("posterior third", "middle third", "anterior third"),
    "axial": ("lower third", "middle third", "upper third"),
}
TEMPLATES = (
    "{Plane} slice of a {name} through the {place} of the brain, {coordinate}; {tissue}.",
    "{Name} of the brain, {plane} plane, {place}, {coordinate}. {Tissue}.",
    "{Plane} {name} at {coordinate}, {place} of the brain, where {tissue}.",
    "Brain template, {plane} view: {name}, {place} ({coordinate}); {tissue}.",
)


def block_of(position: int) -> tuple[str, int]:
    """(train | valid | test | margin, number of the block) of a slice, by its position along the axis."""
    period = sum(length for _, length in BLOCKS)
    turn, offset = divmod(position, period)
    for number, (kind, length) in enumerate(BLOCKS):
        if offset < length:
            return kind, turn * len(BLOCKS) + number
        offset -= length
    raise AssertionError("a remainder is smaller than the period")


class Mni152(Source):
    """Reader of the template. `input` is optional: a folder with the three files, instead of nilearn's."""

    name = "mni152"
    description = "brain MRI slices of the MNI152 template in nilearn's wheel"
    publication = Publication(
        title="Unbiased average age-appropriate atlases for pediatric studies",
        authors="Fonov V. et al.",
        venue="NeuroImage",
        year=2011,
        url="https://doi.org/10.1016/j.neuroimage.2010.07.033",
    )
    licence = "LicenseRef-MNI-ICBM152"
    tools = ("nibabel",)

    def __init__(self, input: str = "", samples_per_shard: int = 1000) -> None:
        super().__init__(input, samples_per_shard)
        self.folder = Path(input) if input else _nilearn_data()
        missing = [file for file in FILES.values() if not (self.folder / file).is_file()]
        if missing:
            advice = "leave input out to use nilearn's copy" if input else "pip install --upgrade 'medvlp[offline]'"
            raise PrepError(f"{self.folder} lacks {', '.join(missing)}; {advice}")

    def options(self) -> dict[str, Any]:
        """How slices are chosen."""
        return {**super().options(), "blocks": [list(block) for block in BLOCKS], "min_brain": MIN_BRAIN}

    def fingerprint(self) -> dict[str, str]:
        """The three files' content."""
        return {file: digest_file(self.folder / file) for file in FILES.values()}

    def units(self) -> list[Unit]:
        """Slices by contrast, plane and position. Margins are counted in train, whose neighbours they keep away."""
        return [unit for split in SPLITS for unit in chunks(split, len(self._slices[split]), self.samples_per_shard)]

    def read(self, unit: Unit) -> Iterator[Sample | Dropped]:
        """Samples, or drops: between_blocks, little_brain."""
        start, stop = unit.selection
        for contrast, axis, index in self._slices[unit.split][start:stop]:
            original = f"{contrast} {PLANES[axis]} {index}"
            if self._block(axis, index)[0] == "margin":
                yield Dropped(original, "between_blocks", "skipped so that splits do not hold neighbouring slices")
                continue
            brain = self._cut("T1", axis, index) > 0
            if brain.mean() < MIN_BRAIN:
                yield Dropped(
                    original, "little_brain", f"{brain.mean():.3f} of the slice, expected {MIN_BRAIN} or more"
                )
                continue
            yield self._sample(contrast, axis, index, original)

    def _sample(self, contrast: str, axis: int, index: int, original: str) -> Sample:
        plane = PLANES[axis]
        key = make_key(self.name, contrast.replace(" ", "-"), plane, f"{index:03d}")
        low, high = self._extent[axis]
        position = round((index - low) / (high - low), 4)
        brain = self._cut("T1", axis, index) > 0
        # Probability above one half, within the brain.
        grey = round(float((self._cut("grey matter", axis, index)[brain] > 127).mean()), 4)
        white = round(float((self._cut("white matter", axis, index)[brain] > 127).mean()), 4)
        millimetres = index + self._origin[axis]
        return Sample(
            key=key,
            images={"png": encode_png(display(self._cut(contrast, axis, index), plane))},
            texts={
                "caption": caption(key, contrast, plane, position, millimetres, grey, white),
                "view": f"{plane} {NAMES[contrast][0]} of the brain",
            },
            labels={
                "plane": plane,
                "contrast": contrast,
                "position": position,
                "millimetres": millimetres,
                "grey_matter_share": grey,
                "white_matter_share": white,
            },
            metadata={
                "group": f"{plane}_block_{self._block(axis, index)[1]:02d}",
                "group_kind": "block",
                "licence": self.licence,
                "source": self.name,
                "original_name": original,
                "modality": "MRI",
                "templated": ["caption"],
            },
        )

    @cached_property
    def _images(self) -> dict[str, Any]:
        """The volumes in RAS orientation."""
        import nibabel

        images: dict[str, Any] = {}
        for contrast, file in FILES.items():
            with readable(self.folder / file, ADVICE):
                image: Any = nibabel.as_closest_canonical(nibabel.load(self.folder / file))
            if not np.allclose(image.affine[:3, :3], np.eye(3)):
                raise PrepError(f"{self.folder / file}: expected voxels of 1 mm along the axes, got\n{image.affine}")
            images[contrast] = image
        return images

    @cached_property
    def _volumes(self) -> dict[str, np.ndarray]:
        volumes: dict[str, np.ndarray] = {}
        for contrast, image in self._images.items():
            with readable(self.folder / FILES[contrast], ADVICE):
                volumes[contrast] = np.asarray(image.dataobj, dtype=np.uint8)
        return volumes

    @cached_property
    def _origin(self) -> list[int]:
        """World coordinate, in mm, of the first slice of each axis."""
        return [round(float(value)) for value in self._images["T1"].affine[:3, 3]]

    @cached_property
    def _extent(self) -> list[tuple[int, int]]:
        """First and last slice of each axis that has any brain."""
        filled = [np.flatnonzero((self._volumes["T1"] > 0).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        return [(int(slices[0]), int(slices[-1])) for slices in filled]

    @cached_property
    def _slices(self) -> dict[str, list[tuple[str, int, int]]]:
        slices: dict[str, list[tuple[str, int, int]]] = {"train": [], "valid": [], "test": []}
        for contrast in FILES:
            for axis in range(3):
                for index in range(self._volumes["T1"].shape[axis]):
                    kind, _ = self._block(axis, index)
                    slices["train" if kind == "margin" else kind].append((contrast, axis, index))
        return slices

    def _block(self, axis: int, index: int) -> tuple[str, int]:
        """Kind and number of the block of a slice. Held-out blocks lie between training blocks, never at an end: beyond
        the last training block a slice is margin."""
        first, last = self._range[axis]
        position = max(self._distance(axis, index) - first, 0)
        kind, number = block_of(position)
        ahead = any(block_of(later)[0] == "train" for later in range(position, last - first + 1))
        return (kind, number) if kind == "train" or ahead else ("margin", number)

    def _distance(self, axis: int, index: int) -> int:
        return abs(index + self._origin[0]) if axis == 0 else index

    @cached_property
    def _range(self) -> list[tuple[int, int]]:
        """Smallest and largest distance along each axis of a slice with enough brain."""
        filled = (self._volumes["T1"] > 0).mean
        shares = [filled(axis=axes) for axes in ((1, 2), (0, 2), (0, 1))]
        enough = [
            [self._distance(axis, int(i)) for i in np.flatnonzero(shares[axis] >= MIN_BRAIN)] for axis in range(3)
        ]
        return [(min(distances), max(distances)) for distances in enough]

    def _cut(self, contrast: str, axis: int, index: int) -> np.ndarray:
        # Not take(): it would first copy the whole volume, whose axes NIfTI stores in Fortran order.
        slice_: np.ndarray = np.moveaxis(self._volumes[contrast], axis, 0)[index]
        return slice_


def display(pixels: np.ndarray, plane: str) -> np.ndarray:
    """A slice of an RAS volume as radiologists look at it.

    Axial: front up. Coronal: top up; in both the patient's right is on the image's left. Sagittal: top up, front to
    the left.
    """
    if plane not in PLANES:
        raise ValueError(f"plane {plane!r} is none of {', '.join(PLANES)}")
    # The first remaining axis runs across, the second up; rows count downwards, and in all three planes the first
    # axis (left→right or posterior→anterior) is shown mirrored.
    return np.ascontiguousarray(pixels[::-1, ::-1].T)


def caption(key: str, contrast: str, plane: str, position: float, millimetres: int, grey: float, white: float) -> str:
    """What the slice shows, in one of several wordings that the key chooses. position: 0 to 1 along the axis."""
    choice = int(hashlib.sha256(key.encode()).hexdigest(), 16)
    names = NAMES[contrast]
    name = names[choice // 7 % len(names)]
    tissue = (
        f"grey matter fills {grey:.0%} of the brain area and white matter {white:.0%}"
        if choice // 31 % 2
        else f"{grey:.0%} of the brain area is grey matter, {white:.0%} white matter"
    )
    return TEMPLATES[choice % len(TEMPLATES)].format(
        plane=plane,
        Plane=plane.capitalize(),
        name=name,
        Name=name[0].upper() + name[1:],
        place=_place(plane, position, millimetres),
        coordinate=f"{'xyz'[PLANES.index(plane)]} = {millimetres} mm",
        tissue=tissue,
        Tissue=tissue[0].upper() + tissue[1:],
    )


def _place(plane: str, position: float, millimetres: int) -> str:
    if plane != "sagittal":
        return THIRDS[plane][min(int(position * 3), 2)]
    if abs(millimetres) <= 3:
        return "midline"
    side = "right" if millimetres > 0 else "left"  # RAS: x grows towards the patient's right
    return f"{'lateral' if abs(millimetres) > 35 else 'medial'} {side} hemisphere"


def _nilearn_data() -> Path:
    # Found without importing nilearn, which would load scikit-learn and pandas for three file names.
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise PrepError("source mni152 reads the template in nilearn's wheel: pip install 'medvlp[offline]'")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
