"""Instruction tuning of an assistant. N: images; P: tokens an image; T: supervised tokens."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medvlp.data.chat.packing import PackedBatch
from medvlp.losses.token_cross_entropy import linear_cross_entropy
from medvlp.models.llava.model import projected_features, tower_features
from medvlp.models.llava.packed import last_hidden
from medvlp.models.llava.quantized import load_plain_state, plain_state
from medvlp.models.parts import Parts
from medvlp.training.module import OptimizerSettings, TrainingModule


class Instruction(TrainingModule):
    """Next-token prediction of the assistant's words, for transformers' Llava and FastVlm.

    Args:
        model: LlavaForConditionalGeneration or FastVlmForConditionalGeneration.
        blank_shape: of one image's pixels, (1, 3, S, S): what a batch without images sends through the projector, so
            that all ranks have gradients to exchange.
        from_features: images come as the frozen tower's features, so a blank one does not run the tower.
    """

    def __init__(
        self,
        model: Any,
        parts: Parts,
        settings: OptimizerSettings,
        seed: int,
        blank_shape: tuple[int, ...],
        from_features: bool = False,
    ) -> None:
        super().__init__(model, parts, settings, seed)
        self.blank_shape, self.from_features = blank_shape, from_features
        self.blank_features_shape: tuple[int, ...] = ()

    def loss(self, batch: PackedBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        model: Any = self.model
        features_NPD = self.image_features(batch.images_N)
        hidden_RLD = last_hidden(model, batch, None if batch.images_N is None else features_NPD)
        hidden_TD = hidden_RLD.flatten(0, 1).index_select(0, batch.logit_positions_T)
        summed = linear_cross_entropy(hidden_TD, model.lm_head.weight, batch.targets_T, batch.weights_T)
        if batch.images_N is None:
            summed = summed + 0.0 * features_NPD.sum()
        batches = self.trainer.world_size * self.trainer.accumulate_grad_batches
        return summed * batches, {"supervised_tokens": float(len(batch.targets_T))}

    def image_features(self, images: Tensor | None) -> Tensor:
        """(N, P, D): features in the language model's space, of pixels (N, 3, S, S) or of cached features (N, P, D)."""
        model: Any = self.model
        if images is None:
            images = self.blank_image()
        return projected_features(model, images)

    def blank_image(self) -> Tensor:
        """Zeros for one image, (1, 3, S, S) or (1, P, D)."""
        model: Any = self.model
        zeros = partial(torch.zeros, device=self.device, dtype=model.lm_head.weight.dtype)
        if not self.from_features:
            return zeros(self.blank_shape)
        if not self.blank_features_shape:
            with torch.no_grad():
                self.blank_features_shape = tuple(tower_features(model, zeros(self.blank_shape)).shape)
        return zeros(self.blank_features_shape)

    def sample_count(self, batch: PackedBatch) -> int:
        """Conversations, for the speed."""
        return batch.conversations

    def compile_towers(self) -> None:
        """torch.compile the tower and the language model; what stands between them stays eager."""
        inner: Any = self.model.model
        inner.vision_tower.compile()
        inner.language_model.compile()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        return plain_state(self.model)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        return load_plain_state(self.model, state_dict, strict)
