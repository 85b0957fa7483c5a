"""`medvlp replay <capture>`: a step that gave no finite number, computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.errors import UsageError
from medvlp.terminal import printable

USAGE = """usage: medvlp replay <run>/non_finite/step-<n>

Computes a captured step again, with its weights, batches and random states, all ranks in one process. Says the
loss, the first module whose output is not finite while its inputs are, the samples whose features are not, and the
gradients that are not. Exit code 0: all is finite this time; 1: it is not, or the capture cannot be read; 2: usage."""
MAX_NAMED = 5


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp replay`; returns the exit code."""
    return run_verb("replay", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return USAGE


def parse(args: list[str]) -> Path:
    """The capture's folder. Raises UsageError."""
    if len(args) != 1 or not args[0] or args[0].startswith("-"):
        raise UsageError(f"medvlp replay takes one folder, not {' '.join(args)!r}\n{USAGE}")
    return Path(args[0])


def work(folder: Path) -> int:
    """Compute the step and print what it gives; 1 where that is not finite.

    Raises:
        UserError: the capture or what its configuration names cannot be read.
    """
    from medvlp.builders import build_objective
    from medvlp.config import from_dict
    from medvlp.environment import set_up_libraries
    from medvlp.training.replay import replay
    from medvlp.training.steps.capture import read_capture

    card, ranks = read_capture(folder)
    set_up_libraries()
    config = from_dict(card["config"])
    module = build_objective(config, resuming=True).module
    step = replay(module, card, ranks, config.trainer.accelerator)
    print(f"step {card['step']} on {len(ranks)} rank{'s' * (len(ranks) > 1)}, trainer.precision={card['precision']}")
    print(f"loss: {step.loss} (in the run: {card['loss']})")
    if step.is_finite:
        print("everything is finite here")
        return 0
    print(f"first module with finite inputs and an output that is not: {step.module or 'none; look at the loss'}")
    for title, names in (
        ("samples whose features are not finite", step.keys),
        ("gradients that are not", step.gradients),
    ):
        remainder = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        print(printable(f"{title}: {', '.join(names[:MAX_NAMED]) or 'none'}{remainder}"))
    return 1
