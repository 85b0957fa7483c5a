"""A frozen tower's features on disk, so that the tower runs once an image and not once an epoch.

n: images of a sample; P: tokens an image; D: width of the tower.
"""

import json
import math
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.chat.images import Pictures
from medvlp.data.images.decode import VERSION
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample, ShardDataset
from medvlp.shards.atomic import remove_leftovers, whole_file, write_whole

CARD, FEATURES = "card.json", "features.npy"
AT_ONCE = 32
"""Images encoded at a time."""


class StaleCache(UserError):
    """The cache was made by another tower, transform or dataset."""


def card_of(dataset: ShardDataset, identity: dict[str, str]) -> dict[str, str]:
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
    path = folder / CARD
    if not path.is_file():
        return False
    try:
        card = json.loads(path.read_bytes())
        made, shape, starts = card["made_with"], card["shape"], card["starts"]
        differing = sorted(name for name in expected | made if expected.get(name) != made.get(name))
        size = (folder / FEATURES).stat().st_size
        fits = (
            size == 4 * math.prod(shape)
            and starts[-1] == shape[0] == len(card["crc32"])
            and isinstance(card["bad"], dict)
        )
        if not differing and not fits:
            raise ValueError("the sizes do not fit")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise StaleCache(
            f"{folder} is damaged, or of an older medvlp ({type(error).__name__}: {error}); delete the folder, and the "
            f"features are computed anew"
        ) from None
    if differing:
        raise StaleCache(
            f"{folder} holds features made with another {' and another '.join(differing)}. Delete the folder, or name "
            f"another one for objective.feature_cache"
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
    """Encode every image of a dataset; the card is written last, so that a killed writer leaves no cache.

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
    waiting: list[Tensor] = []
    with whole_file(folder / FEATURES) as file:

        def flush() -> None:
            if waiting:
                with torch.no_grad():
                    for features in encode(torch.cat(waiting)).float().cpu().numpy():
                        data = features.tobytes()
                        checksums.append(zlib.crc32(data))
                        file.write(data)
                waiting.clear()

        for row in range(len(dataset)):
            count = 0
            try:
                images = pictures(dataset.read(row))
                count = len(images)
                waiting += [images] if count else []
            except BadSample as problem:
                bad[dataset.key(row)] = [problem.reason, problem.detail]
            starts.append(starts[-1] + count)
            if sum(map(len, waiting)) >= AT_ONCE:
                flush()
        flush()
    card = {"made_with": expected, "shape": [starts[-1], *shape], "starts": starts, "bad": bad, "crc32": checksums}
    write_whole(folder / CARD, json.dumps(card).encode())


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
    def _opened(self) -> list[tuple[dict[str, Any], np.ndarray]]:
        opened = []
        for folder in self.folders:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            shape = tuple(card["shape"])
            opened.append(
                (card, np.memmap(folder / FEATURES, np.float32, "r", shape=shape) if shape[0] else np.empty(shape))
            )
        return opened

    def __call__(self, sample: Sample) -> Tensor:
        """(n, P, D).

        Raises:
            BadSample: the image could not be encoded when the cache was made, or the cache is not what was written.
        """
        key = sample.key.partition("#")[0]  # an example of a sample is named <key>#<part>
        source, row = self._rows[key]
        card, features = self._opened[source]
        if key in card["bad"]:
            reason, detail = card["bad"][key]
            raise BadSample(reason, key=key, detail=detail)
        begin, end = card["starts"][row : row + 2]
        found = np.array(features[begin:end])
        if [zlib.crc32(image.tobytes()) for image in found] != card["crc32"][begin:end]:
            detail = f"its features in {self.folders[source]} are not what was written; delete the folder to compute them anew"
            raise BadSample("checksum_mismatch", key=key, detail=detail)
        return torch.from_numpy(found)
