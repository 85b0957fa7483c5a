"""CLIP's objective on the training service. B: this rank's pairs; S: image side; L: tokens."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvlp.losses.contrastive import info_nce
from medvlp.models.parts import CLIP_PARTS
from medvlp.training.service import Optimisation, Training


class Contrastive(Training):
    """InfoNCE over the global batch, for open_clip's models.

    Args:
        model: CLIP or CustomTextCLIP.
        mean, std: channel statistics on the 0–1 scale, applied on the device: uint8 crosses to it, a quarter of float.
        max_logit_scale: the logit scale is held at or below this (CLIP: 100, "to prevent training instability").
        same_text: what pairs with identical texts are to each other; see `info_nce`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimisation: Optimisation,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        max_logit_scale: float,
        same_text: str,
    ) -> None:
        super().__init__(model, CLIP_PARTS, optimisation, seed)
        self.max_log_scale, self.same_text = math.log(max_logit_scale), same_text
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def loss(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor | float]]:
        images_BCHW = (batch["images"].to(self.mean.dtype) / 255 - self.mean) / self.std
        # convolutions run channels-last about 1.5 times as fast; the rest does not mind
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        image_BD = normalize(self.model.encode_image(images_BCHW), dim=-1)  # type: ignore[operator]
        text_BD = normalize(self.model.encode_text(batch["tokens"]), dim=-1)  # type: ignore[operator]
        logit_scale = self.model.logit_scale.exp()  # type: ignore[operator]
        loss = info_nce(image_BD, text_BD, logit_scale, batch["text_ids"], self.same_text)
        return loss, {"logit_scale": logit_scale.detach()}

    @torch.no_grad()
    def constrain(self) -> None:
        self.model.logit_scale.clamp_(max=self.max_log_scale)  # type: ignore[operator]
