"""A CLIP's image tower that does not learn: what of it can be computed once. B: images; S: side; F: width of the features."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from medvlp.models.weights import WeightsError, weights_hash

Head = Callable[[Tensor], Tensor]


def split_image_tower(model: nn.Module, head_learns: bool) -> tuple[Callable[[Tensor], Tensor], Head]:
    """(pixels (B, 3, S, S) → features (B, F), features → embeddings (B, D), not yet of unit length).

    Where the head does not learn, the features are the embeddings.

    Raises:
        WeightsError: the tower has no head of its own.
    """
    if not head_learns:
        return model.encode_image, nn.Identity()  # type: ignore[return-value]
    visual = model.visual
    if not (hasattr(visual, "trunk") and hasattr(visual, "head")):
        raise WeightsError(
            "objective.feature_cache: this image tower projects inside, so a head that learns cannot be told from it; set "
            "optim.parts.vision_head.freeze=true, or take a tower of timm (model.vision.timm)"
        )
    return visual.trunk, visual.head  # type: ignore[return-value]


def frozen_identity(model: nn.Module, head_learns: bool) -> str:
    """Hash of the weights that the features depend on."""
    tensors: Mapping[str, Tensor] = model.visual.state_dict()  # type: ignore[union-attr]
    trunk = {name: value for name, value in tensors.items() if not (head_learns and name.startswith("head."))}
    return f"{weights_hash(trunk)} {'trunk' if head_learns else 'embedding'}"
