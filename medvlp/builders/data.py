"""A run's data from its configuration."""

from pathlib import Path

from medvlp.builders.objectives import Experiment
from medvlp.config import ConfigError, SourceConfig, TrainConfig
from medvlp.data.chat.rewriting import CaptionQuestions, ConversationDataset, RewordedConversations
from medvlp.data.datamodule import TrainingData
from medvlp.data.dataset import Units
from medvlp.data.order import Order, OrderedSource
from medvlp.shards import ShardDataset


def build_data(config: TrainConfig, experiment: Experiment) -> TrainingData:
    """Training batches of a run.

    Raises:
        ConfigError: the batch does not fit the data or the ranks.
        ShardError: a folder that cannot be read.
    """
    data, trainer = config.data, config.trainer
    sources = [(name, open_shards(source.path)) for name, source in data.sources.items()]
    views = [(name, experiment.view(name, dataset)) for name, dataset in sources]
    ordered = [OrderedSource(name, len(view), data.sources[name].weight, view.manifest_hash) for name, view in views]

    def total_steps(steps_per_epoch: int) -> int:
        limits = [trainer.max_steps, trainer.max_epochs and trainer.max_epochs * steps_per_epoch]
        return min(limit for limit in limits if limit is not None)

    try:
        order = Order(ordered, config.seed, data.shuffle_block, data.shuffle_window)
        return TrainingData(
            Units(views, experiment.prepare, config.seed, experiment.replace),
            experiment.plan(order, [view for _, view in views]),
            experiment.collate,
            data.global_batch_size,
            trainer.accumulate,
            total_steps,
            data.workers,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def as_conversations(dataset: ShardDataset, source: SourceConfig) -> ConversationDataset:
    """A source's samples with the conversations that its configuration makes of their texts, in its wording."""
    conversations: ConversationDataset = dataset
    if source.caption_prompts:
        conversations = CaptionQuestions(dataset, source.text_fields, source.caption_prompts)
    if source.question_template or source.answer_template:
        conversations = RewordedConversations(conversations, source.question_template, source.answer_template)
    return conversations


def open_shards(path: str) -> ShardDataset:
    """A shard folder; a task's or a source's."""
    return ShardDataset(Path(path))
