"""A frozen tower's features on disk, so that the tower runs once an image and not once an epoch.

n: images of a sample; P: tokens an image; D: width of the tower.
"""

import json
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.images.decode import VERSION
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample, ShardDataset
from medvlp.shards.atomic import remove_leftovers, whole_file, write_whole

Pictures = Callable[[Sample], Tensor]
"""(n, 3, S, S) pixels, or (n, P, D) features where they are cached. Raises BadSample."""

METADATA, FEATURES = "card.json", "features.npy"
ENCODED_IMAGES = 32
"""In a batch."""


class StaleCache(UserError):
    """The cache was made by another tower, transform or dataset."""


def cache_metadata(dataset: ShardDataset, identity: dict[str, str]) -> dict[str, str]:
    """What a cache must agree with.

    Args:
        identity: hashes of the tower's weights and of its transform, by name.
    """
    return {**identity, "data": dataset.manifest_hash, "decoding": VERSION}


def is_cached(folder: Path, expected: dict[str, str]) -> bool:
    """Whether the folder holds these features.

    Raises:
        StaleCache: it holds others.
    """
    path = folder / METADATA
    if not path.is_file():
        return False
    try:
        metadata = json.loads(path.read_bytes())
        made_with, shape, starts = metadata["made_with"], metadata["shape"], metadata["starts"]
        differences = sorted(name for name in expected | made_with if expected.get(name) != made_with.get(name))
        size = (folder / FEATURES).stat().st_size
        fits = (
            size == 4 * math.prod(shape)
            and starts[-1] == shape[0] == len(metadata["crc32"])
            and isinstance(metadata["bad"], dict)
        )
        if not differences and not fits:
            raise ValueError("the sizes do not fit")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise StaleCache(
            f"{folder} is damaged, or of an older medvlp ({type(error).__name__}: {error}); delete the folder, and the "
            f"features are computed again"
        ) from None
    if differences:
        raise StaleCache(
            f"{folder} holds features made with another {' and another '.join(differences)}. Delete the folder, or name "
            f"another one"
        )
    return True


def write_features(
    folder: Path,
    dataset: ShardDataset,
    expected: dict[str, str],
    pictures: Pictures,
    encode: Callable[[Tensor], Tensor],
    shape: tuple[int, int],
) -> None:
    """Encode every image of a dataset; the metadata are written last, so that a killed writer leaves no cache.

    Args:
        pictures: sample → (n, 3, S, S).
        encode: (B, 3, S, S) → (B, P, D).
        shape: (P, D).
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    starts = [0]
    checksums: list[int] = []
    bad: dict[str, list[str]] = {}
    buffer: list[Tensor] = []
    with whole_file(folder / FEATURES) as file:

        def flush() -> None:
            if buffer:
                with torch.no_grad():
                    for features in encode(torch.cat(buffer)).float().cpu().numpy():
                        data = features.tobytes()
                        checksums.append(zlib.crc32(data))
                        file.write(data)
                buffer.clear()

        for row in range(len(dataset)):
            count = 0
            try:
                images = pictures(dataset.read(row))
                count = len(images)
                buffer += [images] if count else []
            except BadSample as problem:
                bad[dataset.key(row)] = [problem.reason, problem.detail]
            starts.append(starts[-1] + count)
            if sum(map(len, buffer)) >= ENCODED_IMAGES:
                flush()
        flush()
    metadata = {"made_with": expected, "shape": [starts[-1], *shape], "starts": starts, "bad": bad, "crc32": checksums}
    write_whole(folder / METADATA, json.dumps(metadata).encode())


class CachedFeatures:
    """Sample → its images' features, from the caches of several sources.

    Args:
        folders: one for each source's dataset.
        datasets: the shards, whose keys say which row is which.
    """

    def __init__(self, folders: Sequence[Path], datasets: Sequence[ShardDataset]) -> None:
        self.folders, self.datasets = list(folders), list(datasets)

    def __getstate__(self) -> dict[str, Any]:
        return {"folders": self.folders, "datasets": self.datasets}  # a worker maps the files for itself

    @cached_property
    def _rows(self) -> dict[str, tuple[int, int]]:
        return {key: (n, row) for n, dataset in enumerate(self.datasets) for row, key in enumerate(dataset.keys)}

    @cached_property
    def _caches(self) -> list[tuple[dict[str, Any], np.ndarray]]:
        caches = []
        for folder in self.folders:
            metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
            shape = tuple(metadata["shape"])
            caches.append(
                (metadata, np.memmap(folder / FEATURES, np.float32, "r", shape=shape) if shape[0] else np.empty(shape))
            )
        return caches

    def __call__(self, sample: Sample) -> Tensor:
        """(n, P, D).

        Raises:
            BadSample: the image could not be encoded when the cache was made, or the cache is not what was written.
        """
        key = sample.key.partition("#")[0]  # an example of a sample is named <key>#<part>
        source, row = self._rows[key]
        metadata, features = self._caches[source]
        if key in metadata["bad"]:
            reason, detail = metadata["bad"][key]
            raise BadSample(reason, key=key, detail=detail)
        begin, end = metadata["starts"][row : row + 2]
        images = np.array(features[begin:end])
        if [zlib.crc32(image.tobytes()) for image in images] != metadata["crc32"][begin:end]:
            detail = f"its features in {self.folders[source]} are not what was written; delete the folder to compute them again"
            raise BadSample("checksum_mismatch", key=key, detail=detail)
        return torch.from_numpy(images)


class FeatureCache:
    """The frozen tower's features of a run's sources: rank 0 computes them once, the others wait for them.

    Args:
        folder: one sub-folder a source.
        identity: gives hashes of the tower's weights and of its transform, by name; called once the weights are loaded.
        pictures: sample → (n, 3, S, S).
        encode: (B, 3, S, S) → (B, P, D).
        blank_shape: of one image's pixels, (1, 3, S, S).
        key: of the configuration, that names the folder.
    """

    def __init__(
        self,
        folder: Path,
        identity: Callable[[], dict[str, str]],
        pictures: Pictures,
        encode: Callable[[Tensor], Tensor],
        blank_shape: tuple[int, ...],
        key: str = "objective.feature_cache",
    ) -> None:
        self.folder, self.identify, self.pictures = folder, identity, pictures
        self.encode, self.blank_shape, self.key = encode, blank_shape, key

    @cached_property
    def identity(self) -> dict[str, str]:
        """Hashes of the tower's weights and of its transform, by name."""
        return self.identify()

    def write(self, sources: Mapping[str, ShardDataset]) -> None:
        """Compute what is not there yet.

        Raises:
            StaleCache: a folder holds features of another tower, transform or dataset.
        """
        for name, dataset in sources.items():
            if not self._is_cached(name, dataset):
                print(f"{self.folder / name}: features of {len(dataset)} samples are computed once", flush=True)
                with torch.no_grad():
                    _, tokens, width = self.encode(torch.zeros(self.blank_shape)).shape
                metadata = cache_metadata(dataset, self.identity)
                write_features(self.folder / name, dataset, metadata, self.pictures, self.encode, (tokens, width))

    def open(self, sources: Mapping[str, ShardDataset]) -> CachedFeatures:
        """The features, once they are there. Should rank 0 die of them, torchrun ends this rank too.

        Raises:
            StaleCache: as in `write`.
        """
        for name, dataset in sources.items():
            while not self._is_cached(name, dataset):
                time.sleep(1)
        return CachedFeatures([self.folder / name for name in sources], list(sources.values()))

    def _is_cached(self, name: str, dataset: ShardDataset) -> bool:
        try:
            return is_cached(self.folder / name, cache_metadata(dataset, self.identity))
        except StaleCache as error:
            raise StaleCache(f"{self.key}: {error}") from None
