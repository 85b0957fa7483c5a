"""The objective of a training run from its configuration."""

from collections.abc import Callable

import torch

from medvlp.builders.objectives import init_from
from medvlp.builders.objectives.bag_of_words import bag_of_words
from medvlp.builders.objectives.classification import classify
from medvlp.builders.objectives.contrastive import contrastive
from medvlp.builders.objectives.instruction import instruct
from medvlp.config import ClipConfig, ConfigError, TrainConfig, as_dict
from medvlp.training.module import Objective
from medvlp.training.optim import unknown_parts

OBJECTIVES: dict[str, Callable[[TrainConfig], Objective]] = {
    "contrastive": contrastive,
    "instruct": instruct,
    "bag_of_words": bag_of_words,
    "classify": classify,
}


def build_objective(config: TrainConfig, resuming: bool = False) -> Objective:
    """The objective with its model, weights loaded (unless a resume will do so) and parts frozen; the same on every rank.

    Raises:
        ConfigError: an unknown objective or part.
        WeightsError: weights that are missing or do not fit.
        CheckpointError: `init_from` does not fit.
    """
    if config.objective.kind not in OBJECTIVES:
        raise ConfigError(f"objective.kind={config.objective.kind!r} is unknown; available: {sorted(OBJECTIVES)}")
    torch.manual_seed(config.seed)
    objective = OBJECTIVES[config.objective.kind](config)
    module = objective.module
    unknown = unknown_parts([*config.optim.parts, *config.init_parts], module.parts)
    if unknown:
        raise ConfigError(
            f"unknown part {unknown[0]!r} in optim.parts or init_parts; this model has {list(module.parts)}"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError("optim.parts freezes every part: nothing is left to train")
    if config.init_from and not resuming:
        positions = config.model.text.positions if isinstance(config.model, ClipConfig) else "linear"
        init_from(module, module.parts, config.init_from, config.init_parts, objective.metadata, positions)
    module.metadata = {**objective.metadata, "config": as_dict(config)}
    return objective
