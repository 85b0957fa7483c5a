"""NIfTI volumes: checked against their own headers, in pieces, and blanked where they are private."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from data_prep.errors import BadRow
from data_prep.readers.guarded import spelled_below

MAX_FILE_BYTES = 2**30
"""Of a file as it is stored: a sample is in memory as a whole."""
MAX_VOLUME_BYTES = 2 * 2**30
"""Of the decompressed volume, which never is."""
MAX_HEADER_BYTES = 16 * 2**20
"""Of the header with its extensions."""
MAX_SIDE = 16_384
PIECE = 2**20

TEXT_FIELDS = ("data_type", "db_name", "descrip", "aux_file", "intent_name", "unused_str")
"""Header fields that hold free text: the first two in NIfTI-1 only, the last in NIfTI-2."""
BYTE_ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")


@dataclass
class Head:
    """A header, its extensions, and what they say follows."""

    data: bytearray
    """All before the voxels."""
    header: Any
    """nibabel's Nifti1Header or Nifti2Header."""
    voxel_bytes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(int(side) for side in self.header.get_data_shape())


def read_volume(folder: Path, name: str, blank: bool) -> tuple[bytes, dict[str, Any]]:
    """(a .nii.gz file, metadata) of a volume below the folder.

    A .nii.gz keeps its bytes unless `blank`: then texts in the header, extensions and gzip's own texts are emptied, and the
    file is compressed again. Metadata: shape, spacing (as the header says, usually mm), and header_texts, the names of
    fields that hold text; or, if blank, deidentified: {"header_fields": n, "extensions": n}.

    Raises BadRow: bad_path, missing_image, image_too_large, image_format (not NIfTI), bad_header, broken_image (it cannot
    be decompressed), truncated, trailing_data.
    """
    data = _read(folder, name)
    zipped = data[:2] == b"\x1f\x8b"
    stream: BinaryIO = gzip.GzipFile(fileobj=io.BytesIO(data)) if zipped else io.BytesIO(data)  # type: ignore[assignment]
    head = read_head(name, stream)
    texts, extensions = texts_of(head), bool(head.data[_extension_flag(head)])
    metadata: dict[str, Any] = {"shape": list(head.shape), "spacing": _spacing(head)}
    if blank:
        blank_head(head)
        has_gzip_texts = zipped and data[3] & 0b11000 != 0  # gzip's flags for a file name and a comment
        metadata["deidentified"] = {"header_fields": len(texts) + has_gzip_texts, "extensions": int(extensions)}
    elif texts or extensions:
        metadata["header_texts"] = texts + ["extensions"] * extensions
    voxels = _voxels(name, stream, head.voxel_bytes)
    if zipped and not blank:
        for _ in voxels:  # the checks; the publisher's bytes are what is kept
            pass
        return data, metadata
    return _compress(head.data, voxels), metadata


def _read(folder: Path, name: str) -> bytes:
    path = spelled_below(folder, name)
    try:
        # Without waiting: a pipe that nobody writes to would hang the open.
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK)) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BadRow("bad_path", f"{name} is not a regular file")
            if status.st_size > MAX_FILE_BYTES:
                raise BadRow("image_too_large", f"{name} has {status.st_size} bytes, at most {MAX_FILE_BYTES} are read")
            return stream.read()
    except FileNotFoundError:
        raise BadRow("missing_image", f"{name} is not in {folder.name}/") from None
    except OSError as error:
        # Faults of the name are the row's; others (permissions, a failing disk) are not, and end the run.
        if error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            raise
        raise BadRow("bad_path", f"{name[:80]} is not a file: {error.strerror}") from None


def read_head(name: str, stream: BinaryIO) -> Head:
    """All before the voxels, of a stream that stands at its begin. Raises BadRow."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    start = _take(name, stream, 4)
    sizes = {int.from_bytes(start, order) for order in BYTE_ORDERS}
    kind: Any = Nifti1Header if 348 in sizes else Nifti2Header if 540 in sizes else None
    if kind is None:
        raise BadRow("image_format", f"{name} does not begin as NIfTI does")
    data = bytearray(start + _take(name, stream, kind.sizeof_hdr - 4))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = kind(bytes(data), check=True)
            offset, kind_of_voxel = header.get_data_offset(), header.get_data_dtype()
        if bytes(header["magic"])[:2] != b"n+":
            raise ValueError("the voxels are said to be in another file (.img)")
        _check_shape(header.get_data_shape(), kind_of_voxel)
        if not len(data) + 4 <= offset <= MAX_HEADER_BYTES:
            raise ValueError(f"voxels are said to begin at byte {offset}")
    except Exception as error:  # nibabel's HeaderDataError, SpatialImagesError, and what NumPy raises
        raise BadRow("bad_header", f"{name}: {str(error).partition(chr(10))[0]}") from None
    data += _take(name, stream, offset - len(data))
    size = int(np.prod([int(side) for side in header.get_data_shape()], dtype=object)) * kind_of_voxel.itemsize
    return Head(data, header, size)


def _check_shape(shape: tuple[int, ...], voxel: np.dtype[Any]) -> None:
    if not 3 <= len(shape) <= 4 or not all(1 <= side <= MAX_SIDE for side in shape):
        raise ValueError(f"the shape is {shape}, expected 3 or 4 axes of 1 to {MAX_SIDE}")
    if voxel.itemsize == 0:
        raise ValueError(f"voxels of type {voxel} have no size")
    size = int(np.prod(shape, dtype=object)) * voxel.itemsize
    if size > MAX_VOLUME_BYTES:
        raise ValueError(f"the shape {shape} of {voxel} is {size} bytes, at most {MAX_VOLUME_BYTES} are read")


def _spacing(head: Head) -> list[float]:
    return [round(float(step), 6) if np.isfinite(step) else 0.0 for step in head.header.get_zooms()]


def texts_of(head: Head) -> list[str]:
    """Names of the header's text fields that are not empty."""
    names = head.header.template_dtype.names
    return [name for name in TEXT_FIELDS if name in names and bytes(head.header[name]).strip(b"\0 ")]


def _extension_flag(head: Head) -> int:
    return int(head.header.sizeof_hdr)


def blank_head(head: Head) -> None:
    """Empty the texts and all between header and voxels; what says how to read them stays as it is."""
    for name in TEXT_FIELDS:
        if name in head.header.template_dtype.names:
            kind, offset = head.header.template_dtype.fields[name][:2]
            head.data[offset : offset + kind.itemsize] = bytes(kind.itemsize)
    flag_offset = _extension_flag(head)
    head.data[flag_offset:] = bytes(len(head.data) - flag_offset)


def _voxels(name: str, stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The voxels in pieces. Raises BadRow where there are fewer or more than the header says."""
    remaining = size
    while remaining:
        piece = _take(name, stream, min(remaining, PIECE))
        remaining -= len(piece)
        yield piece
    if _some(name, stream, 1):
        raise BadRow("trailing_data", f"{name} goes on after the {size} bytes of voxels that its header announces")


def _take(name: str, stream: BinaryIO, size: int) -> bytes:
    data = _some(name, stream, size)
    if len(data) < size:
        raise BadRow("truncated", f"{name} ends before the voxels that its header announces")
    return data


def _some(name: str, stream: BinaryIO, size: int) -> bytes:
    try:
        return stream.read(size)
    except EOFError:
        raise BadRow("truncated", f"{name} ends within its compressed data") from None
    except (OSError, zlib.error) as error:
        raise BadRow("broken_image", f"{name} cannot be decompressed ({type(error).__name__})") from None


def _compress(head: bytes | bytearray, voxels: Iterator[bytes]) -> bytes:
    buffer = io.BytesIO()
    # No name and no time in gzip's header: the same voxels give the same bytes.
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=6, mtime=0) as file:
        file.write(head)
        for piece in voxels:
            file.write(piece)
    return buffer.getvalue()
