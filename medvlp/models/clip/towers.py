"""What only training does with a CLIP's towers: patches that are dropped, activations that are computed twice."""

from typing import Any

from open_clip.transformer import PatchDropout as OpenClipPatchDropout
from timm.layers import PatchDropout
from torch import nn

from medvlp.models.weights import WeightsError, first_line


def drop_patches(model: nn.Module, share: float) -> None:
    """Drop this share of the image's patches in training, others each time (FLIP, Li 2023); evaluation sees all of them.

    Raises:
        WeightsError: the image tower is no vision transformer.
    """
    visual: Any = model.visual
    trunk: Any = getattr(visual, "trunk", None)
    if trunk is not None and hasattr(trunk, "patch_drop") and hasattr(trunk, "num_prefix_tokens"):
        trunk.patch_drop = PatchDropout(share, num_prefix_tokens=trunk.num_prefix_tokens)
    elif trunk is None and hasattr(visual, "patch_dropout"):
        visual.patch_dropout = OpenClipPatchDropout(share)
    else:
        raise WeightsError(
            f"model.patch_dropout={share}: the image tower ({type(trunk or visual).__name__}) has no patches that can be dropped"
        )


def checkpoint_activations(model: nn.Module) -> None:
    """Keep only the inputs of the towers' blocks, and compute the rest of their activations again in backward (Chen 2016).

    Raises:
        WeightsError: a tower cannot.
    """
    visual, text = model.visual, getattr(model, "text", None)
    try:
        visual.set_grad_checkpointing(True)  # type: ignore[operator, union-attr]
        if text is None:
            model.transformer.grad_checkpointing = True  # type: ignore[union-attr]
        elif hasattr(text, "config"):  # transformers' tower
            text.transformer.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            text.set_grad_checkpointing(True)
    except (AssertionError, AttributeError, ValueError) as error:
        raise WeightsError(f"model.gradient_checkpointing: a tower cannot ({first_line(error)})") from None
