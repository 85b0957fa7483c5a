"""The data and the encoder of a training, for `medvlp check`, without weights."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from medvlp.boxes.forms import BoxStyle
from medvlp.boxes.views import geometry_of
from medvlp.builders.data import as_conversations, open_shards, open_source, source_texts
from medvlp.builders.llava import encoder_for, encoder_identity
from medvlp.builders.objectives.classification import class_labels
from medvlp.builders.towers import library_reference, vision_tower
from medvlp.config import ClassifyConfig, InstructConfig, LlavaConfig, TrainConfig, load_task
from medvlp.data.audit.rules import Rules
from medvlp.data.audit.token_costs import TokenAudit
from medvlp.data.chat.boxes import WrittenBoxes, tokens_identity
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.rewriting import ConversationDataset
from medvlp.data.labels import ClassLabels
from medvlp.models.llava.language import load_language
from medvlp.models.llava.model import image_token_id
from medvlp.models.towers.reduce import Reduce
from medvlp.shards import ShardDataset
from medvlp.shards.manifest import MANIFEST


def encoder_without_weights(config: LlavaConfig) -> ChatEncoder:
    """The encoder of the assistant that a configuration describes, for which only tokenizer and configurations are read
    (and the checkpoint of a CLIP, where the tower is one's).

    Raises:
        ConfigError, WeightsError, CheckpointError: as in building the assistant.
    """
    tokens = vision_tower(config.vision, config.vision.feature_layer, weights=False).tokens
    source = library_reference(config.language.source, "model.language.source")
    with torch.device("meta"):  # a language model without memory: its tokenizer is wanted
        _, tokenizer, _ = load_language(source, config.language.gguf, weights=False)
    if config.reduce.kind:
        tokens = Reduce(config.reduce.kind, config.reduce.factor).tokens(tokens)  # type: ignore[arg-type]
    return encoder_for(tokenizer, image_token_id(tokenizer), tokens, config.language)


CONTENT = {"contrastive": "pairs", "instruct": "conversations", "classify": "labels"}
"""Kind of objective → what it trains on, as in `Rules`."""


def sources_and_rules(config: TrainConfig) -> Iterator[tuple[str, ShardDataset, Rules]]:
    """Every source's name and shards, and what its samples are for.

    Raises:
        ShardError: a folder that cannot be read.
    """
    kind = config.objective.kind
    content = CONTENT.get(kind, "") if config.model.kind or kind == "classify" else ""
    for name, source in config.data.sources.items():
        texts, asks = source_texts(name, source), bool(source.caption_prompts)
        rules = Rules(content, texts, asks, config.data.max_pixels, bool(source.several_images))
        yield name, open_source(config, name), rules


def conversation_sources(config: TrainConfig, style: BoxStyle) -> Iterator[tuple[str, float, ConversationDataset]]:
    """Every source's name, weight and conversations, as instruction tuning reads them."""
    for name, source in config.data.sources.items():
        yield name, source.weight, WrittenBoxes(as_conversations(open_source(config, name), source), style)


def token_audit(config: TrainConfig) -> TokenAudit:
    """The conversations of an instruction tuning and the encoder of its assistant, without weights.

    Raises:
        ConfigError, WeightsError, CheckpointError: as in building the assistant.
    """
    assert isinstance(config.model, LlavaConfig)
    assert isinstance(config.objective, InstructConfig)
    encoder = encoder_without_weights(config.model)
    vision = config.model.vision
    processor = vision_tower(vision, vision.feature_layer, weights=False).processor
    style = BoxStyle(config.objective.box_form, geometry_of(processor), config.objective.box_words)
    return TokenAudit(
        conversations=list(conversation_sources(config, style)),
        encoder=encoder,
        identity=tokens_identity(encoder_identity(encoder), style),
        max_length=config.objective.max_length,
        too_long=config.objective.too_long,
        packing=config.objective.packing,
        global_batch_size=config.data.global_batch_size,
        accumulate=config.trainer.accumulate,
        seed=config.seed,
    )


def class_heads(config: TrainConfig) -> dict[str, ClassLabels]:
    """The heads that an objective trains, and how each reads its labels; {} of other objectives."""
    if not isinstance(config.objective, ClassifyConfig):
        return {}
    return {name: class_labels(head) for name, head in config.objective.heads.items()}


def training_splits(config: TrainConfig) -> list[ShardDataset]:
    """The shards of every source, without what is held out of them."""
    return [open_source(config, name) for name in config.data.sources]


def held_out_splits(config: TrainConfig) -> Iterator[ShardDataset]:
    """Splits that the run does not train on: those next to each source's, and those on which each task is scored, during
    training and after."""
    trained = {Path(source.path).resolve() for source in config.data.sources.values() if not source.is_remote}
    tasks = [load_task(name) for name in config.tasks]
    folders = [Path(task.data, split).resolve() for task in tasks for split in (task.valid_split, task.split)]
    for folder in sorted(trained):
        with suppress(PermissionError):  # folders of others next to the split
            folders += [path.resolve() for path in sorted(folder.parent.iterdir())]
    for folder in dict.fromkeys(folders):
        with suppress(PermissionError):
            if folder not in trained and (folder / MANIFEST).is_file():
                yield open_shards(str(folder))
