"""The ways in which one preparation can be run, as the commands that a person gives; and what they leave, byte by byte."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
OF_THE_RUN = {"run.json", "report.html"}
"""Files above the splits that tell of the run and not of the data."""

WAYS = {
    "one worker": ["workers=1"],
    "two workers": ["workers=2"],
    "ray": ["engine=ray", "workers=2"],
    "slurm": ["engine=slurm", "workers=2"],
}

Start = Callable[[list[str], dict[str, str]], None]
"""Runs a command to its end: (words, variables of its own)."""


def prepare(way: str, words: list[str], run: Start) -> None:
    """The whole of a preparation. Slurm's array is run by hand: its scripts, the second task before the first."""
    run([sys.executable, "-m", "medvlp.cli", "prep", *words, *WAYS[way]], {})
    if way == "slurm":
        scripts = Path(next(word for word in words if word.startswith("output=")).removeprefix("output=") + ".slurm")
        for index in ("1", "0"):
            task = {"SLURM_ARRAY_TASK_ID": index, "SLURM_ARRAY_TASK_COUNT": "2"}
            run(["bash", str(scripts / "units.sbatch")], task)
        run(["bash", str(scripts / "finish.sbatch")], {})


def plainly(command: list[str], variables: dict[str, str]) -> None:
    """Run a command; its failure is the test's."""
    ran = subprocess.run(command, env=_environment(variables), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


class Killed:
    """Runs a command, kills its whole process group at a random moment with SIGKILL, and runs it again."""

    def __init__(self, output: Path, seed: int, seconds: float) -> None:
        """seconds: what one command takes, about; the moment is drawn from that, after the command's first sign of work."""
        self.output = output
        self.random = random.Random(seed)
        self.seconds = seconds
        self.kills = 0

    def __call__(self, command: list[str], variables: dict[str, str]) -> None:
        process = subprocess.Popen(
            command,
            env=_environment(variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        before = self._signs()
        while process.poll() is None and self._signs() <= before:
            time.sleep(0.002)
        time.sleep(self.random.uniform(0, self.seconds))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            self.kills += 1
        process.wait()
        plainly(command, variables)

    def _signs(self) -> int:
        return sum(1 for _ in self.output.rglob("*")) if self.output.exists() else 0


def _environment(variables: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**inherited, "PYTHONPATH": str(REPOSITORY), **variables}


def marks(output: Path) -> dict[str, str]:
    """sha256 of every file of a finished preparation, but of those that tell of the run."""
    files = [path for path in output.rglob("*") if path.is_file()]
    data_files = [path for path in files if not (path.parent == output and path.name in OF_THE_RUN)]
    return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(data_files)}
