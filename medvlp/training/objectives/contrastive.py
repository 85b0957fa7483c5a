"""Contrastive training of a CLIP model. B: this rank's pairs; S: image side; L: tokens."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.data.pairs import PairBatch
from medvlp.losses import ContrastiveLoss, Pairs
from medvlp.models.clip.fusion import at_least_single, image_states, text_states, unit_vectors
from medvlp.models.clip.image_pool import NAME as POOL
from medvlp.models.clip.image_pool import ImagePool
from medvlp.models.parts import CLIP_PARTS, part_of
from medvlp.training.module import LOSSES_B, OptimizerSettings, TrainingModule
from medvlp.training.objectives.terms import Encoded, Term
from medvlp.training.steps.grad_cache import Features


def padded(ids: Sequence[Sequence[int]]) -> Tensor:
    """(B, K) int64, filled with -1."""
    width = max(map(len, ids))
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in ids])


def mean_joined(ids: Sequence[Sequence[int]]) -> float:
    """How many others a pair has an id in common with, on average."""
    members: dict[int, set[int]] = {}
    for number, row in enumerate(ids):
        for item in row:
            members.setdefault(item, set()).add(number)
    return sum(len(set().union(*(members[item] for item in row))) - 1 for row in ids) / len(ids)


class Contrastive(TrainingModule):
    """A contrastive loss over the global batch, for open_clip's models.

    Args:
        model: CLIP or CustomTextCLIP.
        loss_function: of features and the logit scale.
        mean, std: channel statistics on the 0–1 scale, applied on the device: uint8 crosses to it, a quarter of float.
        max_logit_scale: the logit scale is held at or below this (CLIP: 100, "to prevent training instability").
        same_text: what pairs with identical texts are to each other: see `objective.same_text`; "apart": the order keeps
            them out of each other's batches, and those that it cannot keep apart are masked.
        positives_as: what pairs that `objective.positives` joins are to each other.
        terms: losses that are added, by name.
        weight: of the contrastive loss in the sum.
        image_head: from cached features of the frozen tower to embeddings.
        image_pool: of samples of several images; None: each has one.
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
        positives_as: str = "target",
        terms: Mapping[str, Term] | None = None,
        weight: float = 1.0,
        image_head: Callable[[Tensor], Tensor] = nn.Identity(),  # noqa: B008  it holds nothing
        image_pool: ImagePool | None = None,
    ) -> None:
        super().__init__(model, CLIP_PARTS, settings, seed)
        if getattr(model, "logit_bias", None) is not None and not loss_function.learns_bias:
            model.logit_bias.requires_grad_(False)  # a softmax does not see it
        self.loss_function, self.max_log_scale = loss_function, math.log(max_logit_scale)
        self.same_text, self.positives_as = "masked" if same_text == "apart" else same_text, positives_as
        self.image_head: Callable[[Tensor], Tensor] = lambda features_BF: image_head(features_BF)
        self.auxiliary.update(terms or {})
        if image_pool is not None:
            self.auxiliary[POOL] = image_pool
        self.weight = weight
        self.reads_states = any(term.reads_states for term in self.terms.values())
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @property
    def terms(self) -> dict[str, Term]:
        """Losses that are added, by name."""
        return {name: term for name, term in self.auxiliary.items() if isinstance(term, Term)}

    @property
    def image_pool(self) -> ImagePool | None:
        """Of samples of several images; None: each has one."""
        return next((module for module in self.auxiliary.values() if isinstance(module, ImagePool)), None)

    def described(self) -> dict[str, Any]:
        return {} if self.image_pool is None else {POOL: self.image_pool.described()}

    def encode(self, batch: PairBatch, encoded: Mapping[str, Tensor] | None = None) -> Features:
        """image_BD, text_BD: unit vectors, and what the terms add.

        encoded: the first pass's, of which what does not learn is not computed again.
        """
        image_BPD = states_BLD = None
        if encoded is None or self.reads_states or self.learns("vision") or self.pool_learns:
            image_BD, image_BPD = self.image_features(batch)
        else:
            image_BD = encoded["image_BD"]
        if encoded is None or self.reads_states or self.learns("text"):
            text_BD, states_BLD = self.text_features(batch)
        else:
            text_BD = encoded["text_BD"]
        features = {"image_BD": image_BD, "text_BD": text_BD}
        towers = Encoded(image_BD, text_BD, image_BPD, states_BLD)
        for term in self.terms.values():
            if encoded is not None and not term.reads_states:
                features |= {name: value for name, value in encoded.items() if name in term.names}
            else:
                features |= term.encode(self.model, batch, towers)
        return features

    def learns(self, tower: str) -> bool:
        """Whether any weight of a tower or of its head does."""
        names = (tower, f"{tower}_head")
        return any(
            parameter.requires_grad
            for name, parameter in self.model.named_parameters()
            if part_of(name, self.parts) in names
        )

    @property
    def pool_learns(self) -> bool:
        """Whether images of a sample are weighed by what learns."""
        return self.image_pool is not None and any(True for _ in self.image_pool.parameters())

    def image_features(self, batch: PairBatch) -> tuple[Tensor, Tensor | None]:
        """(B, D) unit vectors and, of a CoCa, (B, P, D) tokens for its decoder."""
        if batch.features_BF is not None:
            return self.pooled(unit_vectors(self.image_head(batch.features_BF)), batch), None
        images_BCHW = (batch.images_BCHW.to(self.mean.dtype) / 255 - self.mean) / self.std
        # convolutions run channels-last about 1.5 times as fast; the rest does not mind
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        features_BD, image_BPD = image_states(self.model, images_BCHW)
        return self.pooled(unit_vectors(features_BD), batch), image_BPD

    def pooled(self, image_MD: Tensor, batch: PairBatch) -> Tensor:
        """(B, D) unit vectors of samples. image_MD: of their images."""
        if self.image_pool is None or batch.image_counts_B is None:
            return image_MD
        with torch.autocast(image_MD.device.type, enabled=False):
            pooled_BD: Tensor = self.image_pool(image_MD, batch.image_counts_B)
            return pooled_BD

    def text_features(self, batch: PairBatch) -> tuple[Tensor, Tensor | None]:
        """(B, D) unit vectors, of masked texts where words are masked, and (B, L, D) states where a term reads them."""
        tokens_BL = batch.tokens_BL if batch.masked_tokens_BL is None else batch.masked_tokens_BL
        features_BD, states_BLD = text_states(self.model, tokens_BL, self.reads_states)
        return unit_vectors(features_BD), states_BLD

    def direct_parameters(self) -> list[nn.Parameter]:
        """Those that the loss reads other than through features."""
        names = self.model.named_parameters()
        parameters = [parameter for name, parameter in names if part_of(name, self.parts) == "logit_scale"]
        return parameters + [parameter for term in self.terms.values() for parameter in term.direct_parameters()]

    def loss_of(self, features: Features, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """(scalar, values to log) of this rank's features. batch: the same samples; its images and tokens are not read."""
        # towers may run in half precision, logits not
        with torch.autocast(features["image_BD"].device.type, enabled=False):
            logit_scale = at_least_single(self.model.logit_scale).exp()  # type: ignore[arg-type]
            logit_bias = getattr(self.model, "logit_bias", None)
            pairs = Pairs(
                image_BD=features["image_BD"],
                text_BD=features["text_BD"],
                logit_scale=logit_scale,
                logit_bias=None if logit_bias is None else at_least_single(logit_bias),
                text_ids_B=batch.text_ids_B,
                same_text=self.same_text,
                class_ids_B=None if batch.class_ids is None else padded(batch.class_ids).to(self.device),
                positives_as=self.positives_as,
            )
            losses = {name: term.loss(features, pairs, batch) for name, term in self.terms.items()}
            losses_B = self.loss_function.of_pairs(pairs)
            contrastive = losses_B.mean()
            loss = self.weight * contrastive
            for name, term in self.terms.items():
                loss = loss + term.weight * losses[name]
        values: dict[str, Tensor | float] = {"logit_scale": logit_scale.detach(), LOSSES_B: losses_B.detach()}
        if losses:
            values |= {f"loss_{name}": value.detach() for name, value in {"contrastive": contrastive, **losses}.items()}
        if self.loss_function.learns_bias and pairs.logit_bias is not None:
            values["logit_bias"] = pairs.logit_bias.detach()
        if batch.class_ids is not None:  # this rank's, so that a key that joins nothing is seen
            values["positives"] = mean_joined(batch.class_ids)
        return loss, values

    def loss(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        return self.loss_of(self.encode(batch), batch)

    def trial_loss(self, batch: PairBatch, parts: int) -> Tensor:
        if parts == 1:
            return self.loss(batch)[0]
        features = {name: value.repeat(parts, *[1] * (value.ndim - 1)) for name, value in self.encode(batch).items()}
        return self.loss_of(features, PairBatch.joined([batch] * parts))[0]

    @torch.no_grad()
    def constrain(self) -> None:
        self.model.logit_scale.clamp_(max=self.max_log_scale)  # type: ignore[operator]
