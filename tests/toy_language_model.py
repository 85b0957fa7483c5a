"""A causal language model over conversations on the same service: what an objective other than CLIP has to bring.

`python -m tests.toy_language_model key=value ...` is `medvlp train` with this objective registered.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from medvlp import builders
from medvlp.config import ModelConfig, ObjectiveConfig, TrainConfig, register
from medvlp.data.batch import Batch, sample_fields
from medvlp.data.pipeline import BatchPipeline
from medvlp.shards import BadSample, Conversation, Sample, Turn
from medvlp.train import main
from medvlp.training.module import Objective, TrainingModule

END, IGNORED = 256, -100


@dataclass(kw_only=True)
class ToyModelConfig(ModelConfig):
    """A byte-level recurrent model."""

    kind: str = "toy"
    width: int = 16
    """Width of its state."""


@dataclass(kw_only=True)
class CausalConfig(ObjectiveConfig):
    """Next-token prediction of the assistant's turns."""

    kind: str = "toy_causal"


class ToyModel(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(END + 1, width)
        self.body = nn.GRU(width, width, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width, END + 1)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        return self.head(self.drop(self.body(self.embed(tokens_BL))[0]))


@dataclass(kw_only=True)
class CausalBatch(Batch):
    """Bytes of conversations, and which of them are predicted."""

    tokens_BL: Tensor
    targets_BL: Tensor


class Causal(TrainingModule):
    def loss(self, batch: CausalBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        logits_BLV = self.model(batch.tokens_BL[:, :-1])
        loss = cross_entropy(logits_BLV.flatten(0, 1), batch.targets_BL[:, 1:].flatten(), ignore_index=IGNORED)
        return loss, {"supervised": float((batch.targets_BL != IGNORED).sum())}


class CausalPipeline(BatchPipeline):
    def prepare(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        tokens: list[int] = []
        targets: list[int] = []
        for turn in (turn for conversation in sample.conversations for turn in conversation.turns):
            ids = [*turn.text.encode(), END]
            tokens += ids
            targets += ids if turn.role == "assistant" else [IGNORED] * len(ids)
        if not any(target != IGNORED for target in targets):
            raise BadSample("nothing_supervised", key=sample.key, detail="no assistant turn")
        return {"tokens_L": torch.tensor(tokens), "targets_L": torch.tensor(targets)}

    def collate(self, units: list[dict[str, Any]]) -> CausalBatch:
        items = [item for unit in units for item in unit["items"]]
        tokens_BL = pad_sequence([item["tokens_L"] for item in items], True, END)
        targets_BL = pad_sequence([item["targets_L"] for item in items], True, IGNORED)
        return CausalBatch(**sample_fields(units), tokens_BL=tokens_BL, targets_BL=targets_BL)


def toy(config: TrainConfig) -> Objective:
    assert isinstance(config.model, ToyModelConfig)
    parts = {"embed": ("embed",), "body": ("body",), "head": ("head",)}
    model = ToyModel(config.model.width)
    module = Causal(model, parts, builders.optimizer_settings(config.optim), config.seed)
    return Objective(module, CausalPipeline())


def conversations(count: int) -> list[Sample]:
    """Text-only samples: a question and its answer."""
    return [
        Sample(
            key=f"toy__c{number:04d}__0__0",
            conversations=[
                Conversation(
                    turns=[
                        Turn("user", f"How many lesions are in region {number % 5}?"),
                        Turn("assistant", f"There are {number % 3}."),
                    ],
                    id=str(number),
                )
            ],
            metadata={"source": "toy", "licence": "CC0-1.0", "group": str(number)},
        )
        for number in range(count)
    ]


def register_toy() -> None:
    register("model", "toy", ToyModelConfig)
    register("objective", "toy_causal", CausalConfig)
    builders.OBJECTIVES["toy_causal"] = toy


def train_toy(words: list[str]) -> int:
    """`medvlp train`, where the toy is known."""
    register_toy()
    return main(words)
