"""Three ways to train an assistant on the same questions, for `instruct_packing`. P: tokens an image; D: width."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling

from medvlp.data.chat.encoder import ChatEncoder, Encoded
from medvlp.data.chat.examples import Examples
from medvlp.data.chat.lengths import Lengths, measure_lengths
from medvlp.data.chat.pack_plan import PackPlan
from medvlp.data.chat.packing import CollateConversations, PrepareConversations
from medvlp.data.dataset import RequestedSamples
from medvlp.data.order import Order, OrderedSource
from medvlp.data.plan import Pack, Request
from medvlp.shards import Sample
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.instruction import Instruction

MAX_LENGTH = 1024
"""Tokens of a packed row: one image at 576 tokens. In longer rows fewer positions are padding, but attention, which
computes what the mask hides, costs a small model more than that saves."""
BATCH = {"padded": 8, "sequence": 32, "tree": 8}
"""Questions of a batch; images of a tree's."""
WIDTH, LAYERS, HEADS, FEED_FORWARD, VOCABULARY = 256, 4, 4, 688, 3280


@dataclass
class Questions:
    """Samples in memory, where `Examples` and `RequestedSamples` expect shards."""

    samples: list[Sample]
    manifest_hash: str = "in memory"
    shards_hash: str = "in memory"

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, i: int) -> Sample:
        return self.samples[i]

    def key(self, i: int) -> str:
        return self.samples[i].key

    def locate(self, i: int) -> tuple[str, int]:
        return "", i


def features(sample: Sample, image_tokens: int) -> Tensor:
    """(1, P, D): a stub of what a vision tower says of the sample's image."""
    generator = torch.Generator().manual_seed(zlib.crc32(str(sample.metadata["image_id"]).encode()))
    return torch.randn(1, image_tokens, WIDTH, generator=generator)


def packs(dataset: Questions, lengths: Lengths, encoder: ChatEncoder, way: str) -> tuple[Examples, list[list[Pack]]]:
    """An epoch in batches of rows, each row a pack of examples; the plan of a training run."""
    examples = Examples(dataset, lengths, encoder, MAX_LENGTH, grouped=way == "tree")  # type: ignore[arg-type]
    order = Order([OrderedSource("", len(examples), 1.0, examples.manifest_hash)], seed=0)
    plan = PackPlan(order, [examples], MAX_LENGTH, packed=True, weighting="token")
    steps = np.split(order.epoch(0), range(BATCH[way], len(examples), BATCH[way]))
    return examples, [[tuple(int(step[p]) for p in pack) for pack in plan.divide(step, 1)[0]] for step in steps]


def padded_batches(questions: int) -> list[list[int]]:
    """Questions in random order."""
    shuffled = np.random.default_rng(0).permutation(questions)
    return [batch.tolist() for batch in np.split(shuffled, range(BATCH["padded"], questions, BATCH["padded"]))]


class Given(nn.Module):
    """In the vision tower's place: takes features for pixels."""

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutputWithPooling:
        return BaseModelOutputWithPooling(last_hidden_state=pixel_values, hidden_states=(pixel_values,))


def assistant(image_id: int) -> Any:
    """A small Llava of random weights."""
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=FEED_FORWARD,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        tie_word_embeddings=True,
    )
    vision = CLIPVisionConfig(hidden_size=WIDTH, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    model: Any = LlavaForConditionalGeneration(config)
    model.model.vision_tower = Given()
    return model


Batches = list[Callable[[], Tensor]]
"""Each collates a batch and gives its part of the mean loss over all supervised tokens."""


def padded(model: Any, collate: Any, items: list[tuple[Encoded, Tensor]], narrow_V: Tensor) -> Batches:
    """transformers' own way; Trainer, too, divides by the supervised tokens of a whole step."""
    rows = [{"input_ids": e.ids.tolist(), "labels": np.where(e.supervised, e.ids, -100).tolist()} for e, _ in items]
    total = sum(int(encoded.supervised.sum()) for encoded, _ in items)

    def loss(indices: list[int]) -> Tensor:
        batch = collate([rows[i] for i in indices])
        labels = torch.where(batch["labels"] < 0, -100, narrow_V[batch["labels"]])
        return model(
            input_ids=narrow_V[batch["input_ids"]],
            attention_mask=batch["attention_mask"],
            pixel_values=torch.cat([items[i][1] for i in indices]),
            labels=labels,
            num_items_in_batch=total,
        ).loss

    return [lambda indices=indices: loss(indices) for indices in padded_batches(len(items))]  # type: ignore[misc]


def packed(
    module: Instruction, collate: CollateConversations, units: list[list[dict[str, Any]]], narrow_V: Tensor
) -> Batches:
    """medvlp's way."""

    def loss(rows: list[dict[str, Any]]) -> Tensor:
        batch = collate(rows)
        return module.loss(replace(batch, ids_RL=narrow_V[batch.ids_RL], targets_T=narrow_V[batch.targets_T]))[0]

    return [lambda rows=rows: loss(rows) for rows in units]  # type: ignore[misc]


def train(model: nn.Module, batches: Batches) -> float:
    """Forward and backward of all batches; the mean loss."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = batch()
        loss.backward()
        total += loss.item()
    return total


def ways(dataset: Questions, tokenizer: Any, encoder: ChatEncoder) -> tuple[Any, dict[str, Batches], int]:
    """The model, three ways to train it on all questions of the dataset, and how many these are."""
    lengths = measure_lengths(dataset, encoder, MAX_LENGTH, "split")  # type: ignore[arg-type]
    prepare = PrepareConversations(encoder, lambda sample: features(sample, encoder.image_tokens))
    prepared = [prepare(sample, 0, np.random.default_rng(0)) for sample in dataset.samples]
    items = [(encoded, item["images"]) for item in prepared for encoded in item["conversations"]]
    occurring = np.unique(np.concatenate([[encoder.image_id, tokenizer.pad_token_id], *(e.ids for e, _ in items)]))
    narrow_V = torch.zeros(len(tokenizer), dtype=torch.int64)
    narrow_V[occurring] = torch.arange(len(occurring))
    model = assistant(int(narrow_V[encoder.image_id]))
    parts = {"projector": ("model.multi_modal_projector",), "language": ("model.language_model", "lm_head")}
    settings = OptimizerSettings(1e-3, 0.0, (0.9, 0.999), 1e-8, "constant", 0, 1.0)
    module = Instruction(model, parts, settings, 0, (1, encoder.image_tokens, WIDTH))
    module.trainer = pl.Trainer(accelerator="cpu", devices=1, barebones=True)
    batches_of_way = {"padded": padded(model, DataCollatorForSeq2Seq(tokenizer), items, narrow_V)}
    for way in ("sequence", "tree"):
        examples, batches = packs(dataset, lengths, encoder, way)
        read, total = RequestedSamples([("", examples)], prepare, 0), float(lengths.supervised.sum())
        units = [[read[Request(0, pack, pack, total)] for pack in batch] for batch in batches]
        collate = CollateConversations(
            tokenizer.pad_token_id, encoder.image_id, encoder.image_tokens, way == "tree", "token"
        )
        batches_of_way[way] = packed(module, collate, units, narrow_V)
    return model, batches_of_way, len(items)
