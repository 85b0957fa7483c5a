"""Optimizer settings of an objective's parts, and the weights that they start from (`init_from`)."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from medvlp.builders.clip import clip_named
from medvlp.config import ConfigError, OptimConfig
from medvlp.config.model_names import ModelName, parse_model_name, source_name
from medvlp.models.clip.adapters import ADAPTER
from medvlp.models.clip.from_transformers import open_clip_state, refuse_activation
from medvlp.models.clip.positions import fitted_state
from medvlp.models.hf.folders import model_folder
from medvlp.models.hf.kinds import CHAT, ENCODER, TITLES, kind_of
from medvlp.models.hf.loading import Loading, load_model
from medvlp.models.parts import Parts, part_of
from medvlp.models.weights import WeightsError
from medvlp.training.checkpoints import CheckpointError, load_checkpoint
from medvlp.training.module import OptimizerSettings

BASE_LAYER = ".base_layer."
"""How peft names a layer inside the adapted one that took its place."""


def init_from(
    module: nn.Module,
    parts: Parts,
    path: str,
    names: Iterable[str],
    metadata: Mapping[str, Any],
    positions: str = "linear",
) -> None:
    """Load the named parts (all, if none is named) from another model; every tensor of them must match.

    Adapters of a model that had none begin afresh, around the layers of the checkpoint.

    Args:
        path: a checkpoint, `open_clip:` or `hf:` name.
        module: a training's; its state dict is its model's, as checkpoints hold it.
        metadata: the model's own, as `Objective.metadata`.
        positions: how learned positions of a CLIP's text tower become as many as the context has, see `fitted`.
    Raises:
        CheckpointError: names tensors that are missing or have another shape, or adapters that are scaled otherwise.
    """
    tensors, description = initial_weights(path, metadata)
    is_adapted = any(part_of(name, parts) == "adapter" for name in tensors)
    loading = set(names) or {part for part in (*parts, "") if is_adapted or part != "adapter"}
    targets = {
        name: value
        for name, value in module.state_dict().items()
        if part_of(name, parts) in loading and not (ADAPTER in name and "adapter" not in parts)  # a CLIP's begin afresh
    }
    tensors = fitted_state(tensors, targets, positions)
    source = {name: name if name in tensors else name.replace(BASE_LAYER, ".") for name in targets}
    missing = [name for name in targets if source[name] not in tensors]
    shapes = [name for name in targets if name not in missing and tensors[source[name]].shape != targets[name].shape]
    if missing or shapes:
        unmerged = any(BASE_LAYER in name for name in tensors) and not any(BASE_LAYER in name for name in targets)
        hint = "; it has adapters: set model.lora as it was there" if unmerged else ""
        raise CheckpointError(f"init_from={path} does not fit: missing {missing[:3]}, other shape {shapes[:3]}{hint}")
    old_alpha, alpha = (card.get("assistant", {}).get("lora", {}).get("alpha") for card in (description, metadata))
    if is_adapted and "adapter" in loading and old_alpha != alpha:
        raise CheckpointError(
            f"init_from={path}: its adapters were trained with model.lora.alpha={old_alpha}, so with {alpha} they would weigh "
            f"otherwise; set model.lora.alpha={old_alpha}, or leave adapter out of init_parts"
        )
    module.load_state_dict({name: tensors[source[name]] for name in targets}, strict=False)


def initial_weights(
    text: str, metadata: Mapping[str, Any] | None = None
) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]:
    """The tensors that `init_from` names, by the names that our models have for them, and what a checkpoint says of them.

    Raises:
        ConfigError: not understood, or a model that no training could begin with.
        UserError: nothing there, or damaged.
    """
    name = source_name(text, "init_from") or parse_model_name(text, "init_from")
    if name.scheme == "checkpoint":
        content = load_checkpoint(name.target)
        return content["state_dict"], content["medvlp"]
    if name.scheme == "open_clip":
        return clip_named(name, "init_from")[0].model.state_dict(), {}
    if name.scheme == "hf":
        return _tensors_of(name, (metadata or {}).get("model_cfg")), {}
    raise ConfigError(f"init_from={text}: a model behind a server has no weights to begin with")


def _tensors_of(name: ModelName, model_cfg: Mapping[str, Any] | None) -> Mapping[str, Tensor]:
    """The tensors of an `hf:` model of images and text, or of an `hf:` CLIP where a CLIP begins. Raises WeightsError."""
    expected = CHAT if model_cfg is None else ENCODER
    try:
        folder, gguf = model_folder(name.target, name.revision)
        if (kind := kind_of(folder, name.target, gguf).kind) != expected:
            raise WeightsError(f"hf:{name.target} is {TITLES[kind]}")
        model = load_model(expected, folder, name.target, Loading(), "cpu")
        if model_cfg is not None:
            refuse_activation(model.config, model_cfg, name.target)
            return open_clip_state(model.config, model.state_dict(), name.target)
    except WeightsError as error:
        raise WeightsError(
            str(error)
            if model_cfg is not None
            else f"init_from={name.text}: {error}. Expected an assistant as `medvlp export format=hf` writes it; the parts of an "
            f"assistant are named by model.vision.source and model.language.source"
        ) from None
    tensors: Mapping[str, Tensor] = model.state_dict()
    return tensors


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
        {name: part.last_blocks for name, part in config.parts.items() if part.last_blocks is not None},
        {name: part.layer_decay for name, part in config.parts.items() if part.layer_decay != 1},
        config.fused,
        config.ema_decay,
    )
