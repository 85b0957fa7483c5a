"""A model's parts: what can be frozen, given its own learning rate, or taken from another checkpoint."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

Parts = Mapping[str, tuple[str, ...]]
"""Part → prefixes of parameter names; a parameter belongs to the part with the longest prefix."""

CLIP_PARTS: Parts = {
    "vision": ("visual",),
    "vision_head": ("visual.head", "visual.proj", "visual.attnpool"),
    "text": ("text", "transformer", "token_embedding", "positional_embedding", "ln_final", "cls_emb"),
    "text_head": ("text.proj", "text.text_projection", "text_projection"),
    "decoder": ("text_decoder",),
    "logit_scale": ("logit_scale", "logit_bias"),
}
"""open_clip's CLIP, CustomTextCLIP and CoCa."""


def part_of(name: str, parts: Parts) -> str:
    """The part that a parameter or module belongs to; "" where none claims it."""
    best = ("", 0)
    for part, prefixes in parts.items():
        for prefix in prefixes:
            if (name == prefix or name.startswith(prefix + ".")) and len(prefix) > best[1]:
                best = (part, len(prefix))
    return best[0]


def freeze(model: nn.Module, parts: Parts, frozen: Iterable[str]) -> None:
    """Stop gradients of the frozen parts; what the model itself keeps fixed in other parts stays so."""
    frozen_parts = set(frozen)
    for name, parameter in model.named_parameters():
        if part_of(name, parts) in frozen_parts:
            parameter.requires_grad_(False)


def freeze_unused(model: nn.Module, output: Tensor) -> None:
    """Freeze parameters that an output of the model does not depend on: DDP waits for the gradient of every other one."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(output.sum(), learning, allow_unused=True)
    for parameter, gradient in zip(learning, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


def set_mode(model: nn.Module, parts: Parts, frozen: Iterable[str], training: bool) -> None:
    """Training mode for all but the frozen parts, which stay in eval mode: no dropout, fixed batch norm statistics."""
    frozen_parts = set(frozen)
    for name, module in model.named_modules():
        module.training = training and part_of(name, parts) not in frozen_parts
