"""A causal language model over conversations on the same service: what an objective other than CLIP has to bring.

`python -m tests.toy_language_model key=value ...` is `medvlp train` with this objective registered.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from medvlp import builders
from medvlp.config import ModelConfig, ObjectiveConfig, TrainConfig, register
from medvlp.data.batch import Batch, sample_fields
from medvlp.shards import BadSample, Conversation, Sample, Turn
from medvlp.train import main
from medvlp.training.module import Training

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


class Causal(Training):
    def loss(self, batch: CausalBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        logits_BLV = self.model(batch.tokens_BL[:, :-1])
        loss = cross_entropy(logits_BLV.flatten(0, 1), batch.targets_BL[:, 1:].flatten(), ignore_index=IGNORED)
        return loss, {"supervised": float((batch.targets_BL != IGNORED).sum())}


def prepare(sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
    tokens: list[int] = []
    targets: list[int] = []
    for turn in (turn for conversation in sample.conversations for turn in conversation.turns):
        ids = [*turn.text.encode(), END]
        tokens += ids
        targets += ids if turn.role == "assistant" else [IGNORED] * len(ids)
    if not any(target != IGNORED for target in targets):
        raise BadSample("nothing_supervised", key=sample.key, detail="no assistant turn")
    return {"tokens": tokens, "targets": targets}


def collate(units: list[dict[str, Any]]) -> CausalBatch:
    items = [item for unit in units for item in unit["items"]]
    longest = max(len(item["tokens"]) for item in items)
    padded = {
        name: torch.tensor([item[name] + [filler] * (longest - len(item[name])) for item in items])
        for name, filler in (("tokens", END), ("targets", IGNORED))
    }
    return CausalBatch(**sample_fields(units), tokens_BL=padded["tokens"], targets_BL=padded["targets"])


def toy(config: TrainConfig) -> builders.Experiment:
    assert isinstance(config.model, ToyModelConfig)
    parts = {"embed": ("embed",), "body": ("body",), "head": ("head",)}
    model = ToyModel(config.model.width)
    module = Causal(model, parts, builders.build_optimisation(config.optim), config.seed)
    return builders.Experiment(module, prepare, collate)


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


if __name__ == "__main__":
    register_toy()
    sys.exit(main())
