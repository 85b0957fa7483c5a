"""A contrastive training without weights: built on the meta device, and counted."""

import copy
import logging
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medvlp.builders.training import build_objective
from medvlp.config import ClipConfig, ConfigError, ContrastiveConfig, TrainConfig
from medvlp.costs.counts import ModelBytes, Shapes, TowerCounts, bytes_of, count_tower
from medvlp.training.module import TrainingModule

LOWER = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Mixed precision → its lower one."""
NO_COUNTS = TowerCounts(0, 0, 0, 0)


@dataclass(frozen=True)
class PlannedModel:
    """Counts of both towers and of the model, its shared width and image side, the text's tokens, and what was not counted."""

    vision: TowerCounts
    text: TowerCounts
    model: ModelBytes
    width: int
    size: int
    tokens: int
    notes: tuple[str, ...]


def planned_model(config: TrainConfig, tokens: int | None = None) -> PlannedModel:
    """The model of a configuration as it trains: frozen parts, adapters, dropped patches and checkpointing are counted.

    tokens: of a text, on average; None is the whole context.

    Raises:
        UserError: no such architecture or tokenizer, an image size or a length that does not fit.
        ConfigError: a model that cannot be built without numbers.
    """
    config, notes = without_weights(config)
    logging.disable(logging.WARNING)  # of random weights
    try:
        with torch.device("meta"), Shapes(None):
            module = build_objective(config).module
            return counted(module, config, tokens, notes)
    except (NotImplementedError, RuntimeError) as error:
        if "recomputation" in str(error):
            raise ConfigError(
                "`medvlp plan` cannot imitate mixed precision with model.gradient_checkpointing=true; plan it with "
                "trainer.precision=bf16-true"
            ) from None
        if "meta" not in str(error):
            raise
        raise ConfigError(f"this model needs numbers where `medvlp plan` has shapes only: {error!s:.200}") from None
    finally:
        logging.disable(logging.NOTSET)


def counted(module: TrainingModule, config: TrainConfig, tokens: int | None, notes: list[str]) -> PlannedModel:
    """A training's module on meta, counted."""
    assert isinstance(config.model, ClipConfig)
    assert isinstance(config.objective, ContrastiveConfig)
    model: Any = module.model
    card = module.metadata
    if config.trainer.precision == "bf16-true":
        model.to(torch.bfloat16)
    size = card["preprocess"]["size"]
    height, width = (size, size) if isinstance(size, int) else size
    context = int(card["model_cfg"]["text_cfg"].get("context_length") or 77)
    has_free_length = bool(card["model_cfg"]["text_cfg"].get("hf_model_name"))
    length = min(tokens or context, context) if has_free_length else context
    if tokens and length != tokens:
        reason = f"its context has {context}" if has_free_length else "this text tower takes texts of its whole context"
        notes.append(f"tokens={tokens} became {length}: {reason}")
    parameters, dtype = list(model.parameters()), next(model.parameters()).dtype

    def encode_images(batch: int) -> Tensor:
        output: Tensor = model.encode_image(torch.zeros(batch, 3, height, width, dtype=dtype))
        return output

    def encode_texts(batch: int) -> Tensor:
        output: Tensor = model.encode_text(torch.ones(batch, length, dtype=torch.int64))
        return output

    lower = LOWER.get(config.trainer.precision)
    vision = NO_COUNTS if config.objective.feature_cache else count_tower(encode_images, parameters, lower)
    text = count_tower(encode_texts, parameters, lower)
    modules = [model, module.auxiliary]
    return PlannedModel(
        vision, text, bytes_of(modules), int(card["model_cfg"]["embed_dim"]), max(height, width), length, tuple(notes)
    )


def without_weights(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """The configuration with random weights in all that it names, and what is left out of the counts."""
    model, objective = copy.deepcopy(config.model), copy.deepcopy(config.objective)
    assert isinstance(model, ClipConfig)
    assert isinstance(objective, ContrastiveConfig)
    model.pretrained, model.vision.weights, model.text.pretrained = "", "", bool(model.name)
    notes = []
    if objective.auxiliary.pop("distillation", None) is not None:
        notes.append("not counted: the teacher of objective.auxiliary.distillation")
    if objective.auxiliary or objective.heads:
        names = ", ".join([*objective.auxiliary, *objective.heads])
        notes.append(f"not counted: the FLOPs and activations of {names} (their weights are)")
    if objective.feature_cache:
        notes.append("the image tower's features count as computed: a first epoch and a head that learns take longer")
    return replace(config, model=model, objective=objective, init_from="", init_parts=[]), notes
