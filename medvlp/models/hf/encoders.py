"""CLIP-like models of transformers: unit vectors of images and texts by `get_image_features` and `get_text_features`.

B: batch; P: patches; C, H, W: of pixels; D: shared width; L: tokens.
"""

import inspect
import json
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from medvlp.models.hf.loading import execution_of
from medvlp.models.weights import WeightsError

FIXED_LENGTH = ("siglip", "siglip2", "align")
"""Families that were trained on texts of one length, filled up to it; the text's vector is that of the last token, or is
pooled over all."""
PATCHED = ("pixel_attention_mask", "spatial_shapes")
"""What processors say of images that are laid out as a row of patches."""


class HfEncoder:
    """What evaluators need of a CLIP-like model: unit vectors in float32, on the CPU.

    Args:
        model: of transformers, in evaluation mode.
        image_processor, tokenizer: its own.
        identity: hash of weights, preprocessing and tokenizer.
        options: what else decides the last bits, such as four-bit weights; "" for nothing.
    Raises:
        WeightsError: features that are not one vector an image and one a text, of equal width.
    """

    def __init__(self, model: Any, image_processor: Any, tokenizer: Any, identity: str, options: str = "") -> None:
        self.model, self.image_processor, self.tokenizer = model, image_processor, tokenizer
        self.identity = identity
        self.transform_identity = json.dumps(image_processor.to_dict(), sort_keys=True, default=str)
        self.execution = execution_of(model, options)
        text = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
        family = model.config.model_type
        limits = [getattr(text, "max_position_embeddings", None), tokenizer.model_max_length]
        self.length = min(int(limit) for limit in limits if limit)
        self.padding: str | bool = "max_length" if family in FIXED_LENGTH else True
        self.text_inputs = set(inspect.signature(model.get_text_features).parameters)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._check()

    def transform(self, image: Image.Image) -> Tensor:
        """(C, H, W), or (P, values of a patch + 3) of an image that is laid out as patches: the pixels, whether it is one,
        and the rows and columns of the whole."""
        inputs = self.image_processor(image, return_tensors="pt")
        pixels = inputs["pixel_values"][0]
        if PATCHED[1] not in inputs:
            return pixels
        mask_P1 = inputs[PATCHED[0]][0][:, None].to(pixels)
        shape_P2 = inputs[PATCHED[1]][0].to(pixels).expand(len(pixels), 2)
        return torch.cat([pixels, mask_P1, shape_P2], dim=1)

    @torch.no_grad()
    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Images that `transform` made → (B, D)."""
        inputs = {"pixel_values": pixels_BCHW}
        if pixels_BCHW.ndim == 3:
            inputs = {
                "pixel_values": pixels_BCHW[..., :-3],
                PATCHED[0]: pixels_BCHW[..., -3].round().int(),
                PATCHED[1]: pixels_BCHW[:, 0, -2:].round().long(),
            }
        return self._unit(self.model.get_image_features(**self._moved(inputs)))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts → (B, D). What is longer than the model reads is cut off."""
        tokens = self.tokenizer(
            list(texts), padding=self.padding, truncation=True, max_length=self.length, return_tensors="pt"
        )
        inputs = {name: value for name, value in tokens.items() if name in self.text_inputs}
        return self._unit(self.model.get_text_features(**self._moved(inputs)))

    def _moved(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        dtype = self.model.dtype
        return {
            name: value.to(self.model.device, dtype if value.is_floating_point() else None)
            for name, value in inputs.items()
        }

    def _unit(self, features: Any) -> Tensor:
        vectors_BD = features if isinstance(features, Tensor) else features.pooler_output
        return normalize(vectors_BD.float(), dim=-1).cpu()

    def _check(self) -> None:
        blank = self.transform(Image.new("RGB", (32, 24)))
        vectors = (self.encode_image(blank[None]), self.encode_text(["a"]))
        shapes = [tuple(vector.shape) for vector in vectors]
        if shapes[0] != shapes[1] or len(shapes[0]) != 2:
            raise WeightsError(
                f"a {self.model.config.model_type} gives features of the shapes {shapes} for an image and a text; expected one "
                "vector each, of equal width"
            )
