"""Encoders of texts of transformers, as sentence-transformers publishes them: unit vectors pooled from the last layer's tokens.

B: batch; L: tokens; D: width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from medvlp.models.hf.folders import MODULES, POOLING, read_json
from medvlp.models.hf.loading import execution_of
from medvlp.models.weights import WeightsError

LENGTH = "sentence_bert_config.json"
MEAN, FIRST = "mean", "cls"
MODULE_TYPES = ("Transformer", "Pooling", "Normalize")
"""Of sentence-transformers' modules, those that are understood."""


def pooling_of(folder: Path, reference: str) -> str:
    """`mean` or `cls`, as the folder's pooling says; `mean` of a folder that is not sentence-transformers'.

    Raises:
        WeightsError: further layers, another pooling, or a folder that has modules and not the file of their pooling.
    """
    if not (folder / MODULES).is_file():
        return MEAN
    text = (folder / MODULES).read_text("utf-8", errors="replace")
    other_types = [
        name for name in ("Dense", "LayerNorm", "CNN", "LSTM", "WeightedLayerPooling") if f'.{name}"' in text
    ]
    if other_types:
        raise WeightsError(
            f"hf:{reference}: {MODULES} has a layer of type {other_types[0]} behind the encoder; {', '.join(MODULE_TYPES)} are "
            f"understood"
        )
    if not (folder / POOLING).is_file():
        raise WeightsError(
            f"hf:{reference} has {MODULES} and no {POOLING}, which says how a text's vector is made; have the whole repository "
            f"in a folder (hf download {reference} --local-dir <folder>) and name the model hf:<folder>"
        )
    modes = {
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, value in read_json(folder / POOLING).items()
        if name.startswith("pooling_mode_") and value
    }
    if modes not in ({MEAN}, {FIRST}):
        raise WeightsError(f"hf:{reference}: {POOLING} asks for {sorted(modes)}, expected mean or cls alone")
    return modes.pop()


class TextEncoder:
    """What evaluators need of an encoder of texts: unit vectors in float32, on the CPU. It has none of images.

    Args:
        model: of transformers, in evaluation mode.
        tokenizer: its own.
        pooling: mean (over a text's tokens) or cls (the first one's).
        longest: tokens of a text at most; what is longer is cut off. None: as the model and its tokenizer say.
        identity: hash of weights, configuration and tokenizer.
        options: what else decides the last bits, such as four-bit weights; "" for nothing.
    """

    transform_identity = ""

    def __init__(
        self, model: Any, tokenizer: Any, pooling: str, longest: int | None, identity: str, options: str = ""
    ) -> None:
        self.model, self.tokenizer, self.pooling, self.identity = model, tokenizer, pooling, identity
        self.execution = execution_of(model, " ".join(filter(None, (f"{pooling} pooling", options))))
        limits = [longest, getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
        self.length = min(int(limit) for limit in limits if limit)

    @classmethod
    def of_folder(
        cls, model: Any, tokenizer: Any, folder: Path, reference: str, identity: str, options: str = ""
    ) -> "TextEncoder":
        """With the pooling and the length that a folder states. Raises WeightsError."""
        longest = read_json(folder / LENGTH).get("max_seq_length") if (folder / LENGTH).is_file() else None
        return cls(model, tokenizer, pooling_of(folder, reference), longest, identity, options)

    def transform(self, image: Image.Image) -> Tensor:
        """Never called: it is no encoder of images."""
        raise NotImplementedError

    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Never called: it is no encoder of images."""
        raise NotImplementedError

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts → (B, D)."""
        inputs = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.length, return_tensors="pt"
        ).to(self.model.device)
        tokens_BLD = self.model(**inputs).last_hidden_state.float()
        mask_BL1 = inputs["attention_mask"][..., None].to(tokens_BLD)
        if self.pooling == FIRST:
            vectors_BD = tokens_BLD[:, 0]
        else:
            vectors_BD = (tokens_BLD * mask_BL1).sum(dim=1) / mask_BL1.sum(dim=1).clamp(min=1e-9)
        return normalize(vectors_BD, dim=-1).cpu()
