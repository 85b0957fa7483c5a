"""Configuration → components: the only module that knows every part."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medvlp.config import (
    ClipConfig,
    ConfigError,
    ContrastiveConfig,
    OptimConfig,
    TaskConfig,
    TrainConfig,
    as_dict,
    from_dict,
    load_task,
)
from medvlp.data.batch import CollatePairs, PreparePairs
from medvlp.data.datamodule import TrainingData
from medvlp.data.loader import Collate
from medvlp.data.order import Order, OrderedSource
from medvlp.data.plan import SamplePlan
from medvlp.data.units import Prepare, Units
from medvlp.eval.embeddings import EmbeddingCache, Encoder
from medvlp.eval.retrieval import Retrieval
from medvlp.eval.tasks import Bootstrap, Task
from medvlp.eval.zero_shot import ZeroShot
from medvlp.models.clip import (
    Clip,
    ClipEncoder,
    Tokenize,
    architecture,
    composed,
    from_architecture,
    named,
    preprocess_settings,
)
from medvlp.models.parts import Parts, part_of
from medvlp.shards import ShardDataset, ShardError
from medvlp.training.checkpoints import CheckpointError, load_checkpoint
from medvlp.training.contrastive import Contrastive
from medvlp.training.optim import unknown_parts
from medvlp.training.service import Optimisation, Training


@dataclass
class Experiment:
    """What an objective brings to the training service.

    module: the objective with its model.
    prepare, collate: from sample to batch.
    card: what a checkpoint says of the model beside its weights; plain values.
    encoder: identity → encoder of the present weights, where tasks can be run during training.
    """

    module: Training
    prepare: Prepare
    collate: Collate
    card: dict[str, Any] = field(default_factory=dict)
    encoder: Callable[[str], Encoder] | None = None


def build_clip(config: ClipConfig, weights: bool = True) -> Clip:
    """The CLIP model that a configuration describes; without `weights`, its architecture only."""
    image, vision, text = config.image, config.vision, config.text
    changes = {key: value for key, value in vars(image).items() if value is not None}
    if config.name:
        return named(config.name, config.pretrained if weights else "", text.context_length, changes)
    model_cfg = architecture(
        vision.timm,
        vision.pool,
        vision.proj,
        text.huggingface,
        text.pooler,
        text.proj,
        text.context_length or 128,
        config.embed_dim,
        image.size or 224,
        config.temperature,
    )
    preprocess = preprocess_settings(**changes)
    return composed(
        model_cfg, vision.weights if weights else "", text.pretrained and weights, text.huggingface, preprocess
    )


def contrastive(config: TrainConfig) -> Experiment:
    """CLIP with InfoNCE."""
    if not isinstance(config.model, ClipConfig):
        raise ConfigError(f"objective=contrastive trains a CLIP model, not model.kind={config.model.kind!r}")
    assert isinstance(config.objective, ContrastiveConfig)
    clip = build_clip(config.model)
    if "multimodal_cfg" in clip.model_cfg:
        raise ConfigError(
            f"model.name={config.model.name!r}: InfoNCE alone would leave CoCa's caption decoder untrained"
        )
    pad_id, length = clip.padding
    mean, std = clip.preprocess["mean"], clip.preprocess["std"]
    optimisation = build_optimisation(config.optim)
    module = Contrastive(
        clip.model, optimisation, config.seed, mean, std, config.objective.max_logit_scale, config.objective.same_text
    )
    data = config.data
    prepare = PreparePairs(
        [source.texts for source in data.sources.values()],
        Tokenize(clip.tokenizer, pad_id, length),
        clip.size,
        data.augment.scale,
        data.augment.ratio,
        data.max_pixels,
    )
    preprocess = {key: list(value) if isinstance(value, tuple) else value for key, value in clip.preprocess.items()}
    card = {"preprocess": preprocess, "tokenizer": clip.tokenizer_identity, "model_cfg": clip.model_cfg}
    return Experiment(
        module, prepare, CollatePairs(pad_id), card, lambda identity: ClipEncoder(clip, module.device, identity)
    )


OBJECTIVES: dict[str, Callable[[TrainConfig], Experiment]] = {"contrastive": contrastive}


def build_experiment(config: TrainConfig, resuming: bool = False) -> Experiment:
    """The objective with its model, weights loaded (unless a resume will do so) and parts frozen; the same on every rank.

    Raises:
        ConfigError: an unknown objective or part.
        WeightsError: weights that are missing or do not fit.
        CheckpointError: `init_from` does not fit.
    """
    if config.objective.kind not in OBJECTIVES:
        raise ConfigError(f"objective.kind={config.objective.kind!r} is unknown; available: {sorted(OBJECTIVES)}")
    torch.manual_seed(config.seed)
    experiment = OBJECTIVES[config.objective.kind](config)
    module = experiment.module
    unknown = unknown_parts([*config.optim.parts, *config.init_parts], module.parts)
    if unknown:
        raise ConfigError(
            f"unknown part {unknown[0]!r} in optim.parts or init_parts; this model has {list(module.parts)}"
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ConfigError("optim.parts freezes every part: nothing is left to train")
    if config.init_from and not resuming:
        init_from(module.model, module.parts, config.init_from, config.init_parts)
    module.card = {**experiment.card, "config": as_dict(config)}
    return experiment


def init_from(model: nn.Module, parts: Parts, path: str, chosen: Iterable[str]) -> None:
    """Load the chosen parts (all, if none is named) from another checkpoint; every tensor of them must match.

    Raises:
        CheckpointError: names tensors that are missing or have another shape.
    """
    tensors = load_checkpoint(path)["state_dict"]
    wanted = set(chosen) or set(parts) | {""}
    own = {name: value for name, value in model.state_dict().items() if part_of(name, parts) in wanted}
    missing = [name for name in own if name not in tensors]
    shapes = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if missing or shapes:
        raise CheckpointError(f"init_from={path} does not fit: missing {missing[:3]}, other shape {shapes[:3]}")
    model.load_state_dict({name: tensors[name] for name in own}, strict=False)


def build_optimisation(config: OptimConfig) -> Optimisation:
    """How the parts learn."""
    return Optimisation(
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


def build_data(config: TrainConfig, experiment: Experiment) -> TrainingData:
    """Training batches of a run.

    Raises:
        ConfigError: the batch does not fit the data or the ranks.
        ShardError: a folder that cannot be read.
    """
    data, trainer = config.data, config.trainer
    sources = [(name, open_shards(source.path)) for name, source in data.sources.items()]
    ordered = [
        OrderedSource(name, len(dataset), data.sources[name].weight, dataset.manifest_hash) for name, dataset in sources
    ]

    def total_steps(steps_per_epoch: int) -> int:
        limits = [trainer.max_steps, trainer.max_epochs and trainer.max_epochs * steps_per_epoch]
        return min(limit for limit in limits if limit is not None)

    try:
        order = Order(ordered, config.seed, data.shuffle_block, data.shuffle_window)
        return TrainingData(
            Units(sources, experiment.prepare, config.seed),
            SamplePlan(order),
            experiment.collate,
            data.global_batch_size,
            trainer.accumulate,
            total_steps,
            data.workers,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None


def open_shards(path: str) -> ShardDataset:
    """A shard folder; a task's or a source's."""
    return ShardDataset(Path(path))


def build_task(task: TaskConfig, bootstrap: Bootstrap, split: str = "") -> Task:
    """An evaluator over a split of the task's data: the named one, or the task's own.

    Raises:
        ConfigError: unknown kind, or data that is not there, with the command that prepares it.
    """
    folder = Path(task.data) / (split or task.split)
    try:
        dataset = open_shards(str(folder))
    except ShardError as error:
        raise ConfigError(
            f"task {task.name}: {error}\nPrepare it with\n"
            f"  medvlp prep source=<name> input=<the publisher's files> output={task.data}"
        ) from None
    try:
        if task.kind == "zero_shot":
            return ZeroShot(task.name, dataset, task.label, task.classes, task.templates, bootstrap)
        if task.kind == "retrieval":
            return Retrieval(task.name, dataset, task.text, tuple(task.recall_at), bootstrap)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    raise ConfigError(f"task {task.name}: kind={task.kind!r} is unknown; available: retrieval, zero_shot")


def build_evaluation(
    config: TrainConfig, experiment: Experiment
) -> Callable[[], Iterable[tuple[str, str, float]]] | None:
    """The run's tasks on their `valid` split, as a function that evaluates the present weights.

    Raises:
        ConfigError: the objective gives no encoder, or a task's data is missing.
    """
    if not config.tasks:
        return None
    if experiment.encoder is None:
        raise ConfigError(
            f"tasks={config.tasks} need embeddings, which objective={config.objective.kind} does not give"
        )
    tasks = [build_task(load_task(name), Bootstrap(resamples=0), split="valid") for name in config.tasks]
    encoder_of, data = experiment.encoder, config.data

    def evaluate() -> Iterable[tuple[str, str, float]]:
        # A cache a run: the weights change between two runs without changing their name.
        cache = EmbeddingCache(batch_size=64, workers=data.workers, max_pixels=data.max_pixels)
        encoder = encoder_of("in training")
        for task in tasks:
            for metric in task.run(encoder, cache).metrics:
                yield task.name, metric.name, metric.value

    return evaluate


@dataclass
class Loaded:
    """A checkpoint, ready for use.

    clip: the model in eval mode with its tokenizer and preprocessing.
    config: what it was trained with.
    weights_sha256: the hash of its weights.
    """

    clip: Clip
    config: TrainConfig
    weights_sha256: str


def load_clip(path: str | Path) -> Loaded:
    """The CLIP model of a checkpoint.

    Raises:
        CheckpointError: damaged, not ours, another objective's, or a tokenizer that differs from the one trained with.
    """
    content = load_checkpoint(path)
    card: Mapping[str, Any] = content["medvlp"]
    config = from_dict(card["config"])
    if not isinstance(config.model, ClipConfig):
        raise CheckpointError(f"checkpoint {path} holds model.kind={config.model.kind!r}, not a CLIP model")
    if config.model.name:
        clip = from_architecture(card["model_cfg"], card["preprocess"], config.model.name)
    else:
        clip = build_clip(config.model, weights=False)
    if clip.tokenizer_identity["sha256"] != card["tokenizer"]["sha256"]:
        raise CheckpointError(
            f"checkpoint {path}: tokenizer {card['tokenizer']['name']!r} on this machine has other files than the one it was "
            f"trained with; install the same version of its package or folder"
        )
    clip.model.load_state_dict(content["state_dict"])
    clip = replace(clip, model=clip.model.eval(), preprocess=dict(card["preprocess"]))
    return Loaded(clip, config, card["weights_sha256"])


def run_differences(before: TrainConfig, now: TrainConfig) -> list[str]:
    """Settings that decide what a step computes, and that differ; where data lie and how long a run is are not among them."""
    watched = {
        "": ("seed", "model", "objective"),
        "data": ("global_batch_size", "shuffle_block", "shuffle_window", "augment"),
        "optim": ("lr", "weight_decay", "beta1", "beta2", "eps", "parts"),
        "trainer": ("accumulate", "precision"),
    }
    differing = []
    for group, names in watched.items():
        one, other = (getattr(config, group) if group else config for config in (before, now))
        differing += [f"{group}.{n}" if group else n for n in names if getattr(one, n) != getattr(other, n)]
    blends = [{name: (s.weight, s.texts) for name, s in config.data.sources.items()} for config in (before, now)]
    return differing + (["data.sources"] if blends[0] != blends[1] else [])
