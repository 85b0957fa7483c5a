"""Labelled embeddings of a split, and what of one split must not be fitted where another is scored.

Legend: N samples, D embedding width, L classes or labels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from medvlp.data.labels import ClassLabels
from medvlp.eval.embeddings import ImageEmbeddings
from medvlp.eval.errors import TaskError
from medvlp.eval.items import Item
from medvlp.eval.metrics import Array
from medvlp.eval.multi_label.targets import read_targets
from medvlp.shards import ShardDataset


@dataclass(frozen=True)
class LabelledSamples:
    """The samples of a split that have a target.

    target_NL: 1, 0, or NaN where a label is not stated; of one class each, one 1 in every row. hashes: sha256 of each image.
    excluded: why others have no target → samples. strangers: name that is no class → samples that have it.
    """

    items: Sequence[Item]
    embedding_ND: Array
    target_NL: Array
    hashes: Sequence[str]
    excluded: Counter[str] = field(default_factory=Counter)
    strangers: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.items)

    def take(self, rows: ArrayLike) -> "LabelledSamples":
        """Some of them, by rows or by a mask."""
        indices = np.arange(len(self.items))[np.asarray(rows)]
        return LabelledSamples(
            [self.items[row] for row in indices],
            self.embedding_ND[indices],
            self.target_NL[indices],
            [self.hashes[row] for row in indices],
            self.excluded,
            self.strangers,
        )

    def apart_from(self, *splits: "LabelledSamples") -> "LabelledSamples":
        """Those that share neither a group (patient, article) nor an image's bytes with another split; the number of the rest
        is in `excluded`."""
        groups = {item.group for split in splits for item in split.items}
        hashes = {sha256 for split in splits for sha256 in split.hashes if sha256}
        is_apart = [
            item.group not in groups and sha256 not in hashes
            for item, sha256 in zip(self.items, self.hashes, strict=True)
        ]
        remainder = self.take(np.array(is_apart, bool))
        overlap = len(self) - len(remainder)
        reasons = self.excluded + Counter({"of a group, or with an image, that another split has": overlap})
        return LabelledSamples(
            remainder.items, remainder.embedding_ND, remainder.target_NL, remainder.hashes, reasons, self.strangers
        )

    def joined(self, samples: "LabelledSamples") -> "LabelledSamples":
        """With those of another split."""
        return LabelledSamples(
            [*self.items, *samples.items],
            np.concatenate([self.embedding_ND, samples.embedding_ND]),
            np.concatenate([self.target_NL, samples.target_NL]),
            [*self.hashes, *samples.hashes],
        )


def labelled_samples(
    images: ImageEmbeddings, dataset: ShardDataset, labels: ClassLabels, exclude: Sequence[str]
) -> LabelledSamples:
    """The samples of a split with their targets; arguments as of `read_targets`. Raises TaskError: embeddings hold NaN."""
    targets = read_targets(images.items, labels, exclude)
    hash_of = dict(zip(dataset.column("key"), dataset.column("sha256"), strict=True))
    items = [images.items[row] for row in targets.rows]
    embedding_ND = images.embeddings_ND.double().numpy()[targets.rows]
    if not np.isfinite(embedding_ND).all():
        raise TaskError("embeddings are not finite: the encoder gave NaN or infinity; check the checkpoint")
    hashes = [str(hash_of[item.key]) for item in items]
    return LabelledSamples(items, embedding_ND, targets.target_NL, hashes, targets.excluded, targets.strangers)
