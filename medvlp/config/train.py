"""Options of `medvlp train`: data, optimizer, trainer, and what joins them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from medvlp.combinations import ItemFilter, filter_of
from medvlp.config.base import ModelConfig, ObjectiveConfig
from medvlp.config.rules import ConfigError, at_least, check_name, not_negative, one_of, share

PRECISIONS = ("32-true", "64-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "mps")
LOGGERS = ("tensorboard", "wandb", "wandb-offline")


@dataclass(kw_only=True)
class SourceConfig:
    """One prepared dataset in a training blend."""

    path: str = MISSING
    """Folder of one split, as `medvlp prep` writes it: the one that holds manifest.json."""
    weight: float = 1.0
    """Passes over this source in one epoch: 2 shows every sample twice, 0.5 another half each epoch."""
    text_fields: list[str] = field(default_factory=lambda: ["caption*"])
    """Text fields to train on; `caption*` is all captions of a sample (`caption`, `caption_1`, …), `caption` the first alone.
    Of several that a sample has, one is sampled by seed, epoch and position; instruct asks for each."""
    only: list[dict[str, Any]] = field(default_factory=list)
    """Combinations of labels and metadata that are trained on, `[{modality: CT, organ: [liver, spleen]}, {site: 3}]`; empty:
    all."""
    exclude: list[dict[str, Any]] = field(default_factory=list)
    """Combinations that are held out, likewise; the checkpoint's card states them, and `medvlp eval` gives the scores on them
    (unseen) next to those on the others (seen)."""
    caption_prompts: list[str] = field(default_factory=list)
    """instruct: for samples without conversations, questions that their texts answer; the sample's key chooses one."""
    questions_as: str = ""
    """instruct: a task of kind vqa in whose words questions are trained: multiple choice with its options and the letter as the
    answer, the others with its instruction, e.g. medqa."""
    question_template: str = ""
    """instruct: what each last question becomes, e.g. `{question} It is about the {organ}.`; `{name}` is a field of the
    conversation's metadata. Boxes stand in the question itself, as `<box>` (docs/boxes.md)."""
    answer_template: str = ""
    """instruct: what each last answer becomes, e.g. `{rationale} The answer: {answer}`."""

    def check(self, name: str) -> None:
        """Rules of one source, known by its name in the blend. Raises ConfigError."""
        check_name("data.sources", name)
        if not self.weight > 0:
            raise ConfigError(f"data.sources.{name}.weight={self.weight} must be above 0; drop the source instead")
        if not self.text_fields:
            raise ConfigError(f"data.sources.{name}.text_fields is empty; name a text field, e.g. [caption]")
        for key, template in (("question_template", self.question_template), ("answer_template", self.answer_template)):
            if "{box}" in template or "{boxes}" in template:
                raise ConfigError(
                    f"data.sources.{name}.{key} names {{box}}: boxes are written in the model's form (objective.box_form), where "
                    f"<box> stands in the data; prepare them again, so that it does, and leave it out here"
                )
        self.item_filter(name)

    def item_filter(self, name: str) -> ItemFilter:
        """What is trained on of the source. Raises CombinationError."""
        return filter_of({"only": self.only, "exclude": self.exclude}, f"data.sources.{name}")


@dataclass(kw_only=True)
class AugmentConfig:
    """Random crops. There is no flip: it would turn left findings into right ones."""

    scale: list[float] = field(default_factory=lambda: [0.9, 1.0])
    """Smallest and largest share of the image's area that a crop keeps."""
    ratio: list[float] = field(default_factory=lambda: [0.75, 1.3333333333333333])
    """Narrowest and widest aspect ratio of a crop."""

    def check(self) -> None:
        """Both ranges are ranges. Raises ConfigError."""
        for key, bounds, most in (("scale", self.scale, 1.0), ("ratio", self.ratio, float("inf"))):
            if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1] <= most:
                limit = " <= 1" if most == 1 else ""
                raise ConfigError(
                    f"data.augment.{key}={bounds} must be [smallest, largest] with 0 < smallest <= largest{limit}"
                )


@dataclass(kw_only=True)
class DataConfig:
    """What is trained on, and how it is read."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """The blend by name; `data=[roco,quilt]` joins two options, `data.sources.a.weight=2` changes one."""
    global_batch_size: int = 64
    """Samples in one optimizer step, over all ranks and accumulated batches."""
    workers: int = 2
    """Loader processes a rank. Neither the order nor the augmentation depends on it."""
    shuffle_block: int = 0
    """Neighbouring samples read together, for disks where random reads are slow; 0 shuffles sample by sample."""
    shuffle_window: int = 64
    """Blocks mixed with each other when shuffle_block is set."""
    max_bad_fraction: float = 0.01
    """Share of distinct samples that may be unreadable before the run stops."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this are bad samples (a decompression bomb's defence)."""
    log_samples: bool = False
    """Write the keys of every step to samples.jsonl."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def check(self) -> None:
        """Rules of the blend and of how it is read. Raises ConfigError."""
        at_least("data.global_batch_size", self.global_batch_size, 1)
        at_least("data.max_pixels", self.max_pixels, 1)
        at_least("data.shuffle_window", self.shuffle_window, 1)
        not_negative("data.workers", self.workers)
        not_negative("data.shuffle_block", self.shuffle_block)
        share("data.max_bad_fraction", self.max_bad_fraction)
        if not self.sources:
            raise ConfigError("data.sources is empty; choose prepared data with data=<option> or a recipe")
        for name, source in self.sources.items():
            source.check(name)
        self.augment.check()


@dataclass(kw_only=True)
class PartConfig:
    """How one part of a model learns."""

    freeze: bool = False
    """Keep its weights, and keep it in eval mode (no dropout, batch norm statistics fixed)."""
    lr: float | None = None
    """Its own peak learning rate instead of optim.lr."""


@dataclass(kw_only=True)
class OptimConfig:
    """AdamW with warm-up and decay."""

    lr: float = 5e-4
    """Peak learning rate."""
    weight_decay: float = 0.2
    """Decay of matrices; biases, norms, embeddings of position and scalars are spared."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.98
    """Decay of the mean of squared gradients."""
    eps: float = 1e-6
    """Added to the root of the mean of squared gradients."""
    warmup_steps: int = 0
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """After warm-up: cosine, linear or constant."""
    final_lr_fraction: float = 0.0
    """Where cosine and linear end, as a share of the peak."""
    clip_norm: float = 0.0
    """Global norm that gradients are clipped to; 0 does not clip."""
    parts: dict[str, PartConfig] = field(default_factory=dict)
    """By part of the model (CLIP: vision, vision_head, text, text_head, logit_scale)."""

    def check(self) -> None:
        """Ranges, and a schedule that there is. Raises ConfigError."""
        for key in ("lr", "weight_decay", "warmup_steps", "clip_norm", "eps"):
            not_negative(f"optim.{key}", getattr(self, key))
        share("optim.final_lr_fraction", self.final_lr_fraction)
        share("optim.beta1", self.beta1, below_1=True)
        share("optim.beta2", self.beta2, below_1=True)
        one_of("optim.schedule", self.schedule, ("cosine", "linear", "constant"))


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
    """auto (DDP where there are several ranks) or ddp."""
    accumulate: int = 1
    """Parts of a rank's share of the batch that go through the model one after the other, so that it fits into memory. The step
    is that of the whole batch: a contrastive one has all its negatives (GradCache)."""
    compile: bool = False
    """torch.compile the towers."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    checkpoint_every: int = 500
    """Steps between two checkpoints; the last three and the best are kept."""
    eval_every: int = 0
    """Steps between two runs of `tasks` on their `valid_split`; 0 evaluates at the end only."""
    monitor: str = ""
    """`<task>/<metric>` that chooses best.ckpt, e.g. rocov2_retrieval/text_to_image_recall@10."""
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
        one_of("trainer.precision", self.precision, PRECISIONS)
        one_of("trainer.strategy", self.strategy, ("auto", "ddp"))
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
        if self.data.global_batch_size % self.trainer.accumulate:
            raise ConfigError(
                f"data.global_batch_size={self.data.global_batch_size} is not a multiple of "
                f"trainer.accumulate={self.trainer.accumulate}"
            )
        if self.trainer.monitor and self.trainer.monitor.split("/")[0] not in self.tasks:
            raise ConfigError(f"trainer.monitor={self.trainer.monitor!r} names no task of tasks={self.tasks}")
        self.objective.check(self)
        self.model.check()


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
        folder = Path(source.path)
        if not (folder / "manifest.json").is_file():
            state = (
                "has no manifest.json: it is unfinished or not a shard folder" if folder.is_dir() else "does not exist"
            )
            raise ConfigError(
                f"data.sources.{name}.path: {folder} {state}. Prepare it with\n"
                f"  medvlp prep source={name} input=<the publisher's files> output={folder.parent}"
            )
