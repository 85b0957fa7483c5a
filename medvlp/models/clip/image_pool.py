"""Several images of one sample as one embedding: their mean, or one weighed by attention.

B: samples; M: images of all of them, one sample after the other; D: shared width; H: hidden width.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvlp.models.weights import WeightsError, weights_hash

KINDS = ("mean", "attention")
HIDDEN = 128


class ImagePool(nn.Module):
    """Base of both. A sample of one image keeps its embedding, so a model without the pool is the same for single images."""

    kind = "mean"

    def forward(self, image_MD: Tensor, counts_B: Tensor) -> Tensor:
        """(B, D) unit vectors.

        image_MD: unit vectors. counts_B: int64, images of each sample, at least one.
        """
        sample_M = torch.repeat_interleave(torch.arange(len(counts_B), device=counts_B.device), counts_B)
        weighed_MD = image_MD * self.weights(image_MD, sample_M, counts_B)[:, None]
        return normalize(
            image_MD.new_zeros(len(counts_B), image_MD.shape[1]).index_add(0, sample_M, weighed_MD), dim=-1
        )

    def weights(self, image_MD: Tensor, sample_M: Tensor, counts_B: Tensor) -> Tensor:
        """(M,): of each image; those of a sample sum to 1. sample_M: the number of its sample."""
        return counts_B[sample_M].to(image_MD.dtype).reciprocal()

    def described(self) -> dict[str, str]:
        """What a checkpoint says of it: equal descriptions give equal embeddings."""
        return {"kind": self.kind, "sha256": weights_hash(self.state_dict())}


class AttentionPool(ImagePool):
    """Attention over a sample's images (Ilse 2018): an image's logit is w · tanh(V x) of its unit vector x.

    w begins with zeros, so that training begins with the mean.
    """

    kind = "attention"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, HIDDEN)
        self.logit = nn.Parameter(torch.zeros(HIDDEN))

    def weights(self, image_MD: Tensor, sample_M: Tensor, counts_B: Tensor) -> Tensor:
        hidden_MH = torch.tanh(self.hidden(image_MD.to(self.logit.dtype)))
        logit_M = (hidden_MH @ self.logit).to(image_MD.dtype)
        top_B = logit_M.new_full((len(counts_B),), -torch.inf).scatter_reduce(0, sample_M, logit_M.detach(), "amax")
        power_M = (logit_M - top_B[sample_M]).exp()
        total_B = power_M.new_zeros(len(counts_B)).index_add(0, sample_M, power_M)
        return power_M / total_B[sample_M]


def image_pool(kind: str, width: int) -> ImagePool:
    """By its name. width: of the shared space."""
    return AttentionPool(width) if kind == "attention" else ImagePool()


def loaded_pool(description: Any, auxiliary: Mapping[str, Tensor], width: int) -> ImagePool | None:
    """The pool of a checkpoint; None where it was trained on single images.

    Args:
        description: as `ImagePool.described`.
        auxiliary: the checkpoint's tensors besides its model's.
    Raises:
        WeightsError: another kind than there is, or tensors that do not fit.
    """
    if description is None:
        return None
    if not isinstance(description, dict) or description.get("kind") not in KINDS:
        raise WeightsError(f"its image_pool is {str(description)[:80]}, expected a kind of {', '.join(KINDS)}")
    pool = image_pool(description["kind"], width)
    prefix = f"{NAME}."
    tensors = {name.removeprefix(prefix): value for name, value in auxiliary.items() if name.startswith(prefix)}
    expected = {name: value.shape for name, value in pool.state_dict().items()}
    if {name: value.shape for name, value in tensors.items()} != expected:
        raise WeightsError(
            f"the tensors of its image_pool are {sorted(tensors)}, expected {sorted(expected)} of width {width}"
        )
    pool.load_state_dict(tensors)
    return pool.eval()


NAME = "image_pool"
"""In a checkpoint: of its description, and before its tensors' names."""
