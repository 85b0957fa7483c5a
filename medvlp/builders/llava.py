"""An assistant from its configuration, and from a checkpoint."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medvlp.boxes.forms import BoxStyle
from medvlp.boxes.views import geometry_of
from medvlp.builders.clip import description_of, fill
from medvlp.builders.towers import library_reference, vision_tower
from medvlp.config import ConfigError, InstructConfig, LanguageConfig, LlavaConfig, TrainConfig, from_dict
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.images import Processed
from medvlp.data.chat.templates import ChatTemplateError, chat_template
from medvlp.eval.models.assistant import AssistantModel
from medvlp.models.llava.generate import BatchedGenerator
from medvlp.models.llava.language import load_language
from medvlp.models.llava.metadata import from_metadata
from medvlp.models.llava.model import Assistant, add_lora, assemble
from medvlp.models.towers.reduce import Reduce
from medvlp.models.towers.tower import input_shape
from medvlp.training.checkpoints import CheckpointError, load_checkpoint


def build_assistant(config: LlavaConfig) -> Assistant:
    """The assistant that a configuration describes, its tower and language model loaded, its projector fresh.

    Raises:
        WeightsError, CheckpointError: a part that is missing or does not fit.
    """
    tower = vision_tower(config.vision, config.vision.feature_layer)
    language_options = config.language
    language, tokenizer, name = load_language(
        library_reference(language_options.source, "model.language.source"),
        language_options.gguf,
        attention=language_options.attention,
        quantization=language_options.quantization or None,
    )
    reduce = Reduce(config.reduce.kind, config.reduce.factor) if config.reduce.kind else None  # type: ignore[arg-type]
    assistant = assemble(tower, language, tokenizer, name, reduce)
    if config.lora.rank:
        lora = config.lora
        add_lora(assistant, lora.rank, lora.alpha, lora.dropout, lora.targets)
    if config.gradient_checkpointing:
        assistant.model.gradient_checkpointing_enable({"use_reentrant": False})
    return assistant


def chat_encoder(assistant: Assistant, language: LanguageConfig) -> ChatEncoder:
    """From conversations to the assistant's tokens.

    Raises:
        ConfigError: the tokenizer has no template that says which words are the assistant's.
    """
    return encoder_for(assistant.tokenizer, assistant.image_id, assistant.image_tokens, language)


def encoder_for(tokenizer: Any, image_id: int, image_tokens: int, language: LanguageConfig) -> ChatEncoder:
    """As `chat_encoder`, of the parts of an assistant."""
    try:
        _, text = chat_template(tokenizer, language.template, language.thoughts, language.system)
    except ChatTemplateError as error:
        raise ConfigError(f"model.language.template: {error}") from None
    return ChatEncoder(tokenizer, text, image_id, image_tokens, language.thoughts)


def encoder_identity(encoder: ChatEncoder) -> str:
    """A hash of all that decides a conversation's tokens."""
    backend = encoder.tokenizer.backend_tokenizer.to_str()
    parts = (backend, encoder.template, str(encoder.image_id), str(encoder.image_tokens), encoder.thoughts)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def assistant_model(
    assistant: Assistant,
    encoder: ChatEncoder,
    max_pixels: int,
    batch_size: int,
    identity: str,
    style: BoxStyle | None = None,
) -> AssistantModel:
    """The assistant as tasks of visual question answering use it.

    identity: hash of its weights. style: how it was taught to write boxes; None of one that was not.
    """
    generator = BatchedGenerator(assistant, encoder.ends(), batch_size)
    return AssistantModel(
        generator,
        encoder,
        Processed(assistant.processor, max_pixels),
        blank_shape(assistant),
        identity,
        style or box_style(assistant),
    )


def box_style(assistant: Assistant, objective: Any = None) -> BoxStyle:
    """How an assistant is given boxes: in its objective's form, of what its processor shows of an image."""
    geometry = geometry_of(assistant.processor)
    if not isinstance(objective, InstructConfig):
        return BoxStyle(geometry=geometry)
    return BoxStyle(objective.box_form, geometry, objective.box_words)


def blank_shape(assistant: Assistant) -> tuple[int, ...]:
    """Pixels of one image."""
    return (1, *input_shape(assistant.model.config.vision_config))


@dataclass
class LoadedAssistant:
    """A checkpoint, ready for use.

    assistant: the model in eval mode with its tokenizer and image processor.
    encoder: from conversations to tokens, by the template trained with.
    config: what it was trained with.
    weights_sha256: the hash of its weights.
    selected: source → what conditions selected of it.
    """

    assistant: Assistant
    encoder: ChatEncoder
    config: TrainConfig
    weights_sha256: str
    selected: Mapping[str, Any]


def load_assistant(path: str | Path) -> LoadedAssistant:
    """The assistant of a checkpoint; nothing else is needed, not even its language model's package.

    Raises:
        CheckpointError: damaged, not ours, or another objective's.
    """
    content = load_checkpoint(path)
    with description_of(path):
        card = content["medvlp"]
        config = from_dict(card["config"])
        if not isinstance(config.model, LlavaConfig):
            raise CheckpointError(f"checkpoint {path} holds model.kind={config.model.kind!r}, not an assistant")
        with torch.device("cpu"):
            assistant = from_metadata(card["assistant"])
        fill(assistant.model, content["state_dict"])
        assistant.model.eval()
        template = str(card["assistant"]["template"])
        thoughts = config.model.language.thoughts
        encoder = ChatEncoder(assistant.tokenizer, template, assistant.image_id, assistant.image_tokens, thoughts)
        return LoadedAssistant(assistant, encoder, config, card["weights_sha256"], card.get("selected", {}))
