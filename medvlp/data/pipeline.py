"""BatchPipeline, the base of what an objective does between shards and batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medvlp.data.dataset import Dataset, Prepare
from medvlp.data.loader import Collate
from medvlp.data.order import Order
from medvlp.data.plan import BatchPlan, SamplePlan
from medvlp.shards import ShardDataset

Sources = Mapping[str, ShardDataset]
"""Shards by the name of their source, in the order of the blend."""


@dataclass
class OpenedSources:
    """Sources as an objective trains on them.

    datasets: what the order samples from, by source.
    skipped: conversations and samples that are not trained on: rows of the run's ledger.
    """

    datasets: Mapping[str, Dataset]
    skipped: list[dict[str, str]] = field(default_factory=list)


class BatchPipeline:
    """From shards to batches. A subclass brings `prepare` and `collate`, as methods or as callables of their own.

    `TrainingData` calls write_caches and open once, then plan; prepare and collate serve every batch after that.
    """

    replaces_bad = True
    """Another sample takes a bad one's place; otherwise it stays empty, as in a pack whose length was planned."""
    whole_steps = False
    """The accumulated batches of a step are handed out together: the objective's loss is not a sum over them."""
    caches_features = False
    """Files over runs are compared with the model's weights, so these have to be there before `write_caches`."""
    sample_bytes = 0
    """Of a sample in a batch at most; 0: not known before."""
    counts_NH: NDArray[np.float64] | None = None
    """What each sample that `open` gave counts in the divisors of the losses; None: all count alike."""
    prepare: Prepare
    """(sample, number of its source, random state) → the fields that `collate` batches. Raises BadSample."""
    collate: Collate
    """Samples as they were read → a batch."""

    def write_caches(self, sources: Sources) -> None:
        """Compute what is kept in files over runs. Rank 0 alone calls it."""

    def open(self, sources: Sources) -> OpenedSources:
        """What is trained on; waits for what rank 0 writes.

        Raises:
            UserError: data that cannot be trained on.
        """
        return OpenedSources(sources)

    def plan(self, order: Order, datasets: Sequence[Dataset]) -> BatchPlan:
        """How samples become batches: one by one."""
        return SamplePlan(order)

    def stretch(self, batch: Any) -> Any:
        """As long a batch as there may be, for the trial before the first step."""
        return batch
