"""Ranks and training commands as forks of one process that has imported the libraries: a new interpreter takes seconds to.

What is about torchrun, or about a command's process group, starts it: tests.runs.start.
"""

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.conftest import REPOSITORY

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["torch", "lightning.pytorch", "open_clip", "transformers", "peft", "tests.distributed.ranks"]
)
"""None of our own modules: several ask for the rank as they are imported."""
SECONDS = 600
"""Far beyond what any of them takes: what hangs, hangs longer."""


class Fork:
    """A process that calls a function; its exit code and output in `finish()`."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], environment: dict[str, str], folder: Path):
        with tempfile.NamedTemporaryFile(prefix="medvlp-fork-", delete=False) as file:
            self.output = Path(file.name)
        self.process = FORKS.Process(target=_call, args=(function, args, environment, str(folder), str(self.output)))
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()

    def finish(self, seconds: float = SECONDS) -> tuple[int, str]:
        """Exit code (of a signal: its number, negative) and output."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"no end after {seconds} s:\n{self.output.read_text()}")
        said = self.output.read_text(errors="replace") if self.output.exists() else ""
        self.output.unlink(missing_ok=True)
        return self.process.exitcode, said


def _call(function: Callable[..., Any], args: tuple[Any, ...], environment: dict[str, str], folder: str, output: str):
    """In the fork: both streams into a file, the function's result as the exit code."""
    stream = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    try:
        code = function(*args) or 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def run_script(code: str, *args: str, folder: Path = REPOSITORY, environment: dict[str, str] | None = None) -> str:
    """What a script prints, run as by a new interpreter that has imported the libraries, and nothing of ours: a script that
    needs us has to import us."""
    status, said = finish_script(code, *args, folder=folder, environment=environment)
    assert status == 0, said
    return said


def finish_script(
    code: str, *args: str, folder: Path = REPOSITORY, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Exit code of such a script, and what it said."""
    return Fork(_script, (code, args), environment or {}, folder).finish()


def _script(code: str, args: tuple[str, ...]) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in ("medvlp", "data_prep", "tests")]:
        del sys.modules[name]
    sys.argv = ["-c", *args]
    exec(compile(code, "<script>", "exec"), {"__name__": "__main__"})


def start_train(args: list[str], folder: Path = REPOSITORY) -> Fork:
    """`medvlp train`, as it is called in a process of its own."""
    return Fork(_train, ([args],), {}, folder)


def train_on_ranks(jobs: list[list[str]], ranks: int = 2, folder: Path = REPOSITORY) -> tuple[int, str]:
    """`medvlp train` for each list of arguments, one after the other, on the same ranks: the worst exit code, and what was
    said."""
    return on_ranks(_train, ranks, jobs, folder=folder)


def _train(jobs: list[list[str]]) -> int:
    from medvlp import process
    from medvlp.train import main

    for args in jobs:
        code = process.command("train", lambda args=args: main(args))
        if code:
            return code
    return 0


def on_ranks(function: Callable[..., Any], ranks: int, *args: Any, folder: Path = REPOSITORY) -> tuple[int, str]:
    """Call a function of a module on every rank, and wait: the worst exit code, and what was said."""
    forks = start_on_ranks(function, ranks, *args, folder=folder)
    try:
        ends = [fork.finish() for fork in forks]
    finally:
        for fork in forks:
            fork.kill()
    return max((code for code, _ in ends), key=abs), "".join(said for _, said in ends)


def start_on_ranks(function: Callable[..., Any], ranks: int, *args: Any, folder: Path = REPOSITORY) -> list[Fork]:
    """Begin to call a function of a module on every rank, with what torchrun tells them. They meet at a store that is open
    already, so that nobody else can take its port."""
    if ranks == 1:
        return [Fork(function, args, {}, folder)]
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    forks = [
        Fork(function, args, {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}, folder) for rank in range(ranks)
    ]
    forks[0].store = store  # it ends with what holds it
    return forks
