"""Instruction tuning from its configuration."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from medvlp.build.assistant import blank_shape, build_assistant, chat_encoder, encoder_identity, respondent
from medvlp.build.data import as_conversations
from medvlp.build.experiment import Experiment, build_optimisation
from medvlp.config import ConfigError, InstructConfig, LlavaConfig, SourceConfig, TrainConfig
from medvlp.data.conversations import ChatEncoder, self_test
from medvlp.data.examples import Examples, measured
from medvlp.data.features import CachedFeatures, StaleCache, card_of, is_cached, write_features
from medvlp.data.order import Order
from medvlp.data.packing import CollateConversations, PackPlan, PrepareConversations, shared_beginning
from medvlp.data.pictures import Processed
from medvlp.data.units import Dataset
from medvlp.models.llava import Assistant, sliding_window, tower_features
from medvlp.shards import ShardDataset
from medvlp.training.instruction import Instruction

SELF_TESTED = 32
"""Samples of each source whose supervised tokens are decoded and compared before a run."""
NAMED_FAULTS = 5
EVALUATED_AT_ONCE = 64
"""Questions in a batch of an evaluation during training."""


def instruct(config: TrainConfig) -> Experiment:
    """An assistant with its language model's loss on the assistant's words."""
    assert isinstance(config.objective, InstructConfig)
    assert isinstance(config.model, LlavaConfig)
    objective, max_pixels = config.objective, config.data.max_pixels
    assistant = build_assistant(config.model)
    check_window(assistant, objective.max_length)
    encoder = chat_encoder(assistant, config.model.language.template)
    sources = Sources(assistant, encoder, objective, config.data.sources, max_pixels)
    shape = (1, *sources.feature_shape) if objective.feature_cache else blank_shape(assistant)
    module = Instruction(assistant.model, assistant.parts, build_optimisation(config.optim), config.seed, shape)
    packed = objective.packing != "none"

    def plan(order: Order, views: Sequence[Dataset]) -> PackPlan:
        examples = [view for view in views if isinstance(view, Examples)]
        return PackPlan(order, examples, objective.max_length, packed, objective.weighting)

    collate = CollateConversations(
        assistant.pad_id,
        assistant.image_id,
        assistant.image_tokens,
        objective.packing == "tree",
        objective.weighting,
        flat=packed and config.model.language.attention.startswith("flash"),
    )
    card = {"assistant": {**assistant.card(), "template": encoder.template}, "tokenizer": assistant.names["language"]}
    return Experiment(
        module,
        PrepareConversations(encoder, sources.pictures),
        collate,
        card,
        respondent=lambda identity: respondent(assistant, encoder, max_pixels, EVALUATED_AT_ONCE, identity),
        view=sources.view,
        plan=plan,
        replace=False,
        left_out=sources.left_out,
    )


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


class Sources:
    """Shards as examples for one assistant, and the pictures that go with them.

    left_out: what is not trained on, by source.
    pictures: sample → pixels, or features where a cache is asked for.
    """

    def __init__(
        self,
        assistant: Assistant,
        encoder: ChatEncoder,
        objective: InstructConfig,
        configs: dict[str, SourceConfig],
        max_pixels: int,
    ) -> None:
        self.assistant, self.encoder, self.objective, self.configs = assistant, encoder, objective, configs
        self.left_out: list[dict[str, str]] = []
        self.processed = Processed(assistant.processor, max_pixels)
        self.cached = CachedFeatures([], [])
        self.pictures = self.cached if objective.feature_cache else self.processed
        self.identity = encoder_identity(encoder)

    @property
    def feature_shape(self) -> tuple[int, int]:
        """(P, D) of one image before the projector."""
        with torch.no_grad():
            shape = tower_features(self.assistant.model, torch.zeros(blank_shape(self.assistant))).shape
        return int(shape[1]), int(shape[2])

    def view(self, name: str, dataset: ShardDataset) -> Examples:
        """A source's examples.

        Raises:
            ConfigError: conversations that cannot be trained on, or a stale cache.
        """
        objective = self.objective
        if objective.feature_cache:
            self._cache(name, dataset)
        shown = as_conversations(dataset, self.configs[name])
        lengths = measured(
            shown, self.encoder, objective.max_length, objective.too_long, shared_beginning, self.identity
        )
        faults = [f"{one.key}, conversation {one.conversation}: {one.reason} ({one.detail})" for one in lengths.faults]
        if faults:
            more = f"\n  and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
            raise ConfigError(
                f"data.sources.{name}: {len(faults)} conversations cannot be trained on; `medvlp check` lists them all:\n  "
                + "\n  ".join(faults[:NAMED_FAULTS])
                + more
            )
        self.left_out.extend({"source": name, **vars(one)} for one in lengths.left_out)
        examples = Examples(shown, lengths, self.encoder, objective.max_length, objective.packing == "tree")
        if not len(examples):
            raise ConfigError(
                f"data.sources.{name}: nothing is left to train on; {len(lengths.left_out)} entries were left out"
            )
        try:
            self_test(self.encoder, [examples.read(i) for i in range(min(SELF_TESTED, len(examples)))])
        except ValueError as error:
            raise ConfigError(f"data.sources.{name}: {error}") from None
        return examples

    def _cache(self, name: str, dataset: ShardDataset) -> None:
        folder = Path(self.objective.feature_cache) / name
        assistant = self.assistant
        made_with = {"tower": assistant.names["tower"]["sha256"], "transform": assistant.processor.to_json_string()}
        expected = card_of(dataset, made_with)
        try:
            if not is_cached(folder, expected) and int(os.environ.get("RANK", "0")) == 0:
                print(f"{folder}: features of {len(dataset)} samples are computed once", flush=True)
                assistant.model.eval()
                write_features(folder, dataset, expected, self.processed, self._encode, self.feature_shape)
            while not is_cached(folder, expected):  # rank 0 is at it; should it die, torchrun ends this rank too
                time.sleep(1)
        except StaleCache as error:
            raise ConfigError(f"objective.feature_cache: {error}") from None
        self.cached.folders.append(folder)
        self.cached.datasets.append(dataset)

    def _encode(self, pixels: torch.Tensor) -> Any:
        return tower_features(self.assistant.model, pixels)
