"""A frame of a DICOM image as it would be displayed: 8 bits (or 16 for grey), black is dark, colour is RGB.

PS3.3 C.11 and PS3.4 N.2: stored values → modality LUT or rescale → VOI LUT or window → MONOCHROME1 inverted. MONAI's and
other readers stop after the rescale. Overlays are never rendered, also not those in unused bits of the pixels.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.errors import BadRow
from data_prep.sources.own_files.dicom_studies.files import guarded

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_PIXELS = 100_000_000
"""Of a frame, before anything is decoded; check_images has a finer limit afterwards."""

MAX_VOXELS = 4_000_000_000
"""Of all frames."""

MAX_RLE_BYTES = 64 * 2**20
"""Of an encoded frame: a run of 128 bytes may stand in two, and pydicom checks the length at the end."""

RLE_OVERHEAD = 2
"""Bytes that an encoder may spend on one of the pixels: with one column, each is a literal run of its own."""

RLE_HEADER_BYTES = 64 + 16
"""With the bytes that make segments even."""

WINDOWS = {
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "abdomen": (40, 400),
    "bone": (400, 1800),
    "brain": (40, 80),
    "stroke": (40, 40),
    "subdural": (75, 215),
}
"""Name → (centre, width) in Hounsfield units, for CT."""

RLE = "1.2.840.10008.1.2.5"
_VALUES = (
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
)
_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def frames_of(dataset: Dataset) -> int:
    """The number of frames, after a look at all that decoding could run into.

    Raises BadRow: no_pixels, bad_pixels, too_many_pixels, no_decoder.
    """
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID, AllTransferSyntaxes

    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise BadRow("no_pixels", "it holds no image")
    with guarded("bad_pixels", "the image has no readable size or encoding"):
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        frames = int(dataset.get("NumberOfFrames") or 1)
        syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if min(rows, columns, frames) < 1:
        raise BadRow("bad_pixels", f"{rows} rows, {columns} columns, {frames} frames")
    if rows * columns > MAX_PIXELS or rows * columns * frames > MAX_VOXELS:
        raise BadRow(
            "too_many_pixels", f"{columns} × {rows} in {frames} frames; at most {MAX_PIXELS} a frame are decoded"
        )
    name = syntax.name if syntax in AllTransferSyntaxes else "a private transfer syntax"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise BadRow("no_decoder", f"{name} has no decoder here; convert the file, or install a pylibjpeg plugin")
    return frames


def render(dataset: Dataset, frame: int, window: str = "", depth: int = 8) -> tuple[np.ndarray, str]:
    """(uint8 (H, W) or (H, W, 3), or uint16 (H, W) at depth 16; how grey values were chosen).

    window: a name of `WINDOWS`, used for CT. The second value is that name, "lut" or "file" (the file's own VOI LUT or
    first window), "range" (from the frame's least to its greatest value, without padding) or "colour".
    Raises BadRow bad_pixels.
    """
    from pydicom.pixels import apply_color_lut, pixel_array

    with guarded("bad_pixels", "the pixels cannot be decoded"):
        _check_encoded(dataset, frame)
        raw = pixel_array(dataset, index=frame)
        kind = str(dataset.PhotometricInterpretation)
        if kind == "PALETTE COLOR":
            raw = apply_color_lut(raw, dataset)
            return _eight_bits(raw, 8 * raw.dtype.itemsize), "colour"
        if raw.ndim == 3:
            return _eight_bits(raw, int(dataset.BitsStored)), "colour"
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise BadRow("bad_pixels", "a photometric interpretation that is not of its samples")
        display, rule = _displayed(raw, dataset, frame, window)
    top = 255 if depth == 8 else 65535
    return np.rint(display * top).astype(np.uint8 if depth == 8 else np.uint16), rule


def _displayed(raw: np.ndarray, dataset: Dataset, frame: int, window: str) -> tuple[np.ndarray, str]:
    """(float64 (H, W) in 0 to 1, how)."""
    from pydicom.pixels import apply_modality_lut, apply_voi, apply_windowing

    look = _lookups(dataset, frame)
    values = apply_modality_lut(raw, look)
    preset = WINDOWS.get(window) if dataset.get("Modality") == "CT" else None
    file_window = preset or _own_window(look)
    padding = _padding(raw, dataset)
    if look.get("VOILUTSequence") and not preset:
        highest = 2 ** int(look.VOILUTSequence[0].LUTDescriptor[2]) - 1
        display, rule = apply_voi(np.rint(values).astype(np.int64), look) / highest, "lut"
    elif file_window:
        # Between the bounds of 16 unsigned bits, whatever the file's are.
        function = None if preset else look.get("VOILUTFunction")
        display = apply_windowing(values, _window(file_window, function)) / 65535
        rule = window if preset else "file"
    else:
        unpadded = values[~padding] if not padding.all() else values
        low, high = float(unpadded.min()), float(unpadded.max())
        display, rule = (values - low) / max(high - low, 1e-9), "range"
    display = np.clip(display, 0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        display = 1 - display
    return np.where(padding, 0.0, display), rule


def _lookups(dataset: Dataset, frame: int) -> Dataset:
    """Rescale, windows and tables of a frame: enhanced images keep them in functional groups (PS3.3 C.7.6.16)."""
    from pydicom import Dataset

    look = Dataset()
    look.file_meta = dataset.file_meta  # tables are read in its byte order
    holders: list[Any] = [dataset]
    groups = [*list(dataset.get("SharedFunctionalGroupsSequence") or ())[:1]]
    groups += list(dataset.get("PerFrameFunctionalGroupsSequence") or ())[frame : frame + 1]
    holders += [item for group in groups for name in _GROUPS for item in list(group.get(name) or ())[:1]]
    for holder in holders:
        for keyword in _VALUES:
            if holder.get(keyword) not in (None, ""):
                look[keyword] = holder[keyword]
    for keyword in ("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "BitsAllocated"):
        if keyword in dataset:
            look[keyword] = dataset[keyword]
    return look


def _own_window(look: Dataset) -> tuple[float, float] | None:
    """The first window of the file, if it is one."""
    try:
        centre, width = (
            float(element.value[0] if element.VM > 1 else element.value)
            for element in (look["WindowCenter"], look["WindowWidth"])
        )
    except (KeyError, TypeError, ValueError):
        return None
    return (centre, width) if np.isfinite((centre, width)).all() and width >= 1 else None


def _window(values: tuple[float, float], function: str | None) -> Dataset:
    from pydicom import Dataset

    window = Dataset()
    window.PhotometricInterpretation = "MONOCHROME2"
    window.BitsStored, window.PixelRepresentation = 16, 0
    window.WindowCenter, window.WindowWidth = values
    window.VOILUTFunction = function or "LINEAR"
    return window


def _padding(raw: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Where the scanner saw nothing (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(raw.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    bound = limit if isinstance(limit, int) else value
    is_padding: np.ndarray = (raw >= min(value, bound)) & (raw <= max(value, bound))
    return is_padding


def _eight_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    return (pixels >> max(bits - 8, 0)).astype(np.uint8)


def _check_encoded(dataset: Dataset, frame: int) -> None:
    """See that a compressed frame is as large as the header says, before a decoder makes room for what it says itself."""
    from PIL import Image, UnidentifiedImageError
    from pydicom.encaps import get_frame

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return
    encoded = get_frame(dataset.PixelData, frame, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    if syntax == RLE:
        _check_rle(dataset, encoded)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            size = Image.open(io.BytesIO(encoded), formats=("JPEG", "JPEG2000")).size
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise BadRow("bad_pixels", "a compressed frame that is not what its transfer syntax says") from None
    if size != (int(dataset.Columns), int(dataset.Rows)):
        raise BadRow("bad_pixels", "a compressed frame of another size than the header says")


def _check_rle(dataset: Dataset, encoded: bytes) -> None:
    """See that a frame of RLE (PS3.5 annex G) is not longer than its pixels could need; pydicom would decode all of it."""
    size = int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel) * -(-int(dataset.BitsAllocated) // 8)
    if len(encoded) > MAX_RLE_BYTES:
        raise BadRow("too_many_pixels", f"{len(encoded)} bytes of RLE in a frame, at most {MAX_RLE_BYTES}")
    if len(encoded) > RLE_HEADER_BYTES + RLE_OVERHEAD * size:
        raise BadRow("bad_pixels", f"{len(encoded)} bytes of RLE in a frame, whose pixels have {size}")
