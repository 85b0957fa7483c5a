"""A trial run of towers that were chosen by name, before anything is trained.

L: tokens.
"""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor

from medvlp.models.clip.model import Clip
from medvlp.models.weights import WeightsError, first_line

FAILURES = (RuntimeError, AssertionError, ValueError, TypeError, IndexError, AttributeError)
"""What towers raise where sizes or lengths do not suit them."""


def try_towers(clip: Clip) -> None:
    """One image, and one text of the whole context, through the towers: what would fail at the first batch, or at the first
    long text, fails here.

    Raises:
        WeightsError: names what was chosen, what went wrong, and what works.
    """
    vision, training = clip.model_cfg["vision_cfg"], clip.model.training
    height, width = (clip.size, clip.size) if isinstance(clip.preprocess["size"], int) else clip.preprocess["size"]
    clip.model.eval()
    try:
        with torch.no_grad():
            clip.model.encode_image(torch.zeros(1, 3, height, width))  # type: ignore[operator]
    except FAILURES as error:
        raise WeightsError(
            f"the image tower {vision.get('timm_model_name') or ''} fails on images of {height} px ({first_line(error)})"
            f"{sizes_that_work(vision)}"
        ) from None
    try:
        with torch.no_grad():
            clip.model.encode_text(longest_text(clip))  # type: ignore[operator]
    except FAILURES as error:
        raise WeightsError(
            f"the text tower {clip.model_cfg['text_cfg'].get('hf_model_name') or ''} fails on a text of the whole context "
            f"({first_line(error)}); set model.text.context_length lower"
        ) from None
    finally:
        clip.model.train(training)


def longest_text(clip: Clip) -> Tensor:
    """(1, L): the ids of a text that fills the context."""
    length = clip.model_cfg["text_cfg"].get("context_length") or 77
    return clip.tokenizer(["a " * 2 * int(length)])


def sizes_that_work(vision: Mapping[str, Any]) -> str:
    """What to set instead, for a timm tower."""
    name = vision.get("timm_model_name")
    if not name:
        return "; leave model.image.size out"
    pretrained = timm.get_pretrained_cfg(name)
    size = pretrained.input_size[-1] if pretrained is not None else 224
    family = [model for model in timm.list_models(f"{name.rsplit('_', 1)[0]}_*") if model != name]
    return f"; set model.image.size={size}" + (f", or model.vision.timm to one of {family[:4]}" if family else "")
