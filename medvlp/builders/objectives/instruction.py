"""Instruction tuning from its configuration."""

from pathlib import Path

from torch import Tensor

from medvlp.builders.data import as_conversations, task_wording
from medvlp.builders.llava import (
    assistant_model,
    blank_shape,
    box_style,
    build_assistant,
    chat_encoder,
    encoder_identity,
)
from medvlp.builders.objectives import optimizer_settings
from medvlp.config import ConfigError, InstructConfig, LlavaConfig, TrainConfig
from medvlp.data.chat.boxes import WrittenBoxes, tokens_identity
from medvlp.data.chat.images import Processed
from medvlp.data.chat.packing import CollateConversations
from medvlp.data.chat.pipeline import ConversationPipeline
from medvlp.data.images.feature_cache import FeatureCache, Pictures
from medvlp.models.llava.language import sliding_window
from medvlp.models.llava.metadata import metadata_of
from medvlp.models.llava.model import Assistant, tower_features
from medvlp.training.module import Objective
from medvlp.training.objectives.instruction import Instruction

EVALUATED_AT_ONCE = 64
"""Questions in a batch of an evaluation during training."""


def instruct(config: TrainConfig) -> Objective:
    """An assistant with its language model's loss on the assistant's words."""
    assert isinstance(config.objective, InstructConfig)
    assert isinstance(config.model, LlavaConfig)
    objective, data = config.objective, config.data
    for source in data.sources.values():
        if source.questions_as:
            task_wording(source.questions_as)  # refused before weights are read
    assistant = build_assistant(config.model)
    check_window(assistant, objective.max_length)
    encoder = chat_encoder(assistant, config.model.language)
    style = box_style(assistant, objective)
    is_packed = objective.packing != "none"
    collate = CollateConversations(
        assistant.pad_id,
        assistant.image_id,
        assistant.image_tokens,
        objective.packing == "tree",
        objective.weighting,
        flat=is_packed and config.model.language.attention.startswith("flash"),
    )
    pipeline = ConversationPipeline(
        encoder,
        tokens_identity(encoder_identity(encoder), style),
        lambda name, shards: WrittenBoxes(as_conversations(shards, data.sources[name]), style),
        image_inputs(assistant, objective.feature_cache, data.max_pixels),
        collate,
        max_length=objective.max_length,
        too_long=objective.too_long,
        packed=is_packed,
        max_positions=getattr(assistant.model.config.text_config, "max_position_embeddings", None),
    )
    module = Instruction(
        assistant.model,
        assistant.parts,
        optimizer_settings(config.optim),
        config.seed,
        blank_shape(assistant),
        from_features=bool(objective.feature_cache),
    )
    description = metadata_of(assistant)
    metadata = {
        "assistant": {**description, "template": encoder.template},
        "tokenizer": description["names"]["language"],
    }
    return Objective(
        module,
        pipeline,
        metadata,
        lambda identity: assistant_model(assistant, encoder, data.max_pixels, EVALUATED_AT_ONCE, identity, style),
    )


def image_inputs(assistant: Assistant, cache: str, max_pixels: int) -> Pictures | FeatureCache:
    """What an assistant's training sees of images: pixels, or features of its frozen tower in a folder."""
    pixels = Processed(assistant.processor, max_pixels)
    if not cache:
        return pixels
    identity = {"tower": assistant.names["tower"]["sha256"], "transform": assistant.processor.to_json_string()}

    def encode(pixels_N3SS: Tensor) -> Tensor:
        assistant.model.eval()
        return tower_features(assistant.model, pixels_N3SS)

    return FeatureCache(Path(cache), lambda: identity, pixels, encode, blank_shape(assistant))


def check_window(assistant: Assistant, max_length: int) -> None:
    """Refuse rows longer than the language model's attention reaches.

    Raises:
        ConfigError: says the window.
    """
    window = sliding_window(assistant.model)
    if window and window < max_length:
        raise ConfigError(
            f"objective.max_length={max_length}: this language model attends to {window} tokens back, and a mask for "
            f"packing knows no window; set objective.max_length={window}"
        )
