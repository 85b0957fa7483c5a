"""Options of the verbs that neither prepare nor train: eval, check, plan, export, ask."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from medvlp.config.base import ModelConfig
from medvlp.config.clip import ClipConfig
from medvlp.config.evaluation.answering.judge import JudgeConfig
from medvlp.config.evaluation.api import ApiConfig
from medvlp.config.evaluation.cache import CacheConfig
from medvlp.config.evaluation.groupings import parse_groupings
from medvlp.config.evaluation.load import LoadConfig
from medvlp.config.llava import LlavaConfig
from medvlp.config.objectives.contrastive import ContrastiveConfig
from medvlp.config.rules import ConfigError, at_least, one_of, share
from medvlp.config.train import TrainConfig, check_ranks
from medvlp.costs.devices import GPUS, LINKS

ACCELERATORS = ("auto", "cpu", "gpu")
EVAL_ENGINES = ("local", "ray", "slurm")


@dataclass(kw_only=True)
class EvalConfig:
    """medvlp eval"""

    verb: str = "eval"
    """The command that a recipe is for."""
    checkpoints: list[str] = MISSING
    """Models to compare: checkpoints, run folders and patterns (`runs/*`), open_clip:, hf: and api: names."""
    tasks: list[str] = MISSING
    """Tasks to run, or groups of them, as [vqa]; `medvlp list tasks` shows both."""
    output: str = ""
    """Folder of the results; default runs/eval/<recipe>."""
    split: str = ""
    """Score this split instead of the one that each task names."""
    batch_size: int = 64
    """Images (of a CLIP) or questions (to an assistant) at once."""
    workers: int = 2
    """Loader processes."""
    resamples: int = 10_000
    """Bootstrap resamples behind every interval."""
    seed: int = 0
    """Seeds the bootstrap, and which images are exchanged for which."""
    by: list[str] = field(default_factory=list)
    """Fields of labels or metadata by whose values the main metrics are given too, `[modality,age:0-40-65]`."""
    people: list[str] = field(default_factory=list)
    """Of such fields those whose groups are people, `[sex]`: with the worst group and equity-scaled metrics."""
    specificity: float = 0.95
    """Sensitivity is given where at least this share of the negatives is cleared."""
    accelerator: str = "auto"
    """auto, cpu or gpu."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this are bad samples."""
    api: ApiConfig = field(default_factory=ApiConfig)
    load: LoadConfig = field(default_factory=LoadConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    engine: str = "local"
    """Where models are measured: local (this process and its ranks), ray, or slurm, which writes the scripts of an array."""
    jobs: int = 1
    """Jobs of engine=ray at once, tasks of the array of engine=slurm; a job measures whole models."""
    ray_address: str = ""
    """With engine=ray: host:port or auto for a cluster that runs; empty starts a Ray on this machine."""
    lm_eval: bool = False
    """Write the results as lm-evaluation-harness does, too: a folder a model in <output>/lm_eval."""
    dry_run: bool = False
    """List the cells, what is cached and what is missing, and measure nothing; --dry-run sets it."""
    cache: CacheConfig = field(default_factory=CacheConfig)

    def check(self) -> None:
        """Ranges, fields, and that there is something to evaluate. Raises ConfigError."""
        self.api.check()
        self.cache.check()
        parse_groupings(self.by, "by")
        parse_groupings(self.people, "people")
        share("specificity", self.specificity)
        self.load.check()
        self.judge.check()
        one_of("accelerator", self.accelerator, ACCELERATORS)
        one_of("engine", self.engine, EVAL_ENGINES)
        at_least("batch_size", self.batch_size, 1)
        at_least("jobs", self.jobs, 1)
        at_least("max_pixels", self.max_pixels, 1)
        if self.workers < 0 or self.resamples < 0:
            raise ConfigError(f"workers={self.workers} and resamples={self.resamples} must not be negative")
        if self.engine == "local" and self.jobs > 1:
            raise ConfigError(
                f"jobs={self.jobs} is for engine=ray and engine=slurm; on this machine, torchrun starts several processes: "
                f"torchrun --nproc-per-node {self.jobs} -m medvlp.evaluate ..."
            )
        if self.ray_address and self.engine != "ray":
            raise ConfigError(f"ray_address={self.ray_address} is for engine=ray, not engine={self.engine}")
        for key, value in (("checkpoints", self.checkpoints), ("tasks", self.tasks)):
            if not value:
                raise ConfigError(f"{key} is empty; give at least one, e.g. '{key}=[...]'")


@dataclass(kw_only=True)
class CheckConfig(TrainConfig):
    """medvlp check"""

    verb: str = "check"
    """The command; recipes for `medvlp train` are taken."""
    source: str = ""
    """Look at a publisher's files through this reader instead of at prepared shards."""
    input: str = ""
    """With source: the folder (or file) as the publisher releases it."""
    flag: str = ""
    """With source: another name for one of its options, as for `medvlp prep`."""
    options: dict[str, Any] = field(default_factory=dict)
    """With source: the reader's own choices, as for `medvlp prep`: options.image=picture."""
    output: str = ""
    """Folder for findings.jsonl, which holds every finding; empty writes none."""
    examples: int = 3
    """Samples whose conversations are printed, with their supervised tokens in colour."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig(kind=""))

    def check(self) -> None:
        """A publisher's files, or all that `medvlp train` asks of its data. Raises ConfigError."""
        if self.examples < 0:
            raise ConfigError(f"examples={self.examples} must not be negative")
        if self.source:
            if self.data.sources or self.model.kind:
                raise ConfigError(
                    f"source={self.source} is about a publisher's files, which no model reads: leave out data, model and recipes"
                )
            return
        if self.input or self.flag or self.options:
            raise ConfigError("input, flag and options belong to source=<name>; `medvlp list sources` shows the names")
        super().check()
        if isinstance(self.model, LlavaConfig) and isinstance(self.objective, ContrastiveConfig):
            raise ConfigError(
                f"objective={self.objective.kind} does not train model.kind={self.model.kind!r}; add objective=instruct"
            )


@dataclass(kw_only=True)
class PlanConfig(TrainConfig):
    """medvlp plan"""

    verb: str = "plan"
    """The command; recipes for `medvlp train` are taken."""
    gpus: int = 8
    """GPUs that train, one a rank."""
    gpus_per_node: int = 8
    """GPUs of a node, which are joined by the GPU's own link."""
    gpu: str = "h100"
    """v100, a100-40, a100, h100, h200, l40s or rtx4090."""
    link: str = "ib-ndr"
    """Between nodes, a GPU: ib-hdr, ib-ndr, ethernet-100g, ethernet-25g, ethernet-10g; or another link instead of it."""
    mfu: float = 0.35
    """Share of the GPU's peak that the towers reach; measure it, and give it."""
    link_share: float = 0.7
    """Share of links and of the GPU's memory bandwidth that is reached."""
    images_per_worker: float = 200.0
    """Images a second of one loader process; measure it, and give it."""
    tokens: int | None = None
    """Tokens of a text, on average; null is the whole context."""
    samples: int | None = None
    """Pairs of an epoch; null counts the prepared sources."""

    def check(self) -> None:
        """Ranges and names, and all that `medvlp train` asks. Raises ConfigError."""
        one_of("gpu", self.gpu, tuple(GPUS))
        one_of("link", self.link, tuple(LINKS))
        for key in ("gpus", "gpus_per_node"):
            at_least(key, getattr(self, key), 1)
        for key in ("tokens", "samples"):
            if getattr(self, key) is not None:
                at_least(key, getattr(self, key), 1)
        for key in ("mfu", "link_share"):
            if not 0 < getattr(self, key) <= 1:
                raise ConfigError(f"{key}={getattr(self, key)} must be above 0 and at most 1")
        if not self.images_per_worker > 0:
            raise ConfigError(f"images_per_worker={self.images_per_worker} must be above 0")
        super().check()
        check_ranks(self, self.gpus)
        if not (isinstance(self.model, ClipConfig) and isinstance(self.objective, ContrastiveConfig)):
            raise ConfigError(
                f"medvlp plan knows the costs of contrastive training of a CLIP model, not yet of objective.kind="
                f"{self.objective.kind!r} with model.kind={self.model.kind!r}"
            )
        if self.trainer.precision == "64-true":
            raise ConfigError("medvlp plan knows no GPU's peak for trainer.precision=64-true; give another precision")


@dataclass(kw_only=True)
class ExportConfig:
    """medvlp export"""

    verb: str = "export"
    """The command that a recipe is for."""
    checkpoint: str = MISSING
    """A checkpoint or run folder of medvlp train, or an open_clip: model."""
    format: str = "open_clip"
    """open_clip, transformers or onnx (CLIP models), or hf (assistants and classifiers: a folder for transformers)."""
    adapter: str = "merged"
    """hf, of LoRA: merged into the language model, or separate, a folder for peft next to it."""
    output: str = MISSING
    """Folder to write."""

    def check(self) -> None:
        """Formats that there are. Raises ConfigError."""
        one_of("format", self.format, ("open_clip", "transformers", "onnx", "hf"))
        one_of("adapter", self.adapter, ("merged", "separate"))


@dataclass(kw_only=True)
class AskConfig:
    """medvlp ask"""

    verb: str = "ask"
    """The command that a recipe is for."""
    checkpoint: str = MISSING
    """What answers: an assistant's checkpoint or run folder, hf:<name or folder>, or api:<base url>#<model>."""
    image: list[str] = field(default_factory=list)
    """An image file, or several as `[a.png,b.png]`: JPEG, PNG or WebP."""
    max_new_tokens: int = 256
    """Tokens of an answer at most."""
    accelerator: str = "auto"
    """auto, cpu or gpu."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this are refused."""
    load: LoadConfig = field(default_factory=LoadConfig)
    api: ApiConfig = field(default_factory=ApiConfig)

    def check(self) -> None:
        """Ranges. Raises ConfigError."""
        self.load.check()
        self.api.check()
        one_of("accelerator", self.accelerator, ACCELERATORS)
        at_least("max_new_tokens", self.max_new_tokens, 1)
        at_least("max_pixels", self.max_pixels, 1)
