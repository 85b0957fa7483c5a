"""Options of `medvlp train`: data, optimizer, trainer, and what joins them."""

from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from medvlp.config.base import ModelConfig, ObjectiveConfig
from medvlp.config.data.sources import DataConfig
from medvlp.config.optim import OptimConfig
from medvlp.config.rules import ConfigError, at_least, check_name, not_negative, one_of

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
LOGGERS = ("tensorboard", "wandb", "wandb-offline")


@dataclass(kw_only=True)
class TrainerConfig:
    """How long, how precisely and how often."""

    max_steps: int | None = None
    """Optimizer steps in all. With max_epochs too, the run ends at the first; on the command line, one replaces the other."""
    max_epochs: int | None = None
    """Passes over the blend. With max_steps too, the run ends at the first; on the command line, one replaces the other."""
    precision: str = "32-true"
    """Lightning's names: 32-true, 64-true, bf16-mixed, bf16-true, 16-mixed."""
    accelerator: str = "auto"
    """auto, cpu, gpu or another of Lightning's names."""
    strategy: str = "auto"
    """auto (DDP where there are several ranks), ddp, or fsdp: the towers' weights, gradients and optimizer states are divided
    among the ranks (objective=contrastive)."""
    accumulate: int = 1
    """Parts of a rank's share of the batch that go through the model one after the other, so that it fits into memory. The step
    is that of the whole batch: a contrastive one has all its negatives (GradCache)."""
    compile: bool = False
    """torch.compile the towers."""
    non_finite: str = "stop"
    """At a loss or gradient that is no finite number: stop, or skip the step. Both leave a capture that `medvlp replay` runs."""
    max_skipped: int = 10
    """Steps that trainer.non_finite=skip may leave out before the run stops."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; the last three and the best are kept."""
    eval_every: int = 0
    """Steps between two runs of `tasks` on their `valid_split`; 0 evaluates at the end only."""
    monitor: str = ""
    """`<task>/<metric>` that chooses best.ckpt, e.g. rocov2_retrieval/text_to_image_recall@10: the highest value, of errors
    (ece, brier, …) the lowest."""
    forgetting: str = ""
    """`<task>/<metric>` that is measured before the first step too, on a task of what the model knew before: rows of later
    evaluations say in `forgotten` how much of it is lost."""
    loggers: list[str] = field(default_factory=list)
    """Besides metrics.jsonl: tensorboard, wandb, wandb-offline."""

    def check(self) -> None:
        """A run has an end, and Lightning knows the names. Raises ConfigError."""
        if self.max_steps is None and self.max_epochs is None:
            raise ConfigError("give trainer.max_steps or trainer.max_epochs (with both, the run ends at the first)")
        for key in ("max_steps", "max_epochs", "accumulate", "log_every", "checkpoint_every"):
            if (number := getattr(self, key)) is not None:
                at_least(f"trainer.{key}", number, 1)
        not_negative("trainer.eval_every", self.eval_every)
        not_negative("trainer.max_skipped", self.max_skipped)
        one_of("trainer.non_finite", self.non_finite, ("stop", "skip"))
        one_of("trainer.precision", self.precision, PRECISIONS)
        one_of("trainer.strategy", self.strategy, ("auto", "ddp", "fsdp"))
        one_of("trainer.accelerator", self.accelerator, ACCELERATORS)
        for logger in self.loggers:
            one_of("trainer.loggers", logger, LOGGERS)


@dataclass(kw_only=True)
class TrainConfig:
    """medvlp train"""

    verb: str = "train"
    """The command that a recipe is for."""
    run_name: str = "run"
    """The run's folder is <run_root>/<run_name>."""
    run_root: str = "runs"
    """Where runs are kept."""
    seed: int = 0
    """Seeds initialisation, order, augmentation and dropout."""
    resume: str = "none"
    """none, auto (the newest whole checkpoint of this run, or a fresh start), or a checkpoint's path."""
    init_from: str = ""
    """A model whose weights this run starts from: a checkpoint or folder of another run, an `open_clip:` model (of a CLIP), or
    the `hf:<folder>` of an exported assistant."""
    init_parts: list[str] = field(default_factory=list)
    """Which parts of init_from to take; empty takes all."""
    stages: dict[str, list[str]] = field(default_factory=dict)
    """Runs one after the other, by name, each with its own overrides; each starts from the former's last checkpoint. The last
    one's folder is run_name, the others' run_name__<stage>. What the command line gives holds for all."""
    tasks: list[str] = field(default_factory=list)
    """Evaluation tasks, or groups of them, run during training on their `valid_split`."""
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = MISSING
    objective: ObjectiveConfig = MISSING
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def check(self) -> None:
        """The rules of every group, and those that join groups. Raises ConfigError."""
        check_name("run_name", self.run_name, "; run_root says where runs are kept")
        for stage in self.stages:
            check_name("stages", stage)
        self.trainer.check()
        self.optim.check()
        self.data.check()
        if not self.objective.trains_pairs:
            for name, source in self.data.sources.items():
                if keys := source.keys_of_pairs:
                    raise ConfigError(
                        f"data.sources.{name}.{keys[0]} makes pairs of samples, which objective={self.objective.kind} does not "
                        f"train on; leave it out"
                    )
        if self.optim.fused and self.optim.clip_norm and self.trainer.precision == "16-mixed":
            raise ConfigError(
                "optim.fused=true takes the loss's scale out of the gradients by itself, so with trainer.precision=16-mixed they "
                "cannot be clipped before; set optim.fused=false, optim.clip_norm=0, or another precision"
            )
        if self.trainer.strategy == "fsdp":
            self.check_sharding()
        if self.data.global_batch_size % self.trainer.accumulate:
            raise ConfigError(
                f"data.global_batch_size={self.data.global_batch_size} is not a multiple of "
                f"trainer.accumulate={self.trainer.accumulate}"
            )
        for key in ("monitor", "forgetting"):
            name = getattr(self.trainer, key)
            if name and name.split("/")[0] not in self.tasks:
                raise ConfigError(f"trainer.{key}={name!r} names no task of tasks={self.tasks}")
        self.objective.check(self)
        self.model.check()

    def check_sharding(self) -> None:
        """What divided towers cannot do. Raises ConfigError."""
        if not self.objective.trains_towers:
            raise ConfigError(
                f"trainer.strategy=fsdp divides a CLIP's towers (objective=contrastive), not what "
                f"objective={self.objective.kind} trains; set trainer.strategy=ddp"
            )
        if self.trainer.compile:
            raise ConfigError("trainer.compile=true was not tried with trainer.strategy=fsdp; leave one of them out")
        precisions = [name for name in PRECISIONS if name not in ("64-true", "16-mixed")]
        one_of("with trainer.strategy=fsdp, trainer.precision", self.trainer.precision, precisions)


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


def require_prepared(config: TrainConfig) -> None:
    """Every source is a finished shard folder, or the message says how to make it. Reads no more than that a manifest is there.

    Raises:
        ConfigError: names the folder and the prep command.
    """
    for name, source in config.data.sources.items():
        if source.is_remote:
            continue  # opening it says what is wrong with it
        folder = Path(source.path)
        if not (folder / "manifest.json").is_file():
            state = (
                "has no manifest.json: it is unfinished or not a shard folder" if folder.is_dir() else "does not exist"
            )
            raise ConfigError(
                f"data.sources.{name}.path: {folder} {state}. Prepare it with\n"
                f"  medvlp prep source={name} input=<the publisher's files> output={folder.parent}"
            )
