"""AdamW with decay where it belongs, and a schedule whose horizon is the run's."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn
from torch.optim import AdamW, Optimizer

from medvlp.errors import UserError
from medvlp.models.layers import part_depths
from medvlp.models.parts import Parts, part_of


@dataclass(frozen=True)
class LearningRate:
    """Learning rate as a share of its peak: linear warm-up, then cosine, linear or constant to the last step.

    warmup_steps: the first step trains at 1/warmup_steps of the peak, step number warmup_steps at the peak.
    total_steps: optimizer steps in the run.
    """

    kind: str
    warmup_steps: int
    total_steps: int
    final_fraction: float = 0.0

    def __call__(self, step: int) -> float:
        """Share of the peak at optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        progress = min((step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1), 1.0)
        falling = (1 + math.cos(math.pi * progress)) / 2 if self.kind == "cosine" else 1 - progress
        return self.final_fraction + (1 - self.final_fraction) * falling


def spared_from_decay(model: nn.Module) -> set[str]:
    """Parameters that weight decay would harm: biases, norms and scalars (one dimension or none), position and class
    embeddings, and whatever the model itself lists (`no_weight_decay`, as timm and open_clip do)."""
    spared_by_model = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()  # type: ignore[operator]
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim < 2
        or name in spared_by_model
        or "position" in name
        or name.endswith(("class_embedding", "cls_emb"))
    }


def adamw(
    model: nn.Module,
    parts: Parts,
    lr: float,
    part_lrs: Mapping[str, float],
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
    layer_decays: Mapping[str, float] | None = None,
    fused: bool = False,
) -> Optimizer:
    """AdamW (Loshchilov 2019) with one group for each (part, depth where it counts, decayed or not) that has trainable
    parameters.

    Args:
        part_lrs: peak learning rates of parts that have their own.
        layer_decays: part → the share of the next block's rate that a block learns at, see `depths`.
        fused: torch's fused kernel.
    Raises:
        UserError: nothing is trainable.
    """
    spared = spared_from_decay(model)
    layer_decays = layer_decays or {}
    depth_of: dict[str, int] = {}
    for part, decay in layer_decays.items():
        depth_of |= part_depths(model, parts, part, f"optim.parts.{part}.layer_decay={decay}")
    last_depths = {part: max(depth_of[n] for n in depth_of if part_of(n, parts) == part) for part in layer_decays}
    groups: dict[tuple[str, int | None, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = part_of(name, parts), depth_of.get(name), name not in spared
            groups.setdefault(key, []).append(parameter)
    if not groups:
        raise UserError("every part is frozen: nothing is left to train")
    return AdamW(
        [
            {
                "params": parameters,
                "lr": part_lrs.get(part, lr)
                * (1.0 if depth is None else layer_decays[part] ** (last_depths[part] - depth)),
                "weight_decay": weight_decay if is_decayed else 0.0,
                "name": f"{part}{'' if depth is None else f' {depth}'}{'' if is_decayed else ' (no decay)'}",
            }
            for (part, depth, is_decayed), parameters in groups.items()
        ],
        lr=lr,
        betas=betas,
        eps=eps,
        fused=fused or None,
    )


def add_modules(optimizer: Optimizer, modules: nn.Module, lr: float, weight_decay: float) -> None:
    """Groups, decayed and not, of modules next to the model; none where they have no parameters."""
    spared = spared_from_decay(modules)
    for decay, name in ((weight_decay, "auxiliary"), (0.0, "auxiliary (no decay)")):
        parameters = [p for key, p in modules.named_parameters() if (key in spared) == name.endswith(")")]
        if parameters:
            optimizer.add_param_group({"params": parameters, "lr": lr, "weight_decay": decay, "name": name})


def unknown_parts(names: Iterable[str], parts: Parts) -> list[str]:
    """Names that the model has no part for."""
    return sorted(set(names) - set(parts))
