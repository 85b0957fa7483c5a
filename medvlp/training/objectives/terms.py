"""Losses that are added to a contrastive one, as terms of its training.

A term may give features of its own, which are computed with the towers', and is then a function of features, as the contrastive
loss is: so it takes part in steps that are computed in parts. Means are over the whole step, on all ranks.

B: this rank's pairs; L: tokens; P: tokens of an image; S: image side; D: shared width; C: classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medvlp.data.pairs import PairBatch
from medvlp.distributed import world_size
from medvlp.losses import Pairs
from medvlp.losses.captioning import Captioning
from medvlp.losses.classification import IGNORED, multi_label_loss, single_label_loss
from medvlp.losses.distillation import Distillation
from medvlp.losses.masked_language import MaskedLanguage
from medvlp.models.clip.fusion import FusionHead, at_least_single, caption_logits, unit_vectors
from medvlp.training.steps.grad_cache import Features


@dataclass(frozen=True)
class Encoded:
    """What the towers gave for a batch.

    image_BD, text_BD: unit vectors.
    image_BPD, states_BLD: tokens of images and states of texts, where a term reads them.
    """

    image_BD: Tensor
    text_BD: Tensor
    image_BPD: Tensor | None
    states_BLD: Tensor | None


class Term(nn.Module):
    """Base of the terms. Its parameters are trained and saved with the run, and are no part of the model.

    Args:
        weight: of the loss in the sum.
    """

    reads_states = False
    """Whether it needs the towers' tokens and states."""
    names: tuple[str, ...] = ()
    """Of its features, where these do not learn."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def encode(self, model: nn.Module, batch: PairBatch, encoded: Encoded) -> Features:
        """Features of its own: row i is sample i."""
        return {}

    def loss(self, features: Features, pairs: Pairs, batch: PairBatch) -> Tensor:
        """Scalar; its mean over ranks is the step's."""
        raise TypeError(f"{type(self).__name__} is a term without a loss")

    def direct_parameters(self) -> Sequence[nn.Parameter]:
        """Those that `loss` reads."""
        return []


def mean_over_step(sums: Tensor, count: Tensor) -> Tensor:
    """Sums of this rank over the count of all ranks, times the number of ranks: its mean over ranks is the mean."""
    total = count.detach().sum()
    if world_size() > 1:
        dist.all_reduce(total)
    return sums.sum() * world_size() / total.clamp(min=1e-12)


class CaptionTerm(Term):
    """A CoCa's captions: its decoder is part of the model."""

    reads_states = True

    def __init__(self, loss: Captioning, pad_id: int) -> None:
        super().__init__(loss.weight)
        self.function, self.pad_id = loss, pad_id

    def encode(self, model: nn.Module, batch: PairBatch, encoded: Encoded) -> Features:
        assert encoded.image_BPD is not None
        assert encoded.states_BLD is not None
        logits_BLV = at_least_single(caption_logits(model, encoded.image_BPD, encoded.states_BLD))
        loss_B, count_B = self.function.per_pair(logits_BLV, batch.tokens_BL[:, 1:], self.pad_id)
        return {"caption_loss_B": loss_B, "caption_tokens_B": count_B}

    def loss(self, features: Features, pairs: Pairs, batch: PairBatch) -> Tensor:
        return mean_over_step(features["caption_loss_B"], features["caption_tokens_B"])


class MaskedLanguageTerm(Term):
    """Masked words, told by a fusion module."""

    reads_states = True

    def __init__(self, loss: MaskedLanguage, fusion: FusionHead, pad_id: int) -> None:
        super().__init__(loss.weight)
        self.function, self.fusion, self.pad_id = loss, fusion, pad_id

    def encode(self, model: nn.Module, batch: PairBatch, encoded: Encoded) -> Features:
        tokens_BL, is_selected_BL = batch.masked_tokens_BL, batch.is_selected_BL
        assert encoded.states_BLD is not None
        assert tokens_BL is not None
        assert is_selected_BL is not None
        hidden_BLD = self.fusion(encoded.states_BLD, tokens_BL == self.pad_id, encoded.image_BD)
        weight_VD = self.fusion.vocabulary_proj
        loss_B, count_B = self.function.per_pair(hidden_BLD, weight_VD, batch.tokens_BL, is_selected_BL)
        return {"masked_language_loss_B": loss_B, "masked_tokens_B": count_B}

    def loss(self, features: Features, pairs: Pairs, batch: PairBatch) -> Tensor:
        return mean_over_step(features["masked_language_loss_B"], features["masked_tokens_B"])


class TeacherTerm(Term):
    """Distillation from a frozen model, which runs on the same crops and texts.

    Args:
        teacher: a CLIP model; neither trained nor saved.
        mean, std, size: its own channel statistics and image side.
    """

    names = ("teacher_image_BD", "teacher_text_BD")
    mean: Tensor
    std: Tensor

    def __init__(
        self, loss: Distillation, teacher: nn.Module, mean: Sequence[float], std: Sequence[float], size: int
    ) -> None:
        super().__init__(loss.weight)
        self.function, self.size = loss, size
        self.scale = float(at_least_single(teacher.logit_scale).detach().exp())  # type: ignore[arg-type]
        self.hidden = (teacher.eval().requires_grad_(False),)  # in a tuple, so that it is no submodule: nobody saves it
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def teacher(self) -> Any:
        """On the device of the batches."""
        return self.hidden[0].to(self.mean.device)

    @torch.no_grad()
    def encode(self, model: nn.Module, batch: PairBatch, encoded: Encoded) -> Features:
        if batch.teacher_image_BD is not None and batch.teacher_text_BD is not None:  # stored
            return {"teacher_image_BD": batch.teacher_image_BD, "teacher_text_BD": batch.teacher_text_BD}
        images_BCHW = batch.images_BCHW.to(self.mean.dtype)
        if images_BCHW.shape[-1] != self.size:
            images_BCHW = nn.functional.interpolate(images_BCHW, self.size, mode="bicubic", antialias=True).clamp(
                0, 255
            )
        teacher = self.teacher
        dtype = next(teacher.parameters()).dtype
        images_BCHW = ((images_BCHW / 255 - self.mean) / self.std).to(dtype, memory_format=torch.channels_last)
        return {
            "teacher_image_BD": unit_vectors(teacher.encode_image(images_BCHW)),
            "teacher_text_BD": unit_vectors(teacher.encode_text(batch.teacher_tokens_BL)),
        }

    def loss(self, features: Features, pairs: Pairs, batch: PairBatch) -> Tensor:
        image_BD, text_BD = (
            features[name].to(pairs.image_BD.dtype) for name in ("teacher_image_BD", "teacher_text_BD")
        )
        scale = image_BD.new_tensor(self.scale)
        teacher = Pairs(image_BD=image_BD.detach(), text_BD=text_BD.detach(), logit_scale=scale)
        return self.function(pairs, teacher)


class LabelTerm(Term):
    """A linear head of labels on the image's embedding; pairs without a label count nothing.

    Args:
        name: of the head, and of its targets in the batch.
        width: of the embedding.
        classes: how many.
        multi_label: a pair may have several labels.
        class_weights: one for each class, or none.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        name: str,
        width: int,
        classes: int,
        multi_label: bool,
        weight: float,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] = (),
    ) -> None:
        super().__init__(weight)
        self.name, self.multi_label, self.label_smoothing = name, multi_label, label_smoothing
        self.linear = nn.Linear(width, classes)
        weights = torch.tensor(class_weights) if class_weights else None
        self.register_buffer("class_weights", weights, persistent=False)

    def direct_parameters(self) -> Sequence[nn.Parameter]:
        return list(self.linear.parameters())

    def loss(self, features: Features, pairs: Pairs, batch: PairBatch) -> Tensor:
        assert batch.targets is not None
        target, weights_C = batch.targets[self.name], self.class_weights
        weight_CD, bias_C = self.linear.weight, self.linear.bias
        dtype = pairs.image_BD.dtype  # single at least, whatever the weights are kept in
        logits_BC = nn.functional.linear(pairs.image_BD, weight_CD.to(dtype), bias_C.to(dtype))
        weights_C = None if weights_C is None else weights_C.to(logits_BC.dtype)
        function = multi_label_loss if self.multi_label else single_label_loss
        if self.multi_label:
            count = (~target.isnan()).sum().to(logits_BC.dtype)
        elif weights_C is None:
            count = (target != IGNORED).sum().to(logits_BC.dtype)
        else:
            count = weights_C[target[target != IGNORED]].sum()
        return mean_over_step(function(logits_BC, target, weights_C, self.label_smoothing), count)
