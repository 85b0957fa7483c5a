"""The Slurm engine: every task of an array is a process that does its share of the units; one more job finishes.

    <output>.slurm/units.sbatch    the array: task k of n does the units k, k + n, k + 2n, ...
    <output>.slurm/finish.sbatch   of a preparation splits, shards and the report; of an evaluation results and the report
    <output>.slurm/submit.sh       submits both, the second to wait for the first

They stand next to the output, not in it: commands and logs name paths, which is nobody's business who gets the data.

A task that was preempted or killed is simply run again: finished units are kept. The output has to be on a file system
that all nodes share, with locks that work between them (flock).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data_prep.errors import PrepError
from medvlp.shards.atomic import write_whole

SUFFIX = ".slurm"
TASK, COUNT = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"

# No path stands in an #SBATCH line: Slurm's own quoting there differs from the shell's. Logs fall next to the script,
# where submit.sh submits it. --requeue: a preempted task goes back to the queue, and appends to its log.
UNITS = """\
#!/usr/bin/env bash
#SBATCH --job-name=medvlp-{verb}
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task={cpus}
#SBATCH --output=units-%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -eu
# Slurm would count the tasks that are submitted: when some are submitted again, shares have to stay what they were.
export SLURM_ARRAY_TASK_COUNT={tasks}
cd -- {folder}
exec {command}
"""

FINISH = """\
#!/usr/bin/env bash
#SBATCH --job-name=medvlp-{verb}-finish
#SBATCH --output=finish.log
#SBATCH --open-mode=append
#SBATCH --requeue
set -eu
cd -- {folder}
exec {command}{arguments}
"""

SUBMIT = """\
#!/bin/sh
# Arguments go to both jobs:   sh submit.sh --account=lab --time=4:00:00
set -eu
cd -- "$(dirname -- "$0")"
units=$(sbatch --parsable "$@" units.sbatch)
sbatch "$@" --dependency="{dependency}:${{units%%;*}}" --kill-on-invalid-dep=yes finish.sbatch
"""

Job = TypeVar("Job")


@dataclass(frozen=True)
class Array:
    """A command that an array of tasks does.

    verb: of `medvlp`. cpus: of a task. dependency: what the job that finishes waits for: afterok, or afterany where it tells
    what has failed. finish_drops: keys that are not for that job. finish_arguments: what it has more, for the shell.
    """

    verb: str
    cpus: int = 1
    dependency: str = "afterok"
    finish_drops: tuple[str, ...] = ()
    finish_arguments: str = ""


PREPARATION = Array("prep", finish_drops=("workers",), finish_arguments=' workers="${SLURM_CPUS_PER_TASK:-1}"')


def task() -> tuple[int, int] | None:
    """(index, count) of this task of an array, from Slurm's variables; None where this process is none.

    Raises PrepError if the variables make no sense together.
    """
    if TASK not in os.environ:
        return None
    index, count = os.environ[TASK], os.environ.get(COUNT, "")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise PrepError(
            f"{TASK}={index} and {COUNT}={count or '(not set)'}: expected a task's number from 0 and how many there are; "
            f"submit units.sbatch as it was written, whose array begins at 0"
        )
    return int(index), int(count)


def share(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """A task's jobs. jobs: all of them, also those that are done, or two tasks would not agree on whose is whose."""
    return list(jobs[index::count])


def write_scripts(output: Path, overrides: Sequence[str], tasks: int, array: Array = PREPARATION) -> str:
    """Write the scripts that do `medvlp <verb> <overrides>` as an array of `tasks` tasks. Returns what to tell the person.

    Raises PrepError without overrides, since a task can only be told by a command line what to do.
    """
    if not overrides:
        raise PrepError(
            f"engine=slurm needs a command line that its tasks can repeat: use `medvlp {array.verb} ... engine=slurm`"
        )
    folder = output.with_name(output.name + SUFFIX)
    folder.mkdir(exist_ok=True, parents=True)
    working_folder = shlex.quote(os.getcwd())
    command = [sys.executable, "-m", "medvlp.cli", array.verb]
    arguments = _without(overrides, ("engine",))
    finish = _without(arguments, array.finish_drops)
    scripts = {
        "units.sbatch": UNITS.format(
            verb=array.verb,
            cpus=array.cpus,
            last=tasks - 1,
            tasks=tasks,
            folder=working_folder,
            command=shlex.join([*command, *arguments, "engine=slurm"]),
        ),
        "finish.sbatch": FINISH.format(
            verb=array.verb,
            folder=working_folder,
            command=shlex.join([*command, *finish, "engine=local"]),
            arguments=array.finish_arguments,
        ),
        "submit.sh": SUBMIT.format(dependency=array.dependency),
    }
    for name, text in scripts.items():
        write_whole(folder / name, os.fsencode(text))
    return (
        f"{tasks} tasks are described in {folder}; submit them, and the job that finishes after them, with\n"
        f"  sh {shlex.quote(str(folder / 'submit.sh'))}\n"
        "options of sbatch may follow (--account=..., --time=...). After a failure, submit again: what is done is kept"
    )


def _without(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Overrides without those of some keys."""
    return [override for override in overrides if override.partition("=")[0] not in keys]
