"""`medvlp train`, and `torchrun -m medvlp.train` on several ranks: shards → runs/<run_name>/."""

import sys
from collections.abc import Sequence

from medvlp.cli import run_verb
from medvlp.config import ConfigError, expand_grid, verb_help
from medvlp.distributed import launched_world_size
from medvlp.errors import UserError
from medvlp.runs import Run, facts, runs_of
from medvlp.runs.grid import run_grid

WORLD_SIZE = launched_world_size()


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp train`; returns the exit code."""
    return run_verb("train", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return verb_help("train")


def parse(args: list[str]) -> list[str]:
    """The arguments as they are: what is wrong with them is a matter of all ranks."""
    return args


def work(args: list[str]) -> int:
    """The runs that the arguments describe, one after the other; the first exit code that is not 0."""
    is_multirun = any(arg in ("-m", "--multirun") for arg in args)
    overrides = [arg for arg in args if arg not in ("-m", "--multirun")]
    runs: list[Run] = []
    run_facts: dict[str, tuple[str, str]] = {}
    refusal = ""
    try:
        cells = expand_grid("train", overrides, is_multirun)
        if len(cells) > 1 or cells[0] != overrides:
            if WORLD_SIZE > 1:
                raise ConfigError(
                    "a grid is not run under torchrun; launch one job a cell (launch/sweep.sbatch shows how)"
                )
            return run_grid(cells)
        runs = runs_of(overrides)
        run_facts = facts(runs) if WORLD_SIZE > 1 else {}
    except (UserError, OSError) as error:
        if WORLD_SIZE == 1:
            raise  # before torch is imported
        refusal = str(error)
    from medvlp.training.agreement import Refused, agreeing_peers, say_ending

    try:
        peers = agreeing_peers("the configuration", run_facts, refusal)
    except Refused as refused:
        return say_ending(refused)
    for run in runs:
        if run.is_done:
            print(f"{run.folder}: done before", flush=True)
            continue
        from medvlp.components import hooks_of
        from medvlp.training.fit import fit

        if code := fit(run.config, run.folder, run.checkpoint, peers, hooks_of(run)):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
