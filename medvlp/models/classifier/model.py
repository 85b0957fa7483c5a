"""An image tower of transformers under linear heads.

B: batch; S: side of the image; D: width of the tower; C: classes of a head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.models.parts import Parts, freeze_unused
from medvlp.models.towers import described_tower
from medvlp.models.towers.tower import Tower, input_shape
from medvlp.models.weights import WeightsError

PARTS: Parts = {"vision": ("vision",), "head": ("head",)}
"""Of an `ImageClassifier`."""
TOKEN_TOWERS = ("clip_vision_model", "vit")
"""Model types with a class token."""


class ImageClassifier(nn.Module):
    """Pooled features of a tower, and the logits of all heads from one linear layer.

    Args:
        vision: CLIPVisionModel, SiglipVisionModel, ViTModel or TimmWrapperModel.
        pool: token, mean, or "" for the tower's own: the class token, timm's pooling, or the mean.
        classes: head → number of its classes.
    Raises:
        WeightsError: a pooling that the tower does not have.
    """

    def __init__(self, vision: Any, pool: str, classes: Mapping[str, int]) -> None:
        super().__init__()
        self.vision, self.pool, self.classes = vision, pool, dict(classes)
        kind = vision.config.model_type
        if pool == "token" and kind not in TOKEN_TOWERS:
            raise WeightsError(
                f"model.pool=token: a tower of type {kind} has no class token; use mean, or leave it empty"
            )
        vision.eval()  # so that statistics of batch norm do not see what follows
        pixels_BCHW = torch.zeros(1, *input_shape(vision.config), device=next(vision.parameters()).device)
        with torch.enable_grad():  # an evaluation loads it where gradients are off
            features_BD = self.features(pixels_BCHW)
            freeze_unused(vision, features_BD)
        self.width = features_BD.shape[1]
        self.head = nn.Linear(self.width, sum(self.classes.values()))

    def features(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, D) what the heads see."""
        vision, kind = self.vision, self.vision.config.model_type
        if kind == "timm_wrapper" and not self.pool:
            pooled_BD: Tensor = vision(pixels_BCHW, do_pooling=True).pooler_output
            return pooled_BD
        hidden: Tensor = vision(pixels_BCHW).last_hidden_state
        if kind == "timm_wrapper":
            return hidden.mean(dim=(2, 3))
        if kind == "clip_vision_model":
            hidden = vision.post_layernorm(hidden)  # of CLIP, which by itself applies it to the class token alone
        if kind in TOKEN_TOWERS:
            return hidden[:, 1:].mean(dim=1) if self.pool == "mean" else hidden[:, 0]
        return hidden.mean(dim=1)

    def logits(self, features_BD: Tensor) -> dict[str, Tensor]:
        """Head → (B, C)."""
        logits_BC = self.head(features_BD).split(list(self.classes.values()), dim=1)
        return dict(zip(self.classes, logits_BC, strict=True))

    def forward(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        """Head → logits (B, C)."""
        return self.logits(self.features(pixels_BCHW))


@dataclass
class Classifier:
    """A classifier with what belongs to it.

    model: the tower with its heads.
    processor: transformers' image processor, PIL images → {"pixel_values": (B, 3, S, S)}.
    heads: head → how its labels are read, as plain values; `classes` are its outputs in order.
    names: where the tower came from, with the hash of its weights: {"tower": {"name", "sha256"}}.
    """

    model: ImageClassifier
    processor: Any
    heads: dict[str, dict[str, Any]]
    names: dict[str, dict[str, str]]

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        return int(input_shape(self.model.vision.config)[-1])

    def tower(self, feature_layer: int = -2, name: str = "classifier") -> Tower:
        """The image tower as an assistant takes it.

        Raises:
            WeightsError: it has no such hidden state.
        """
        vision = self.model.vision
        return described_tower(vision.config, vision, self.processor, feature_layer, name)


def assemble(tower: Tower, pool: str, heads: Mapping[str, dict[str, Any]]) -> Classifier:
    """A tower under fresh heads. Raises WeightsError: a pooling that the tower does not have."""
    classes = {name: len(head["classes"]) for name, head in heads.items()}
    model = ImageClassifier(tower.model, pool, classes)
    return Classifier(model, tower.processor, dict(heads), {"tower": tower.identity})
