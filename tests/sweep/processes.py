"""Evaluations as processes of their own, on one rank or several."""

from pathlib import Path

from tests.distributed.ranks import Fork, start_on_ranks


def run_eval(args: list[str]) -> int:
    """`medvlp eval`, as it is called in a process of its own."""
    from medvlp import process
    from medvlp.evaluate import main

    return process.command("eval", lambda: main(args))


def start_eval(args: list[str], folder: Path, ranks: int = 1) -> list[Fork]:
    """The processes of one evaluation."""
    return start_on_ranks(run_eval, ranks, args, folder=folder)


def finish_eval(forks: list[Fork]) -> tuple[int, str]:
    """The worst exit code, and what was said."""
    try:
        ends = [fork.finish() for fork in forks]
    finally:
        for fork in forks:
            fork.kill()
    return max((code for code, _ in ends), key=abs), "".join(said for _, said in ends)
