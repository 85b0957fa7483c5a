"""Sweeps over a cluster: models as jobs of Ray, or as shares of a Slurm array. All write cells into one folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_prep.engines import ENGINES, slurm
from medvlp.config import EvalConfig
from medvlp.config.composition.overrides import quoted
from medvlp.distributed import portable
from medvlp.environment import set_up_libraries
from medvlp.errors import UserError
from medvlp.sweep.cells import CellFolder
from medvlp.sweep.measure import Measurement
from medvlp.sweep.plan import Cell, SweepPlan, make_plan
from medvlp.sweep.progress import Progress


class JobCrashed(UserError):
    """The process of a job ended, for want of memory as a rule."""


class OtherCells(UserError):
    """A job found other cells than those that it was given."""


@dataclass(frozen=True)
class SweepJob:
    """Cells of a sweep that one process measures.

    config: with every model by a name of its own. working_folder: what relative paths and task files are looked for in.
    ids: of the cells.
    """

    config: EvalConfig
    folder: str
    working_folder: str
    ids: tuple[str, ...]


Failures = dict[str, Exception]
"""Id of a cell → why it failed."""


def run_job(job: SweepJob) -> Failures:
    """Measure a job's cells in this process; returns those that failed."""
    os.chdir(job.working_folder)
    set_up_libraries()
    config = replace(job.config, engine="local", jobs=1, ray_address="")
    plan = make_plan(config)
    measurement = Measurement(config, plan, CellFolder(Path(job.folder)))
    measurement.read_finished()
    measurement.run([cell for cell in plan.cells if cell.id in job.ids])
    return {cell.id: portable(error) for cell, error in measurement.failures}


def run_on_ray(measurement: Measurement) -> None:
    """Measure a plan's cells by jobs of Ray, one for each model. All nodes see the same files under the same paths."""
    plan = measurement.plan
    config = replace(measurement.config, checkpoints=names_of(plan))
    folder, working_folder = str(measurement.folder.folder.absolute()), os.getcwd()
    cells = measurement.remaining(plan.cells)
    progress = Progress(
        len(plan.cells), len(plan.cells) - len(cells) - len(measurement.failures), len(measurement.failures)
    )
    jobs = [
        SweepJob(config, folder, working_folder, tuple(dict.fromkeys(cell.id for cell in group)))
        for group in by_identity(cells)
    ]
    uses_gpus = config.accelerator != "cpu"
    for outcome in ENGINES["ray"](run_job, jobs, config.jobs, address=config.ray_address, gpus=uses_gpus, retries=1):
        job: SweepJob = outcome.job
        failures: Failures = outcome.result or {}
        if outcome.error is not None:
            error = JobCrashed(str(outcome.error)) if outcome.crashed else outcome.error
            failures = dict.fromkeys(job.ids, error)
        for cell in cells:
            if cell.id not in job.ids:
                continue
            content = measurement.folder.read(cell.id)
            progress.begin(cell)
            if content is not None:
                measurement.contents[cell.id] = content
                progress.finish(cell, content)
                measurement.after_cell()
            else:
                measurement.fail([cell], failures.get(cell.id) or other_cells(cell), progress)


def other_cells(cell: Cell) -> OtherCells:
    """Why a cell has neither values nor a failure."""
    return OtherCells(
        f"the job that was to measure {cell.model.name} on {cell.task.name} found other content than this command: the "
        f"checkpoint, the data, the task or the libraries changed, or are not the same there; run the command again"
    )


def names_of(plan: SweepPlan) -> list[str]:
    """The models of a plan, without patterns and run folders, which may stand for others when a job starts."""
    return [model.name for model in plan.models]


def by_identity(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells in groups that one process should measure: those of a model, and of models of equal content."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.model.identity or cell.model.name, []).append(cell)
    return list(groups.values())


def share_of_task(plan: SweepPlan, index: int, count: int) -> list[Cell]:
    """The cells of task `index` of a Slurm array of `count` tasks, whatever is finished."""
    return [cell for group in slurm.share(by_identity(plan.cells), index, count) for cell in group]


def write_scripts(config: EvalConfig, plan: SweepPlan, folder: Path, overrides: Sequence[str]) -> str:
    """Write the scripts of a Slurm array next to the folder of results; returns what to tell the person."""
    if (names := names_of(plan)) != list(config.checkpoints):
        arguments = [override for override in overrides if not override.startswith("checkpoints=")]
        overrides = [f"checkpoints=[{','.join(map(quoted, names))}]", *arguments]
    array = slurm.Array("eval", max(1, config.workers), "afterany", finish_drops=("jobs",))
    return slurm.write_scripts(folder, overrides, config.jobs, array)
