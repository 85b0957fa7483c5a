"""Supervised classification of images. B: this rank's samples; C: classes of a head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from medvlp.data.classification import LabelledBatch
from medvlp.losses.classification import multi_label_loss, single_label_loss
from medvlp.models.classifier.model import PARTS, ImageClassifier
from medvlp.training.module import OptimizerSettings, TrainingModule


@dataclass(frozen=True)
class HeadLoss:
    """The loss of a head. multi_label: a sample may have several labels. weight: in the sum over heads."""

    multi_label: bool
    label_smoothing: float = 0.0
    weight: float = 1.0


class Classification(TrainingModule):
    """The weighted sum of the heads' losses, each the mean over all labels of the step, whichever rank has them.

    Args:
        model: the classifier.
        heads: the loss of each head.
        mean, std: channel statistics on the 0–1 scale, applied on the device.
        fixed_batch_norm: batch norm stays in evaluation mode: its weights learn, its statistics stay.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: ImageClassifier,
        heads: Mapping[str, HeadLoss],
        settings: OptimizerSettings,
        seed: int,
        mean: Sequence[float],
        std: Sequence[float],
        fixed_batch_norm: bool = False,
    ) -> None:
        self.fixed_batch_norm = fixed_batch_norm
        super().__init__(model, PARTS, settings, seed)
        self.heads = dict(heads)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Classification":
        super().train(mode)
        if self.fixed_batch_norm:
            for layer in self.model.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self

    def loss(self, batch: LabelledBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        images_BCHW = (batch.images_BCHW.to(self.mean.dtype) / 255 - self.mean) / self.std
        logits: dict[str, Tensor] = self.model(images_BCHW.contiguous(memory_format=torch.channels_last))
        trainer: Any = self.trainer
        batches = trainer.world_size * trainer.accumulate_grad_batches
        with torch.autocast(images_BCHW.device.type, enabled=False):
            losses = {
                name: self.head_loss(name, logits_BC, batch) * (batches / batch.totals[name])
                for name, logits_BC in logits.items()
            }
        loss = torch.stack([head.weight * losses[name] for name, head in self.heads.items()]).sum()
        values = {f"loss_{name}": value.detach() for name, value in losses.items()} if len(losses) > 1 else {}
        return loss, {**values}

    def head_loss(self, name: str, logits_BC: Tensor, batch: LabelledBatch) -> Tensor:
        """Of one head, summed over this batch's labels."""
        head, weights_C = self.heads[name], batch.weights.get(name)
        if logits_BC.dtype in (torch.float16, torch.bfloat16):
            logits_BC = logits_BC.float()
        weights_C = None if weights_C is None else weights_C.to(logits_BC.dtype)
        function = multi_label_loss if head.multi_label else single_label_loss
        return function(logits_BC, batch.targets[name], weights_C, head.label_smoothing)
