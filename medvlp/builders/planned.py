"""A contrastive training without weights: built on the meta device, and counted."""

import copy
import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medvlp.builders.training import build_objective
from medvlp.config import ClipConfig, ConfigError, ContrastiveConfig, TrainConfig
from medvlp.costs.counts import ModelBytes, PassCounts, bytes_of, count_pass
from medvlp.costs.imitation import Imitation, Shapes
from medvlp.costs.stand_ins import named_architecture, text_tower
from medvlp.data.pairs import PairBatch
from medvlp.losses.relations import GPU_BLOCK_LOGITS, LEAST_ROWS
from medvlp.models.clip.fusion import unit_vectors
from medvlp.training.module import TrainingModule
from medvlp.training.objectives.contrastive import Contrastive

LOWER = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Mixed precision → its lower one."""


@dataclass(frozen=True)
class PlannedModel:
    """Counts of a pass and of the model, its shared width and image side, the text's tokens, rows of logits that its loss
    holds at once, and what was not counted."""

    counts: PassCounts
    model: ModelBytes
    width: int
    size: int
    tokens: int
    rows: int
    notes: tuple[str, ...]


def planned_model(
    config: TrainConfig, ranks: int = 1, tokens: int | None = None, kernels: str = "cuda"
) -> PlannedModel:
    """The model of a configuration as it trains: frozen parts, adapters, dropped patches and checkpointing are counted.

    Args:
        ranks: among which a batch is divided.
        tokens: of a text, on average; None is the whole context.
        kernels: "cuda" or "cpu": whose attention, dropout and mixed precision.

    Raises:
        UserError: no such architecture or tokenizer, an image size or a length that does not fit.
        ConfigError: a model that cannot be built without numbers.
    """
    config, notes = without_weights(config)
    pairs = config.data.global_batch_size // (ranks * config.trainer.accumulate)
    logging.disable(logging.WARNING)  # of random weights
    try:
        with tempfile.TemporaryDirectory() as folder, torch.device("meta"), Shapes():
            module = build_objective(without_hub(config, Path(folder))).module
        if config.trainer.precision == "bf16-true":
            module.to(torch.bfloat16)
        return counted(module, config, pairs, tokens, kernels, notes)
    except (NotImplementedError, RuntimeError) as error:
        if "meta" not in str(error) and "fake" not in str(error).lower():
            raise
        raise ConfigError(f"this model needs numbers where `medvlp plan` has shapes only: {error!s:.200}") from None
    finally:
        logging.disable(logging.NOTSET)


def counted(
    module: TrainingModule, config: TrainConfig, pairs: int, tokens: int | None, kernels: str, notes: list[str]
) -> PlannedModel:
    """A training's module on meta, counted over a part's pairs."""
    assert isinstance(config.model, ClipConfig)
    assert isinstance(config.objective, ContrastiveConfig)
    assert isinstance(module, Contrastive)
    card = module.metadata
    size = card["preprocess"]["size"]
    height, width = (size, size) if isinstance(size, int) else size
    context = int(card["model_cfg"]["text_cfg"].get("context_length") or 77)
    has_free_length = bool(card["model_cfg"]["text_cfg"].get("hf_model_name"))
    length = min(tokens or context, context) if has_free_length else context
    if tokens and length != tokens:
        reason = f"its context has {context}" if has_free_length else "this text tower takes texts of its whole context"
        notes.append(f"tokens={tokens} became {length}: {reason}")
    imitation = Imitation(kernels, LOWER.get(config.trainer.precision))
    imitation.take(module)
    with imitation.here():
        batch = pair_batch(pairs, height, width, length)
        model: Any = module.model
        counts = count_pass(
            [
                None if config.objective.feature_cache else lambda: module.image_features(batch)[0],
                lambda: unit_vectors(model.encode_text(batch.tokens_BL)),
            ],
            [module],
            pairs,
            imitation,
            config.trainer.accumulate > 1,
            [batch.images_BCHW, batch.tokens_BL],
        )
    modules = [module.model, module.auxiliary]
    embed_dim = int(card["model_cfg"]["embed_dim"])
    rows = max(LEAST_ROWS, GPU_BLOCK_LOGITS // config.data.global_batch_size)
    return PlannedModel(counts, bytes_of(modules), embed_dim, max(height, width), length, rows, tuple(notes))


def pair_batch(pairs: int, height: int, width: int, length: int) -> PairBatch:
    """Images and texts without numbers."""
    return PairBatch(
        keys=[],
        positions=[],
        bad=[],
        images_BCHW=torch.empty(pairs, 3, height, width, dtype=torch.uint8),
        tokens_BL=torch.ones(pairs, length, dtype=torch.int64),
        text_ids_B=torch.arange(pairs),
    )


def without_hub(config: TrainConfig, folder: Path) -> TrainConfig:
    """The configuration, its text tower and tokenizer as the table of published ones has them."""
    model = copy.deepcopy(config.model)
    assert isinstance(model, ClipConfig)
    if model.name:
        model.name = named_architecture(model.name, folder)
    else:
        model.text.huggingface = text_tower(model.text.huggingface, folder)
    return replace(config, model=model)


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
    if config.trainer.strategy == "fsdp":
        notes.append("trainer.strategy=fsdp is counted as ddp, with whole weights on every GPU")
    if config.trainer.compile:
        notes.append("trainer.compile=true is counted as eager, which keeps more")
    if any(source.several_images == "all" for source in config.data.sources.values()):
        notes.append("examples count as one image each, though data.sources.<name>.several_images=all gives them more")
    if objective.feature_cache:
        notes.append("the image tower's features count as computed: a first epoch and a head that learns take longer")
    return replace(config, model=model, objective=objective, init_from="", init_parts=[]), notes
