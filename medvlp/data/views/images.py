"""Samples of several images as samples of one: another image each epoch, or each image by itself."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medvlp.data.order import permutation
from medvlp.data.views.filtered import FilteredDataset
from medvlp.shards import Sample, ShardDataset
from medvlp.shards.index import open_index


def image_counts(dataset: ShardDataset) -> NDArray[np.int64]:
    """Images of every sample, from the shards' indices: no sample is read.

    Raises ShardError or OSError: an index is not there.
    """
    text_members = np.array([name.encode() for name in dataset.form.text_members])
    counts = []
    for shard, samples in dataset.manifest.shards.items():
        index = open_index(dataset.local_file(str(Path(shard).with_suffix(".idx"))))
        counts.append(np.bincount(index["sample"][~np.isin(index["member"], text_members)], minlength=samples))
    counts_N = np.concatenate(counts)
    return counts_N[dataset.rows] if isinstance(dataset, FilteredDataset) else counts_N


class ImageView:
    """Base of views of a data set's images."""

    def __init__(self, dataset: ShardDataset) -> None:
        self.dataset = dataset
        self.manifest_hash = hashlib.sha256(f"{dataset.manifest_hash} {type(self).__name__}".encode()).hexdigest()
        self.folder = dataset.folder

    @property
    def shards_hash(self) -> str:
        """The hash of the shards' own manifest."""
        return self.dataset.shards_hash

    def __len__(self) -> int:
        return len(self.dataset)

    def key(self, i: int) -> str:
        """The key of row i."""
        return self.dataset.key(i)

    def locate(self, i: int) -> tuple[str, int]:
        """The shard of row i, and its position there."""
        return self.dataset.locate(i)

    def read(self, i: int) -> Sample:
        """Row i, as in the first epoch. Raises BadSample."""
        return self.dataset.read(i)

    def read_text(self, i: int) -> Sample:
        """Row i without images. Raises BadSample."""
        return self.dataset.read_text(i)


class OneImage(ImageView):
    """One image of each sample, another in every epoch, by (seed, epoch, key): in as many epochs as it has images, each once.

    The others are not decoded.
    """

    def __init__(self, dataset: ShardDataset, seed: int) -> None:
        super().__init__(dataset)
        self.seed = seed

    def read(self, i: int) -> Sample:
        """Row i, as in the first epoch. Raises BadSample."""
        return self.read_in(i, 0)

    def read_in(self, i: int, epoch: int) -> Sample:
        """Row i with its image of an epoch. Raises BadSample."""
        names = sorted(self.dataset.image_names(i))
        if len(names) < 2:
            return self.dataset.read(i)
        cycle, position = divmod(epoch, len(names))
        index = permutation(len(names), "image", self.seed, self.dataset.key(i), cycle)[position]
        return self.dataset.read_images(i, [names[index]])


class EachImage(ImageView):
    """Every image as a sample of its own, with what is said of all; their keys are the sample's with `#` and a number."""

    def __init__(self, dataset: ShardDataset) -> None:
        super().__init__(dataset)
        # a sample without images stays a row, which reading names
        self.starts = np.cumsum([0, *np.maximum(image_counts(dataset), 1)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def _row(self, i: int) -> tuple[int, int]:
        """(row of the data set, position among its images)."""
        if not 0 <= i < len(self):
            raise IndexError(f"image {i} of {len(self)}")
        row = int(np.searchsorted(self.starts, i, side="right")) - 1
        return row, i - int(self.starts[row])

    def key(self, i: int) -> str:
        row, position = self._row(i)
        is_single = self.starts[row + 1] - self.starts[row] == 1
        return self.dataset.key(row) if is_single else f"{self.dataset.key(row)}#{position}"

    def locate(self, i: int) -> tuple[str, int]:
        return self.dataset.locate(self._row(i)[0])

    def read(self, i: int) -> Sample:
        row, position = self._row(i)
        names = sorted(self.dataset.image_names(row))
        if len(names) < 2:
            return self.dataset.read(row)
        sample = self.dataset.read_images(row, [names[position]])
        sample.key = self.key(i)
        return sample

    def read_text(self, i: int) -> Sample:
        sample = self.dataset.read_text(self._row(i)[0])
        sample.key = self.key(i)
        return sample
