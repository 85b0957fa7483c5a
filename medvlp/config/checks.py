"""The rules that no single field can express. Each message says what to change."""

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from medvlp.config import preparation
from medvlp.config.assistant import InstructConfig, LlavaConfig, WordsConfig
from medvlp.config.inspection import CheckConfig
from medvlp.config.names import fault_of
from medvlp.config.preparation import PrepConfig
from medvlp.config.schema import (
    AskConfig,
    ClipConfig,
    ContrastiveConfig,
    EvalConfig,
    ExportConfig,
    TaskConfig,
    TrainConfig,
)
from medvlp.errors import UserError


class ConfigError(UserError):
    """The configuration is wrong; the message says which key, and how to mend it."""


def suggestion(name: str, choices: Sequence[str]) -> str:
    """`; did you mean 'x'?` for the nearest choice, or a full stop."""
    close = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


def one_of(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise unless a string is one of its choices."""
    if value not in choices:
        raise ConfigError(f"{key}={value!r} is not a choice{suggestion(value, choices)} Choices: {', '.join(choices)}")


def check_name(key: str, name: str, advice: str = "") -> None:
    """Raise unless a name can become a folder's or a file's."""
    if fault := fault_of(name):
        raise ConfigError(f"{key}={name!r} must be a plain folder name: {fault}{advice}")


PRECISIONS = ("32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
ATTENTION = ("sdpa", "eager", "flex_attention", "flash_attention_2", "flash_attention_3")
LOGGERS = ("tensorboard", "wandb", "wandb-offline")
TASK_KINDS = ("zero_shot", "retrieval", "vqa")
ANSWER_TYPES = ("closed", "open", "multiple_choice")
CONTROLS = ("best_constant", "blank_image", "shuffled_images")


def check(config: object) -> None:
    """Cross-field rules of a composed configuration.

    Raises:
        ConfigError: names the key, what was found, and how to mend it.
    """
    if isinstance(config, CheckConfig):
        check_inspection(config)
    elif isinstance(config, TrainConfig):
        check_train(config)
    elif isinstance(config, EvalConfig):
        one_of("accelerator", config.accelerator, ("auto", "cpu", "gpu"))
        for name, number in (("batch_size", config.batch_size), ("max_pixels", config.max_pixels)):
            if number < 1:
                raise ConfigError(f"{name}={number} must be at least 1")
        if config.workers < 0 or config.resamples < 0:
            raise ConfigError(f"workers={config.workers} and resamples={config.resamples} must not be negative")
        for key, value in (("checkpoints", config.checkpoints), ("tasks", config.tasks)):
            if not value:
                raise ConfigError(f"{key} is empty; give at least one, e.g. '{key}=[...]'")
    elif isinstance(config, TaskConfig):
        check_task(config)
    elif isinstance(config, ExportConfig):
        one_of("format", config.format, ("open_clip", "hf"))
        one_of("adapter", config.adapter, ("merged", "separate"))
    elif isinstance(config, PrepConfig):
        check_preparation(config)
    elif isinstance(config, AskConfig):
        one_of("accelerator", config.accelerator, ("auto", "cpu", "gpu"))
        for name, number in (("max_new_tokens", config.max_new_tokens), ("max_pixels", config.max_pixels)):
            if number < 1:
                raise ConfigError(f"{name}={number} must be at least 1")


def check_task(task: TaskConfig) -> None:
    """The rules of an evaluation task."""
    check_name("a task's name", task.name)
    place = f"task {task.name}"
    one_of(f"{place}: kind", task.kind, TASK_KINDS)
    for key, values, choices in (
        ("answer_types", task.answer_types, ANSWER_TYPES),
        ("controls", task.controls, CONTROLS),
    ):
        for value in values:
            one_of(f"{place}: {key}", value, choices)
    if task.max_new_tokens < 1 or task.valid_limit < 0:
        raise ConfigError(
            f"{place}: max_new_tokens={task.max_new_tokens} must be at least 1 and valid_limit={task.valid_limit} not negative"
        )


def check_preparation(config: PrepConfig) -> None:
    """Choices and limits of a preparation, and that nothing is asked of stages that are switched off."""
    for key, value, choices in (
        ("engine", config.engine, preparation.ENGINES),
        ("panels", config.panels, preparation.PANELS),
        ("deidentify", config.deidentify, preparation.DEIDENTIFY),
        ("duplicates", config.duplicates, preparation.DUPLICATES),
        ("split", config.split, preparation.SPLITS),
        ("contaminated", config.contaminated, preparation.CONTAMINATED),
    ):
        one_of(key, value, choices)
    for key, values, names in (
        ("duplicates_in", config.duplicates_in, preparation.SPLIT_NAMES),
        ("decontaminate_by", config.decontaminate_by, preparation.MATCHES),
    ):
        if not values:
            raise ConfigError(f"{key} is empty; name at least one of {', '.join(names)}, or leave it out")
        for value in values:
            one_of(key, value, names)
    for key in ("workers", "samples_per_shard", "max_pixels", "min_side", "max_aspect"):
        if getattr(config, key) < 1:
            raise ConfigError(f"{key} is {getattr(config, key)}, expected 1 or more")
    if not config.max_aspect <= 50:
        raise ConfigError(f"max_aspect is {config.max_aspect}, expected at most 50: training takes no narrower strips")
    if not 0 <= config.max_blacked <= 1:
        raise ConfigError(f"max_blacked={config.max_blacked} is a share: from 0 to 1")
    limits = config.intensity
    if limits and not (len(limits) == 2 and all(map(math.isfinite, limits)) and limits[0] < limits[1]):
        raise ConfigError(f"intensity={limits} should be the values shown black and white, such as intensity=[0,4095]")
    if config.retries < 0 or not 0 <= config.duplicates_radius <= 32:
        raise ConfigError(
            f"retries={config.retries} must not be negative, duplicates_radius={config.duplicates_radius} from 0 to 32"
        )
    shares = config.fractions
    strange = set(shares) - {"train", "valid", "test"}
    if strange or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(f"fractions={shares} must be shares of train, valid and test that add up to 1")
    if not 0 <= config.holdout < 1:
        raise ConfigError(f"holdout={config.holdout} must be a share of train's groups, from 0 to below 1")
    if config.holdout and config.split == "random":
        raise ConfigError(
            f"holdout={config.holdout} takes from a published train; with split=random, fractions.valid does"
        )
    asked = {
        "licences": config.licences,
        "languages": config.languages,
        "panels": config.panels != "keep",
        "deidentify": config.deidentify not in ("auto", "none"),
        "duplicates": config.duplicates == "drop",
        "decontaminate": config.decontaminate,
        "intensity": config.intensity,
    }
    refused = [name for name, value in asked.items() if value]
    if not config.checks and refused:
        raise ConfigError(f"checks=false only packs files, but {', '.join(refused)} needs them read; leave it out")


def check_inspection(config: CheckConfig) -> None:
    """A publisher's files, or all that `medvlp train` asks of its data."""
    if config.shown < 0:
        raise ConfigError(f"shown={config.shown} must not be negative")
    if config.source:
        if config.data.sources or config.model.kind:
            raise ConfigError(
                f"source={config.source} looks at a publisher's files, which no model reads: leave out data, model and recipes"
            )
        return
    if config.input or config.flag or config.options:
        raise ConfigError("input, flag and options belong to source=<name>; `medvlp list sources` shows the names")
    check_train(config)
    if isinstance(config.model, LlavaConfig) and isinstance(config.objective, ContrastiveConfig):
        raise ConfigError(
            f"objective={config.objective.kind} does not train model.kind={config.model.kind!r}; add objective=instruct"
        )


def check_train(config: TrainConfig) -> None:
    """The rules of `medvlp train`."""
    data, trainer, optim = config.data, config.trainer, config.optim
    check_name("run_name", config.run_name, "; run_root says where runs are kept")
    for stage in config.stages:
        check_name("stages", stage)
    if trainer.max_steps is None and trainer.max_epochs is None:
        raise ConfigError("give trainer.max_steps or trainer.max_epochs (with both, the run ends at the first)")
    for key, number in (
        ("trainer.max_steps", trainer.max_steps),
        ("trainer.max_epochs", trainer.max_epochs),
        ("data.global_batch_size", data.global_batch_size),
        ("trainer.accumulate", trainer.accumulate),
        ("trainer.log_every", trainer.log_every),
        ("trainer.checkpoint_every", trainer.checkpoint_every),
        ("data.max_pixels", data.max_pixels),
        ("data.shuffle_window", data.shuffle_window),
    ):
        if number is not None and number < 1:
            raise ConfigError(f"{key}={number} must be at least 1")
    for key, low in (
        ("optim.lr", optim.lr),
        ("optim.weight_decay", optim.weight_decay),
        ("optim.warmup_steps", optim.warmup_steps),
        ("optim.clip_norm", optim.clip_norm),
        ("optim.eps", optim.eps),
        ("trainer.eval_every", trainer.eval_every),
        ("data.workers", data.workers),
        ("data.shuffle_block", data.shuffle_block),
    ):
        if low < 0:
            raise ConfigError(f"{key}={low} must not be negative")
        if not math.isfinite(low):
            raise ConfigError(f"{key}={low} must be a number")
    for key, share in (
        ("data.max_bad_fraction", data.max_bad_fraction),
        ("optim.final_lr_fraction", optim.final_lr_fraction),
        ("optim.beta1", optim.beta1),
        ("optim.beta2", optim.beta2),
    ):
        if not 0 <= share <= 1 or (share == 1 and "beta" in key):
            raise ConfigError(f"{key}={share} is a share: from 0 to 1")
    one_of("optim.schedule", optim.schedule, ("cosine", "linear", "constant"))
    one_of("trainer.precision", trainer.precision, PRECISIONS)
    one_of("trainer.strategy", trainer.strategy, ("auto", "ddp"))
    one_of("trainer.accelerator", trainer.accelerator, ACCELERATORS)
    for logger in trainer.loggers:
        one_of("trainer.loggers", logger, LOGGERS)
    if not data.sources:
        raise ConfigError("data.sources is empty; choose prepared data with data=<option> or a recipe")
    for name, source in data.sources.items():
        check_name("data.sources", name)
        if not source.weight > 0:
            raise ConfigError(f"data.sources.{name}.weight={source.weight} must be above 0; drop the source instead")
        if not source.texts:
            raise ConfigError(f"data.sources.{name}.texts is empty; name a text field, e.g. [caption]")
    if data.global_batch_size % trainer.accumulate:
        raise ConfigError(
            f"data.global_batch_size={data.global_batch_size} is not a multiple of trainer.accumulate={trainer.accumulate}"
        )
    if trainer.monitor and trainer.monitor.split("/")[0] not in config.tasks:
        raise ConfigError(f"trainer.monitor={trainer.monitor!r} names no task of tasks={config.tasks}")
    for key, bounds, most in (("scale", data.augment.scale, 1.0), ("ratio", data.augment.ratio, float("inf"))):
        if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
            limit = " <= 1" if most == 1 else ""
            raise ConfigError(
                f"data.augment.{key}={bounds} must be [smallest, largest] with 0 < smallest <= largest{limit}"
            )
    if isinstance(config.objective, ContrastiveConfig):
        check_contrastive(config, config.objective)
    if isinstance(config.objective, InstructConfig):
        check_instruct(config, config.objective)
    if isinstance(config.objective, WordsConfig):
        check_words(config, config.objective)
    if isinstance(config.model, ClipConfig):
        check_clip(config.model)
    if isinstance(config.model, LlavaConfig):
        check_llava(config.model)


def check_ranks(config: TrainConfig, ranks: int, on_node: int = 1) -> None:
    """What the number of ranks must fit, which no configuration knows.

    Args:
        on_node: ranks of this node.
    Raises:
        ConfigError: says which numbers do.
    """
    if ranks % on_node:
        raise ConfigError(f"{ranks} ranks, {on_node} of them on this node: every node needs the same number of ranks")
    size, accumulate = config.data.global_batch_size, config.trainer.accumulate
    if size % (accumulate * ranks):
        batches = f" and trainer.accumulate={accumulate}" if accumulate > 1 else ""
        near = size // (accumulate * ranks) * accumulate * ranks
        raise ConfigError(
            f"data.global_batch_size={size} cannot be divided evenly among {ranks} ranks{batches}; use a multiple of "
            f"{accumulate * ranks}, such as {near or accumulate * ranks}"
        )


def check_clip(model: ClipConfig) -> None:
    """A named model brings its towers; what would be ignored is refused."""
    if model.image.resize_mode is not None:
        one_of("model.image.resize_mode", model.image.resize_mode, ("shortest", "longest", "squash"))
    one_of("model.vision.proj", model.vision.proj, ("linear", "mlp", "none"))
    one_of("model.text.proj", model.text.proj, ("linear", "mlp"))
    one_of("model.text.pooler", model.text.pooler, ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler"))
    plain = ClipConfig()
    if model.name:
        given = [key for key in ("embed_dim", "temperature", "vision") if getattr(model, key) != getattr(plain, key)]
        given += ["text"] if replace(model.text, context_length=None) != plain.text else []
        if given:
            raise ConfigError(
                f"model.{given[0]} has no effect beside model.name={model.name!r}, which brings its own; "
                f"leave model.name empty to put towers together, or write the change into a JSON file for model.name"
            )
    elif model.pretrained:
        raise ConfigError(
            "model.pretrained belongs to model.name; towers have model.vision.weights and model.text.pretrained"
        )


def check_contrastive(config: TrainConfig, objective: ContrastiveConfig) -> None:
    """InfoNCE needs its whole batch at once."""
    if objective.same_text == "positive":
        raise ConfigError(
            "objective.same_text=positive would change nothing but rounding (and what a text tower's dropout makes of one text): "
            "equal texts have equal embeddings, so a target spread over them gives InfoNCE itself, in both directions. What "
            "acts: masked, mil_nce, apart, or objective.positives=label.<name> where texts differ (docs/training.md)"
        )
    one_of("objective.same_text", objective.same_text, ("negative", "masked", "mil_nce", "apart"))
    if (
        objective.positives not in ("", "group")
        and not objective.positives.removeprefix("label.") != objective.positives
    ):
        raise ConfigError(f"objective.positives={objective.positives!r}: expected group, or label.<name>")
    if objective.same_text == "apart" and config.data.shuffle_block:
        raise ConfigError(
            f"objective.same_text=apart deals out a whole epoch, which data.shuffle_block={config.data.shuffle_block} keeps in "
            f"blocks; leave one of them out"
        )
    if config.trainer.accumulate > 1:
        raise ConfigError(
            f"trainer.accumulate={config.trainer.accumulate} does not enlarge a contrastive batch: each of the "
            f"accumulated batches would be contrasted with itself only, so pairs lose their negatives. "
            f"Set trainer.accumulate=1 and use more ranks or a smaller data.global_batch_size"
        )
    if config.trainer.precision == "bf16-true":
        raise ConfigError(
            "trainer.precision=bf16-true would freeze the temperature: near its start, bfloat16 steps by 2^-6, far more than an "
            "update moves it. Use bf16-mixed"
        )
    if objective.max_logit_scale < 1:
        raise ConfigError(f"objective.max_logit_scale={objective.max_logit_scale} must be at least 1")
    if config.data.global_batch_size < 2:
        raise ConfigError("data.global_batch_size=1 leaves a pair without negatives; use 2 or more")


def check_llava(model: LlavaConfig) -> None:
    """What belongs together in an assistant."""
    one_of("model.reduce.kind", model.reduce.kind, ("", "average_pool", "pixel_shuffle"))
    one_of("model.language.quantization", model.language.quantization, ("", "nf4"))
    one_of("model.language.attention", model.language.attention, ATTENTION)
    one_of("model.language.thoughts", model.language.thoughts, ("", "dropped", "kept", "supervised"))
    one_of("model.language.system", model.language.system, ("", "merge", "drop"))
    if model.language.quantization and not model.lora.rank:
        raise ConfigError(
            f"model.language.quantization={model.language.quantization} cannot be trained by itself; set model.lora.rank"
        )
    for key, low, value in (("lora.rank", 0, model.lora.rank), ("reduce.factor", 1, model.reduce.factor)):
        if value < low:
            raise ConfigError(f"model.{key}={value} must be at least {low}")
    is_timm = model.tower.source.startswith("timm:")
    if not is_timm and (model.tower.weights or model.tower.size):
        raise ConfigError(
            f"model.tower.weights and .size belong to timm:<architecture>; model.tower.source={model.tower.source!r} brings "
            f"its own"
        )


def check_instruct(config: TrainConfig, objective: InstructConfig) -> None:
    """Packing, and which attention can keep what is packed apart."""
    one_of("objective.packing", objective.packing, ("tree", "sequence", "none"))
    one_of("objective.too_long", objective.too_long, ("split", "drop"))
    one_of("objective.weighting", objective.weighting, ("token", "sample"))
    if objective.max_length < 8:
        raise ConfigError(f"objective.max_length={objective.max_length} must be at least 8 tokens")
    if not isinstance(config.model, LlavaConfig):
        raise ConfigError(
            f"objective=instruct trains an assistant, not model.kind={config.model.kind!r}; use model=llava"
        )
    attention = config.model.language.attention
    if attention.startswith("flash") and objective.packing == "tree":
        raise ConfigError(
            f"model.language.attention={attention} takes lengths of conversations and no tree; use objective.packing=sequence, "
            f"or flex_attention"
        )
    check_feature_cache(config, objective.feature_cache)


def check_words(config: TrainConfig, objective: WordsConfig) -> None:
    """Words train an assistant's projector, and perhaps its tower."""
    if not isinstance(config.model, LlavaConfig):
        raise ConfigError(f"objective=words trains an assistant, not model.kind={config.model.kind!r}; use model=llava")
    language = config.optim.parts.get("language")
    if not (language and language.freeze):
        raise ConfigError("objective=words does not run the language model; set optim.parts.language.freeze=true")
    if objective.min_samples < 1 or not 0 < objective.max_share <= 1:
        raise ConfigError(
            f"objective.min_samples={objective.min_samples} must be at least 1, and "
            f"objective.max_share={objective.max_share} a share from 0 to 1"
        )
    check_feature_cache(config, objective.feature_cache)


def check_feature_cache(config: TrainConfig, folder: str) -> None:
    """What is kept must not change."""
    vision = config.optim.parts.get("vision")
    if folder and not (vision and vision.freeze):
        raise ConfigError(
            "objective.feature_cache keeps what the tower gives, so the tower must not learn: set "
            "optim.parts.vision.freeze=true"
        )


def require_prepared(config: TrainConfig) -> None:
    """Every source is a finished shard folder, or the message says how to make it. Looks at the manifest's presence only.

    Raises:
        ConfigError: names the folder and the prep command.
    """
    for name, source in config.data.sources.items():
        folder = Path(source.path)
        if not (folder / "manifest.json").is_file():
            state = (
                "has no manifest.json: it is unfinished or not a shard folder" if folder.is_dir() else "does not exist"
            )
            raise ConfigError(
                f"data.sources.{name}.path: {folder} {state}. Prepare it with\n"
                f"  medvlp prep source={name} input=<the publisher's files> output={folder.parent}"
            )
