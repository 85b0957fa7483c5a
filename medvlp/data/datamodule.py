"""The Lightning data module: rank and world size meet the schedule here, and nowhere else."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import lightning.pytorch as pl

from medvlp.combinations import ItemFilter, prepared_without
from medvlp.data.dataset import RequestedSamples
from medvlp.data.loader import TrainingLoader
from medvlp.data.order import Order, OrderedSource
from medvlp.data.pipeline import BatchPipeline, Sources
from medvlp.data.plan import RankSchedule
from medvlp.data.views.filtered import FilteredDataset
from medvlp.distributed import launched_rank
from medvlp.selection import Selected
from medvlp.shards import ShardDataset


class TrainingData(pl.LightningDataModule):
    """Training batches of one run. Opened by `prepare_data` and `setup`, which may be called again.

    Args:
        openers: what opens the shards of each source, without what is held out.
        filters: what is trained on of each source.
        weights: passes over each source in an epoch.
        shares: of an epoch's samples by source, instead of weights; empty: by weights.
        pipeline: the objective's way from shards to batches.
        seed: keys order and augmentation.
        shuffle_block, shuffle_window: see `Order`.
        global_batch_size: samples in one optimizer step, over all ranks.
        accumulate: batches in one optimizer step.
        max_steps, max_epochs: the run ends at the first.
        workers: loader processes a rank.
    """

    def __init__(
        self,
        openers: Mapping[str, Callable[[], ShardDataset]],
        filters: Mapping[str, ItemFilter],
        weights: Mapping[str, float],
        pipeline: BatchPipeline,
        *,
        seed: int,
        shuffle_block: int,
        shuffle_window: int,
        global_batch_size: int,
        accumulate: int,
        max_steps: int | None,
        max_epochs: int | None,
        workers: int,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.openers, self.filters, self.weights, self.pipeline, self.seed = openers, filters, weights, pipeline, seed
        self.shuffle_block, self.shuffle_window = shuffle_block, shuffle_window
        self.global_batch_size, self.accumulate, self.workers = global_batch_size, accumulate, workers
        self.shares = dict(shares or {})
        self.max_steps, self.max_epochs = max_steps, max_epochs
        self.is_prepared = self.is_open = False

    @cached_property
    def sources(self) -> Sources:
        """Shards by name, without what is held out."""
        return {name: open_it() for name, open_it in self.openers.items()}

    @property
    def held_out(self) -> dict[str, ItemFilter]:
        """Source → what is held out of it, by its filter or before it was prepared; empty where nothing is of any source."""
        filters = {
            name: replace(self.filters[name], exclude=self.filters[name].exclude + prepared_without(dataset.manifest))
            for name, dataset in self.sources.items()
        }
        return filters if any(filters.values()) else {}

    @property
    def selected(self) -> dict[str, Selected]:
        """Source → what conditions on its tables leave of it, for those that have some."""
        views = {name: dataset for name, dataset in self.sources.items() if isinstance(dataset, FilteredDataset)}
        return {name: view.selected for name, view in views.items() if view.selected}

    def prepare_data(self) -> None:
        """Caches on disk, by rank 0."""
        if not self.is_prepared and launched_rank() == 0:
            self.pipeline.write_caches(self.sources)
        self.is_prepared = True

    def setup(self, stage: str = "fit") -> None:
        """Sources, order and plan, on every rank.

        Raises:
            UserError: data that cannot be trained on, or a batch that does not fit them.
        """
        if self.is_open:
            return
        sources = self.pipeline.open(self.sources)
        self.skipped = sources.skipped
        datasets = sources.datasets
        weights = weights_of({name: len(dataset) for name, dataset in datasets.items()}, self.shares) or self.weights
        ordered = [
            OrderedSource(name, len(dataset), weights[name], dataset.manifest_hash)
            for name, dataset in datasets.items()
        ]
        order = Order(ordered, self.seed, self.shuffle_block, self.shuffle_window)
        self.counts = dict(zip(datasets, order.counts, strict=True))
        self.samples = RequestedSamples(
            list(datasets.items()),
            self.pipeline.prepare,
            self.seed,
            self.pipeline.replaces_bad,
            self.pipeline.counts_NH,
        )
        self.plan = self.pipeline.plan(order, list(datasets.values()))
        schedule = RankSchedule(self.plan, self.global_batch_size)
        self.steps_per_epoch, self.unfilled = schedule.steps_per_epoch, schedule.unfilled
        limits = [self.max_steps, self.max_epochs and self.max_epochs * self.steps_per_epoch]
        self.total_steps = min(limit for limit in limits if limit is not None)
        self.is_open = True

    def train_dataloader(self) -> TrainingLoader:
        """This rank's loader."""
        trainer = self.trainer
        assert trainer is not None
        schedule = RankSchedule(
            self.plan, self.global_batch_size, self.accumulate, trainer.global_rank, trainer.world_size
        )
        pin = trainer.strategy.root_device.type == "cuda"
        return TrainingLoader(
            self.samples,
            schedule,
            self.pipeline.collate,
            self.total_steps,
            self.workers,
            pin,
            self.pipeline.whole_steps,
            self.pipeline.sample_bytes * schedule.batch_size,
        )


def weights_of(lengths: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, float]:
    """Passes over each source for an epoch of as many samples as all have, of which each has its share; {} without shares."""
    total, units = sum(lengths.values()), sum(shares.values())
    return {name: shares[name] / units * total / lengths[name] for name in lengths if shares and lengths[name]}
