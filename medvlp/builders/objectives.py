"""Optimizer settings of an objective's parts, and the weights that they start from (`init_from`)."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from medvlp.config import OptimConfig
from medvlp.models.parts import Parts, part_of
from medvlp.training.checkpoints import CheckpointError, load_checkpoint
from medvlp.training.module import OptimizerSettings

BASE_LAYER = ".base_layer."
"""How peft names a layer inside the adapted one that took its place."""


def init_from(module: nn.Module, parts: Parts, path: str, names: Iterable[str], metadata: Mapping[str, Any]) -> None:
    """Load the named parts (all, if none is named) from another checkpoint; every tensor of them must match.

    Adapters of a model that had none begin afresh, around the layers of the checkpoint.

    Args:
        module: a training's; its state dict is its model's, as checkpoints hold it.
        metadata: the model's own, as `Objective.metadata`.
    Raises:
        CheckpointError: names tensors that are missing or have another shape, or adapters that are scaled otherwise.
    """
    content = load_checkpoint(path)
    tensors = content["state_dict"]
    is_adapted = any(part_of(name, parts) == "adapter" for name in tensors)
    loading = set(names) or {part for part in (*parts, "") if is_adapted or part != "adapter"}
    targets = {name: value for name, value in module.state_dict().items() if part_of(name, parts) in loading}
    source = {name: name if name in tensors else name.replace(BASE_LAYER, ".") for name in targets}
    missing = [name for name in targets if source[name] not in tensors]
    shapes = [name for name in targets if name not in missing and tensors[source[name]].shape != targets[name].shape]
    if missing or shapes:
        unmerged = any(BASE_LAYER in name for name in tensors) and not any(BASE_LAYER in name for name in targets)
        hint = "; it has adapters: set model.lora as it was there" if unmerged else ""
        raise CheckpointError(f"init_from={path} does not fit: missing {missing[:3]}, other shape {shapes[:3]}{hint}")
    old_alpha, alpha = (
        description.get("assistant", {}).get("lora", {}).get("alpha") for description in (content["medvlp"], metadata)
    )
    if is_adapted and "adapter" in loading and old_alpha != alpha:
        raise CheckpointError(
            f"init_from={path}: its adapters were trained with model.lora.alpha={old_alpha}, so with {alpha} they would weigh "
            f"otherwise; set model.lora.alpha={old_alpha}, or leave adapter out of init_parts"
        )
    module.load_state_dict({name: tensors[source[name]] for name in targets}, strict=False)


def optimizer_settings(config: OptimConfig) -> OptimizerSettings:
    """How the parts learn."""
    return OptimizerSettings(
        config.lr,
        config.weight_decay,
        (config.beta1, config.beta2),
        config.eps,
        config.schedule,
        config.warmup_steps,
        config.final_lr_fraction,
        {name: part.lr for name, part in config.parts.items() if part.lr is not None},
        tuple(name for name, part in config.parts.items() if part.freeze),
    )
