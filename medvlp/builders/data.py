"""The training data module from its configuration: sources, order and loader."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from medvlp.config import ConfigError, DataConfig, SourceConfig, TrainConfig, VqaConfig, load_task
from medvlp.config.templates.files import load_templates
from medvlp.data.chat.rewriting import (
    CaptionQuestions,
    ConversationDataset,
    RewordedConversations,
    TaskQuestions,
)
from medvlp.data.dataset import Dataset
from medvlp.data.images.crop import RandomView
from medvlp.data.pipeline import BatchPipeline
from medvlp.data.texts import FieldTexts, JoinedTexts, LabelTexts, SourceTexts
from medvlp.data.views.filtered import open_split
from medvlp.data.views.images import EachImage, OneImage
from medvlp.distributed import launched_rank
from medvlp.shards import ShardDataset
from medvlp.shards.storage import RemoteSettings, split_folder
from medvlp.wording.questions import QuestionWording

if TYPE_CHECKING:
    from medvlp.data.datamodule import TrainingData


def build_data(config: TrainConfig, pipeline: BatchPipeline) -> TrainingData:
    """Training batches of a run; its `prepare_data` and `setup` open them."""
    from medvlp.data.datamodule import TrainingData

    data, trainer = config.data, config.trainer
    return TrainingData(
        {name: opener(config, name) for name in data.sources},
        {name: source.item_filter(name) for name, source in data.sources.items()},
        {name: source.weight for name, source in data.sources.items()},
        pipeline,
        seed=config.seed,
        shuffle_block=data.shuffle_block,
        shuffle_window=data.shuffle_window,
        global_batch_size=data.global_batch_size,
        accumulate=trainer.accumulate,
        max_steps=trainer.max_steps,
        max_epochs=trainer.max_epochs,
        workers=data.workers,
        shares=data.shares,
    )


def training_view(data: DataConfig, size: int) -> RandomView:
    """What is trained on of an image, for a tower whose input has this side."""
    augment = data.augment
    transforms = augment.chain()
    if any(transform.mirrors for transform in transforms) and launched_rank() == 0:
        print(
            "note: data.augment.transforms mirrors images: left findings become right ones, and their texts stay as they are",
            flush=True,
        )
    is_scaled, is_deep = augment.decode == "scaled", augment.bits == 16
    return RandomView(size, augment.scale, augment.ratio, data.max_pixels, is_scaled, is_deep, transforms)


def source_texts(name: str, source: SourceConfig) -> SourceTexts:
    """What a source's samples are trained on. Raises ConfigError, TemplateError."""
    if source.text_templates:
        return JoinedTexts(source.templates(name), source.text_weights)
    if source.label_captions:
        templates = load_templates(source.label_templates, f"data.sources.{name}.label_templates")
        return LabelTexts(source.label_captions, templates)
    return FieldTexts(tuple(source.text_fields), source.text_weights)


def image_views(config: TrainConfig) -> dict[str, Callable[[ShardDataset], Dataset]]:
    """By source, what makes others of its samples of several images; only of those where something does."""
    views: dict[str, Callable[[ShardDataset], Dataset]] = {}
    for name, source in config.data.sources.items():
        if source.several_images == "one":
            views[name] = partial(OneImage, seed=config.seed)
        elif source.several_images == "each":
            views[name] = EachImage
    return views


def as_conversations(dataset: ShardDataset, source: SourceConfig) -> ConversationDataset:
    """A source's samples with the conversations that its configuration makes of their texts, in its wording."""
    conversations: ConversationDataset = dataset
    if source.caption_prompts:
        conversations = CaptionQuestions(dataset, source.text_fields, source.caption_prompts)
    if source.questions_as:
        conversations = TaskQuestions(conversations, task_wording(source.questions_as))
    if source.question_template or source.answer_template:
        conversations = RewordedConversations(conversations, source.question_template, source.answer_template)
    return conversations


def task_wording(name: str) -> QuestionWording:
    """The words of a task's questions. Raises ConfigError: no such task, or none that asks questions."""
    task = load_task(name)
    if not isinstance(task, VqaConfig):
        raise ConfigError(
            f"data.sources.*.questions_as={name} is a task of kind: {task.kind}, expected one that asks questions: kind: vqa"
        )
    return task.wording()


def open_source(config: TrainConfig, name: str) -> ShardDataset:
    """A source's shards, without what is held out of it. Raises ShardError, CombinationError."""
    return opener(config, name)()


def opener(config: TrainConfig, name: str) -> Callable[[], ShardDataset]:
    """What opens a source's shards, wherever they are."""
    source, settings = config.data.sources[name], RemoteSettings.from_options(**vars(config.data.remote))

    def open_it() -> ShardDataset:
        folder = split_folder(source.path, settings)
        key = f"data.sources.{name}"
        return open_split(folder, source.item_filter(name), key, source.shards, settings, source.conditions)

    return open_it


def open_shards(path: str) -> ShardDataset:
    """A split's folder or address; a task's or a source's."""
    return ShardDataset(split_folder(path))
