"""Contrastive training of a CLIP model. B: this rank's pairs; S: image side; L: tokens."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvlp.data.pairs import PairBatch
from medvlp.losses import ContrastiveLoss
from medvlp.models.parts import CLIP_PARTS
from medvlp.training.module import OptimizerSettings, TrainingModule


def at_least_single(values: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


class Contrastive(TrainingModule):
    """A contrastive loss over the global batch, for open_clip's models.

    Args:
        model: CLIP or CustomTextCLIP.
        loss_function: of features and the logit scale.
        mean, std: channel statistics on the 0–1 scale, applied on the device: uint8 crosses to it, a quarter of float.
        max_logit_scale: the logit scale is held at or below this (CLIP: 100, "to prevent training instability").
        same_text: what pairs with identical texts are to each other: see `InfoNCE`; "apart": the order keeps them out of
            each other's batches, and those that it cannot keep apart are masked.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        loss_function: ContrastiveLoss,
        settings: OptimizerSettings,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        max_logit_scale: float,
        same_text: str,
    ) -> None:
        super().__init__(model, CLIP_PARTS, settings, seed)
        if getattr(model, "logit_bias", None) is not None:
            model.logit_bias.requires_grad_(False)  # the sigmoid loss learns it; a softmax does not see it
        self.loss_function, self.max_log_scale, self.same_text = loss_function, math.log(max_logit_scale), same_text
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        images_BCHW = (batch.images_BCHW.to(self.mean.dtype) / 255 - self.mean) / self.std
        # convolutions run channels-last about 1.5 times as fast; the rest does not mind
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        image_BD = self.model.encode_image(images_BCHW)  # type: ignore[operator]
        text_BD = self.model.encode_text(batch.tokens_BL)  # type: ignore[operator]
        with torch.autocast(images_BCHW.device.type, enabled=False):  # the towers may run in half precision, logits not
            image_BD, text_BD = (normalize(at_least_single(features_BD), dim=-1) for features_BD in (image_BD, text_BD))
            logit_scale = at_least_single(self.model.logit_scale).exp()  # type: ignore[arg-type]
            same_text = "masked" if self.same_text == "apart" else self.same_text
            class_ids_B = batch.class_ids_B
            loss = self.loss_function(image_BD, text_BD, logit_scale, batch.text_ids_B, same_text, class_ids_B)
        values: dict[str, Tensor | float] = {"logit_scale": logit_scale.detach()}
        if class_ids_B is not None:  # this rank's, so that a key that joins nothing is seen
            values["positives"] = float((class_ids_B[:, None] == class_ids_B).sum()) / len(class_ids_B) - 1
        return loss, values

    @torch.no_grad()
    def constrain(self) -> None:
        self.model.logit_scale.clamp_(max=self.max_log_scale)  # type: ignore[operator]
