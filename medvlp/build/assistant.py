"""An assistant from its configuration, and from a checkpoint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medvlp.build.clip import load_clip
from medvlp.build.experiment import Experiment, build_optimisation
from medvlp.config import ConfigError, InstructConfig, LlavaConfig, TrainConfig, from_dict
from medvlp.data.conversations import ChatEncoder, self_test
from medvlp.data.examples import Asked, Examples, measured
from medvlp.data.order import Order
from medvlp.data.packing import CollateConversations, PackPlan, PrepareConversations, shared_beginning
from medvlp.data.pictures import Processed
from medvlp.data.templates import chat_template
from medvlp.data.units import Dataset
from medvlp.models.language import load_language
from medvlp.models.llava import Assistant, add_lora, assemble, from_card, sliding_window
from medvlp.models.towers import Reduce, load_tower, tower_from_clip
from medvlp.shards import ShardDataset
from medvlp.training.checkpoints import CheckpointError, load_checkpoint
from medvlp.training.instruction import Instruction

SELF_TESTED = 32
"""Samples of each source whose supervised tokens are decoded and compared before a run."""
NAMED_FAULTS = 5


def build_assistant(config: LlavaConfig) -> Assistant:
    """The assistant that a configuration describes, its tower and language model loaded, its projector fresh.

    Raises:
        WeightsError, CheckpointError: a part that is missing or does not fit.
    """
    tower = config.tower
    if tower.source.endswith(".ckpt"):
        eye = tower_from_clip(load_clip(tower.source).clip, tower.feature_layer)
    else:
        eye = load_tower(
            tower.source, tower.size, tower.mean, tower.std, tower.feature_layer, weights_file=tower.weights
        )
    chosen = config.language
    language, tokenizer, name = load_language(
        chosen.source, chosen.gguf, attention=chosen.attention, quantization=chosen.quantization or None
    )
    reduce = Reduce(config.reduce.kind, config.reduce.factor) if config.reduce.kind else None  # type: ignore[arg-type]
    assistant = assemble(eye, language, tokenizer, name, reduce)
    if config.lora.rank:
        lora = config.lora
        add_lora(assistant, lora.rank, lora.alpha, lora.dropout, lora.targets)
    if config.gradient_checkpointing:
        assistant.model.gradient_checkpointing_enable({"use_reentrant": False})
    return assistant


def chat_encoder(assistant: Assistant, template: str) -> ChatEncoder:
    """From conversations to the assistant's tokens.

    Args:
        template: model.language.template.
    Raises:
        ConfigError: the tokenizer has no template that says which words are the assistant's.
    """
    try:
        _, text = chat_template(assistant.tokenizer, template)
    except ValueError as error:
        raise ConfigError(f"model.language.template: {error}") from None
    return ChatEncoder(assistant.tokenizer, text, assistant.image_id, assistant.image_tokens)


def encoder_identity(encoder: ChatEncoder) -> str:
    """A hash of all that decides a conversation's tokens."""
    backend = encoder.tokenizer.backend_tokenizer.to_str()
    parts = (backend, encoder.template, str(encoder.image_id), str(encoder.image_tokens))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def instruct(config: TrainConfig) -> Experiment:
    """An assistant with its language model's loss on the assistant's words."""
    assert isinstance(config.objective, InstructConfig)
    assert isinstance(config.model, LlavaConfig)
    objective = config.objective
    assistant = build_assistant(config.model)
    window = sliding_window(assistant.model)
    if window and window < objective.max_length:
        raise ConfigError(
            f"objective.max_length={objective.max_length}: this language model attends to {window} tokens back, and a mask for "
            f"packing knows no window; set objective.max_length={window}"
        )
    encoder = chat_encoder(assistant, config.model.language.template)
    module = Instruction(
        assistant.model, assistant.parts, build_optimisation(config.optim), config.seed, blank_shape(assistant)
    )
    tree, packed = objective.packing == "tree", objective.packing != "none"
    left_out: list[dict[str, str]] = []
    identity = encoder_identity(encoder)

    def view(name: str, dataset: ShardDataset) -> Dataset:
        source = config.data.sources[name]
        asked = Asked(dataset, source.texts, source.questions) if source.questions else dataset
        lengths = measured(asked, encoder, objective.max_length, objective.too_long, shared_beginning, identity)
        faults = [f"{one.key}, conversation {one.conversation}: {one.reason} ({one.detail})" for one in lengths.faults]
        if faults:
            more = f"\n  and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
            raise ConfigError(
                f"data.sources.{name}: {len(faults)} conversations cannot be trained on; `medvlp check` lists them all:\n  "
                + "\n  ".join(faults[:NAMED_FAULTS])
                + more
            )
        left_out.extend({"source": name, **vars(one)} for one in lengths.left_out)
        examples = Examples(asked, lengths, encoder, objective.max_length, tree)
        if not len(examples):
            raise ConfigError(
                f"data.sources.{name}: nothing is left to train on; {len(left_out)} entries were left out"
            )
        try:
            self_test(encoder, [examples.read(i) for i in range(min(SELF_TESTED, len(examples)))])
        except ValueError as error:
            raise ConfigError(f"data.sources.{name}: {error}") from None
        return examples

    def plan(order: Order, sources: Sequence[Dataset]) -> PackPlan:
        examples = [source for source in sources if isinstance(source, Examples)]
        return PackPlan(order, examples, objective.max_length, packed, objective.weighting)

    collate = CollateConversations(
        assistant.pad_id,
        assistant.image_id,
        assistant.image_tokens,
        tree,
        objective.weighting,
        flat=packed and config.model.language.attention.startswith("flash"),
    )
    prepare = PrepareConversations(encoder, Processed(assistant.processor, config.data.max_pixels))
    card = {"assistant": {**assistant.card(), "template": encoder.template}}
    card["tokenizer"] = assistant.names["language"]
    return Experiment(module, prepare, collate, card, view=view, plan=plan, replace=False, left_out=left_out)


def blank_shape(assistant: Assistant) -> tuple[int, int, int, int]:
    """Pixels of one image."""
    vision: Any = assistant.model.config.vision_config
    side = vision.image_size
    return (1, 3, side, side)


@dataclass
class LoadedAssistant:
    """A checkpoint, ready for use.

    assistant: the model in eval mode with its tokenizer and image processor.
    encoder: from conversations to tokens, by the template trained with.
    config: what it was trained with.
    weights_sha256: the hash of its weights.
    """

    assistant: Assistant
    encoder: ChatEncoder
    config: TrainConfig
    weights_sha256: str


def load_assistant(path: str | Path) -> LoadedAssistant:
    """The assistant of a checkpoint; nothing else is needed, not even its language model's package.

    Raises:
        CheckpointError: damaged, not ours, or another objective's.
    """
    content = load_checkpoint(path)
    card = content["medvlp"]
    config = from_dict(card["config"])
    if not isinstance(config.model, LlavaConfig):
        raise CheckpointError(f"checkpoint {path} holds model.kind={config.model.kind!r}, not an assistant")
    with torch.device("cpu"):
        assistant = from_card(card["assistant"])
    assistant.model.load_state_dict(content["state_dict"])
    assistant.model.eval()
    encoder = ChatEncoder(
        assistant.tokenizer, card["assistant"]["template"], assistant.image_id, assistant.image_tokens
    )
    return LoadedAssistant(assistant, encoder, config, card["weights_sha256"])
