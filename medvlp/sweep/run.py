"""The command: plan, measure, join, and tell."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from data_prep.engines import slurm
from medvlp import process
from medvlp.claims import claim, refuse_other_kinds
from medvlp.config import ConfigError, EvalConfig, as_dict
from medvlp.distributed import from_first, in_first, in_step, rank, world_size
from medvlp.environment import set_up_libraries
from medvlp.errors import UserError
from medvlp.eval.statistics.result_files import RESULTS
from medvlp.jsonl import Row
from medvlp.process import FAULT, USER_ERROR
from medvlp.shards.atomic import remove_leftovers, write_text
from medvlp.sweep.cells import CellFolder
from medvlp.sweep.dry_run import tell_dry_run
from medvlp.sweep.engines import run_on_ray, share_of_task, write_scripts
from medvlp.sweep.finish import finish
from medvlp.sweep.measure import Measurement, reason
from medvlp.sweep.plan import SweepPlan, make_plan
from medvlp.training.process_group import process_group


def run_sweep(config: EvalConfig, folder: Path, overrides: Sequence[str]) -> int:
    """Measure every model on every task that fits it; returns the exit code: 1 where a cell failed, 70 where that is our fault.

    overrides: the command line, which jobs elsewhere repeat.

    Raises:
        UserError: what cannot be begun, on rank 0; the others return its code.
    """
    with process_group():
        try:
            return _run(config, folder, overrides)
        except (UserError, OSError) as error:
            if rank() == 0:
                raise
            return process.exit_code(error)


def _run(config: EvalConfig, folder: Path, overrides: Sequence[str]) -> int:
    set_up_libraries()
    in_first(lambda: refuse_other_kinds(folder, "eval", "output"))
    if config.engine != "local" and world_size() > 1:
        raise ConfigError(
            f"engine={config.engine} under torchrun: jobs of a cluster are one process each; leave one out"
        )
    plan = in_step(lambda: make_plan(config))
    measurement = Measurement(config, plan, CellFolder(folder))
    if config.dry_run:
        measurement.read_finished()
        tell_unfit(plan)
        return from_first(lambda: tell_dry_run(plan, measurement.contents, config))
    task = slurm.task() if config.engine == "slurm" else None
    if config.engine == "slurm" and task is None:
        print(write_scripts(config, plan, folder, overrides))
        return 0
    with ExitStack() as claims:
        in_first(lambda: claims.enter_context(claim(folder, "eval", is_shared=task is not None)))
        in_first(lambda: remove_leftovers(folder))
        in_first(measurement.folder.check_joined)
        measurement.read_finished()
        tell_unfit(plan)
        if task is not None:
            measurement.run(share_of_task(plan, *task))
            return ending(measurement)
        measurement.after_cell = Joining(measurement).if_due
        try:
            if config.engine == "ray":
                run_on_ray(measurement)
            else:
                measurement.run(plan.cells)
        finally:
            rows = join(measurement) if rank() == 0 else []
        code = from_first(lambda: process.attempt("eval", lambda: finish(measurement, rows)))
        return max(code, ending(measurement))


class Joining:
    """Joins the files of a sweep while it runs, so rarely that it takes a twentieth of the time at most."""

    def __init__(self, measurement: Measurement) -> None:
        self.measurement, self.due = measurement, 0.0

    def if_due(self) -> None:
        """Join now, unless that was done a moment ago."""
        start = time.monotonic()
        if start >= self.due:
            join(self.measurement)
            self.due = start + 20 * (time.monotonic() - start)


def join(measurement: Measurement) -> list[Row]:
    """Write the files that the finished cells make; also where the command is ended in their midst. An evaluation of which
    nothing came leaves no folder."""
    folder = measurement.folder.folder
    if not measurement.contents and not (folder / RESULTS).exists():
        return []
    write_text(folder / "config.yaml", yaml.safe_dump(as_dict(measurement.config), sort_keys=False))
    rows = measurement.folder.join(measurement.plan.cells, measurement.contents)
    measurement.folder.write_failures((cell, reason(error)) for cell, error in measurement.failures)
    return rows


def tell_unfit(plan: SweepPlan) -> None:
    """Name the pairs that make no cell, before anything runs."""
    by_task: dict[str, list[str]] = {}
    for model, task in plan.unfit:
        by_task.setdefault(task.name, []).append(model.name)
    for task_name, names in by_task.items():
        if rank() == 0:
            print(f"{task_name} does not apply to {', '.join(names)}", flush=True)


def ending(measurement: Measurement) -> int:
    """The exit code; where several cells were asked for, those that failed are listed."""
    failures = measurement.failures
    if not failures:
        return 0
    if rank() == 0 and len(measurement.plan.cells) > 1:
        print(f"medvlp eval: {len(failures)} of {len(measurement.plan.cells)} cells failed:", file=sys.stderr)
        for cell, error in failures:
            print(f"  {' · '.join(cell.key)}: {reason(error)}", file=sys.stderr)
        sys.stderr.flush()
    return max(FAULT if process.exit_code(error) == FAULT else USER_ERROR for _, error in failures)
