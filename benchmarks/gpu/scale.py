"""Sizes of what runs: of one GPU within minutes, and tiny ones that run every line on a CPU. Models have random weights."""

import tempfile
from dataclasses import dataclass
from functools import cache
from typing import Any

import open_clip
import torch
from torch import Tensor, nn
from transformers import BertConfig

from medvlp.data.pairs import PairBatch
from medvlp.losses import contrastive_loss
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.contrastive import Contrastive

PAD_ID = 0


@dataclass(frozen=True)
class Scale:
    """Sizes of every part.

    vision: open_clip's description of the image tower. text: of transformers' BERT. width: of the shared space. contexts:
    tokens of a text. pairs: of a step in one graph. part, cached_pairs: of a step in parts. loss_pairs: of a loss alone.
    language: of transformers' Qwen2. image_tokens, questions, images: of a packed batch; words: of a question. rounds: timed
    steps. matrix: rows of a square product. copied: bytes.
    """

    vision: dict[str, Any]
    text: dict[str, Any]
    width: int
    contexts: tuple[int, int]
    pairs: int
    part: int
    cached_pairs: int
    loss_pairs: tuple[int, int]
    language: dict[str, Any]
    image_tokens: int
    questions: int
    images: int
    words: int
    rounds: int
    matrix: int
    copied: int


FULL = Scale(
    vision={"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    text={},  # BertConfig's own defaults are BERT-base's
    width=512,
    contexts=(77, 256),
    pairs=256,
    part=256,
    cached_pairs=4096,
    loss_pairs=(8192, 32768),
    language={
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 32000,
    },
    image_tokens=576,
    questions=4,
    images=16,
    words=24,
    rounds=10,
    matrix=8192,
    copied=2**32,
)
"""ViT-B/16 with BERT-base, and a language model of the shape of Qwen2-0.5B with fewer words."""
TINY = Scale(
    vision={"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    text={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 128,
    },
    width=16,
    contexts=(12, 24),
    pairs=16,
    part=8,
    cached_pairs=32,
    loss_pairs=(64, 128),
    language={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 128,
    },
    image_tokens=4,
    questions=3,
    images=3,
    words=5,
    rounds=2,
    matrix=64,
    copied=2**16,
)


def clip_model(scale: Scale, context: int, dropout: float = 0.0) -> nn.Module:
    """open_clip's CustomTextCLIP over transformers' BERT, the same weights every time; on the CPU in float32."""
    torch.manual_seed(0)
    text = {
        "hf_model_name": _text_folder(tuple(scale.text.items()), dropout),
        "hf_model_pretrained": False,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": context,
    }
    vision = {**scale.vision, "patch_dropout": 0.5 if dropout else 0.0}
    model: nn.Module = open_clip.CustomTextCLIP(scale.width, vision, text, output_dict=True)
    return model


@cache
def _text_folder(sizes: tuple[tuple[str, int], ...], dropout: float) -> str:
    folder = tempfile.mkdtemp(prefix="medvlp-gpu-")
    probabilities = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 0.0}
    BertConfig(**dict(sizes), **probabilities).save_pretrained(folder)
    return folder


def training(model: nn.Module, loss: str = "info_nce") -> Contrastive:
    """The contrastive objective of a model."""
    settings = OptimizerSettings(1e-4, 0.1, (0.9, 0.98), 1e-6, "constant", 0, 1.0)
    return Contrastive(model, contrastive_loss(loss, {}), settings, 0, [0.5] * 3, [0.25] * 3, 100.0, "negative")


def pair_batch(scale: Scale, pairs: int, context: int, shortest: int = 0, seed: int = 0) -> PairBatch:
    """Random images, and texts of `shortest` to `context` tokens; 0: all of the whole context."""
    generator = torch.Generator().manual_seed(seed)
    side = scale.vision["image_size"]
    images = torch.randint(0, 256, (pairs, 3, side, side), generator=generator, dtype=torch.uint8)
    vocabulary = scale.text.get("vocab_size", 30522)
    tokens = torch.randint(1, vocabulary, (pairs, context), generator=generator)
    if shortest:
        lengths_B = torch.randint(shortest, context + 1, (pairs,), generator=generator)
        tokens[torch.arange(context) >= lengths_B[:, None]] = PAD_ID
    keys = [str(position) for position in range(pairs)]
    return PairBatch(
        keys=keys,
        positions=list(range(pairs)),
        bad=[],
        images_BCHW=images,
        tokens_BL=tokens,
        text_ids_B=torch.arange(pairs),
    )


def distance(tensors: list[Tensor], expected: list[Tensor]) -> float:
    """Relative distance of all of these numbers from those."""
    pairs = [(a.double(), b.double()) for a, b in zip(tensors, expected, strict=True)]
    difference = sum(float((a - b).square().sum()) for a, b in pairs)
    return (difference / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5
