"""`medvlp plan`: memory of a GPU, seconds of a step by part, and hours of a training before it runs."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.cli import run_verb
from medvlp.config import ContrastiveConfig, PlanConfig, compose, verb_help
from medvlp.costs.devices import GIB, GPUS, LINKS, Machine
from medvlp.errors import UsageError
from medvlp.shards import read_manifest
from medvlp.shards.manifest import MANIFEST
from medvlp.terminal import printable

if TYPE_CHECKING:
    from medvlp.builders.planned import PlannedModel
    from medvlp.costs.step import Step

UNKNOWN = (
    "not known: the CUDA context and NCCL's buffers (about 1–2 GiB), fragmentation, other jobs on disks and links, evaluation",
    "no figure here was checked on a GPU: mfu, link_share and images_per_worker are to be measured; docs/plan.md",
)


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp plan`; returns the exit code."""
    return run_verb("plan", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return verb_help("plan")


def parse(args: list[str]) -> PlanConfig:
    """The configuration. Raises UsageError, ConfigError."""
    if not args:
        raise UsageError
    config: PlanConfig = compose("plan", args)
    return config


def work(config: PlanConfig) -> int:
    """Count the model and print what its training costs. Raises UserError: no such architecture, or nothing there."""
    from medvlp.builders.planned import planned_model
    from medvlp.environment import set_up_libraries

    set_up_libraries()
    plan = planned_model(config, config.gpus, config.tokens)
    print("\n".join(map(printable, lines_of(config, plan))))
    return 0


def machine_of(config: PlanConfig) -> Machine:
    """What each rank reaches, by the makers' figures and the shares of the configuration."""
    gpu = GPUS[config.gpu]
    is_single = config.trainer.precision == "32-true"
    bandwidth = LINKS[gpu.link]
    if config.gpus > config.gpus_per_node:
        bandwidth = min(bandwidth, LINKS[config.link])
    return Machine(
        compute=config.mfu * (gpu.single if is_single else gpu.half),
        loss=config.mfu * gpu.single,
        activations=None,
        memory=config.link_share * gpu.bandwidth,
        link=config.link_share * bandwidth,
        images=config.images_per_worker,
    )


def step_of(config: PlanConfig, plan: "PlannedModel") -> "Step":
    """The step of a configuration."""
    from medvlp.costs.step import Step

    assert isinstance(config.objective, ContrastiveConfig)
    return Step(
        counts=plan.counts,
        model=plan.model,
        pairs=config.data.global_batch_size,
        ranks=config.gpus,
        parts=config.trainer.accumulate,
        width=plan.width,
        size=plan.size,
        chunk=int(config.objective.options.get("chunk") or 0) or plan.rows,
        workers=config.data.workers,
        ema=config.optim.ema_decay > 0,
        fused=config.optim.fused,
    )


def samples_of(config: PlanConfig) -> tuple[float, str]:
    """(pairs of an epoch, why they are not known): 0 where they are not. Raises ShardError: a manifest that is damaged."""
    if config.samples:
        return config.samples, ""
    total = 0.0
    for name, source in config.data.sources.items():
        if source.is_remote:
            return 0, f"data.sources.{name}.path is an address"
        if not (Path(source.path) / MANIFEST).is_file():
            return 0, f"data.sources.{name}.path={source.path} is not prepared"
        total += read_manifest(Path(source.path))[0].samples * source.weight
    return total, ""


def lines_of(config: PlanConfig, plan: "PlannedModel") -> list[str]:
    """What is printed: the model, memory, a step, hours, and what is not known."""
    from medvlp.costs.step import memory_of, seconds_of

    gpu, step = GPUS[config.gpu], step_of(config, plan)
    seconds, memory = seconds_of(step, machine_of(config)), memory_of(step)
    total = memory.pop("total")
    parts = f", {step.parts} parts of {step.part_pairs}" if step.parts > 1 else ""
    lines = [
        f"{config.gpus} × {config.gpu} ({gpu.source}), {config.trainer.precision}, mfu={config.mfu}, "
        f"link_share={config.link_share}",
        f"{step.pairs} pairs a step, {step.rank_pairs} a GPU{parts}; images of {plan.size} px, {plan.tokens} tokens",
        "",
        "FLOPs of a pair           forward      backward",
    ]
    lines += [
        f"  {name:<16}{tower.forward / 1e9:>12.2f} G{tower.backward / 1e9:>12.2f} G"
        for name, tower in zip(("image tower", "text tower"), plan.counts.towers, strict=True)
    ]
    lines += ["", f"memory of a GPU       {total / GIB:10.3f} GiB of {gpu.memory / GIB:.0f}"]
    lines += [f"  {name:<22}{size / GIB:8.3f} GiB" for name, size in memory.items() if size]
    if total > gpu.memory:
        lines.append("  DOES NOT FIT: raise trainer.accumulate or gpus, or set model.gradient_checkpointing=true")
    step_seconds = seconds.pop("step")
    lines += ["", f"a step                {1e3 * step_seconds:10.1f} ms, {step.pairs / step_seconds:,.0f} pairs/s"]
    lines += [f"  {name:<22}{1e3 * value:8.1f} ms" for name, value in seconds.items()]
    if seconds["data"] > step_seconds - 1e-12:
        need = sum(value for name, value in seconds.items() if name != "data")
        workers = math.ceil(step.rank_pairs / (need * config.images_per_worker))
        lines.append(f"  THE LOADER IS SLOWER than the GPU; data.workers={workers} would keep up")
    lines += ["", *hours_lines(config, step_seconds), ""]
    lines += [f"{note}" for note in plan.notes]
    if any(source.only or source.exclude for source in config.data.sources.values()):
        lines.append("what only and exclude hold out of sources is counted as trained on")
    return [*lines, *UNKNOWN]


def hours_lines(config: PlanConfig, seconds: float) -> list[str]:
    """How long the run takes, of as many steps as the configuration gives."""
    samples, reason = samples_of(config)
    limits = [] if config.trainer.max_steps is None else [config.trainer.max_steps]
    if config.trainer.max_epochs and samples:
        limits.append(max(int(samples // config.data.global_batch_size), 1) * config.trainer.max_epochs)
    if not limits or (config.trainer.max_epochs and not samples):
        hint = f"the length is not known: {reason}; give samples=<pairs of an epoch>"
        return [hint] if not limits else [hint, _length(min(limits), seconds, config)]
    return [_length(min(limits), seconds, config)]


def _length(steps: int, seconds: float, config: PlanConfig) -> str:
    hours = steps * seconds / 3600
    return f"{steps:,} steps: {hours:,.2f} hours, {hours * config.gpus:,.1f} GPU hours"


if __name__ == "__main__":
    sys.exit(main())
