"""Sweeps on two ranks, and sweeps that are killed: the same bytes as on one rank, undisturbed."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from medvlp.distributed import gather, in_first, in_step, on_all_ranks, rank
from medvlp.errors import UserError
from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.evaluate import main as evaluate
from tests.distributed.ranks import on_ranks
from tests.runs import rows
from tests.sweep.processes import finish_eval, run_eval, start_eval
from tests.sweep.world import ASSISTANT, CLIPS, words

JOINED = (
    "results.jsonl",
    "comparisons.jsonl",
    "failures.jsonl",
    "subgroups.jsonl",
    "calibration.jsonl",
    "leaderboard.md",
    "leaderboard.tex",
    "results.csv",
)


def contents(folder: Path) -> dict[str, bytes]:
    """The files that a sweep joins from its cells, and its records."""
    paths = [folder / name for name in JOINED] + sorted(folder.glob("samples/*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.exists()}


def failing_on_one_rank(args: list[str]) -> int:
    """A sweep whose retrieval fails on rank 1 alone, before it meets rank 0."""
    run = Retrieval.run

    def raising(self, model):
        if rank() == 1:
            raise UserError("planted on one rank")
        return run(self, model)

    Retrieval.run = raising
    return run_eval(args)


def test_two_ranks_give_the_bytes_of_one(sweep_folder):
    models, tasks = [*CLIPS, ASSISTANT], ["captions", "kind", "questions", "texts", "composed"]
    code, said = finish_eval(start_eval(words("two", models, tasks), sweep_folder, ranks=2))
    assert code == 0, said
    assert said.count("[9/9 cells]") == 1
    assert evaluate(words("one", models, tasks)) == 0
    assert contents(sweep_folder / "two") == contents(sweep_folder / "one")


@pytest.mark.slow
def test_a_cell_that_fails_on_one_rank_fails_on_all(world):
    models, tasks = [*CLIPS, ASSISTANT], ["captions", "kind", "questions"]
    code, said = on_ranks(failing_on_one_rank, 2, words("planted", models, tasks), folder=world)
    assert code == 1, said
    assert "medvlp eval: 2 of 5 cells failed:" in said
    assert said.count("  a.ckpt · captions · test: planted on one rank") == 1
    pairs = {(row["checkpoint"], row["task"]) for row in rows(world / "planted/results.jsonl")}
    assert pairs == {("a.ckpt", "kind"), ("b.ckpt", "kind"), (ASSISTANT, "questions")}
    code, said = finish_eval(start_eval(words("planted", models, tasks), world, ranks=2))
    assert code == 0, said
    assert "3 of 5 cells were finished before" in said


def collective() -> int:
    """Errors on one rank, in batches and between them."""
    me = rank()
    assert on_all_ranks(range(5), lambda number: number * 10) == [0, 10, 20, 30, 40]
    for failing, expected in (({3}, 3), ({1, 2}, 1), ({0, 1}, 0)):
        with pytest.raises(UserError, match=f"^batch {expected}"):
            in_step(lambda failing=failing: on_all_ranks(range(5), lambda n: raise_if(n in failing, f"batch {n}")))
    with pytest.raises(UserError, match="early"):
        in_step(lambda: raise_if(me == 1, "early") or on_all_ranks([1, 2], str))
    with pytest.raises(RuntimeError if me == 0 else Exception, match="x"):
        in_step(lambda: unportable() if me == 1 else None)
    assert in_first(lambda: "first") == ("first" if me == 0 else None)
    assert gather(me) == [0, 1]  # still in step
    return 0


def raise_if(condition: bool, message: str) -> None:
    if condition:
        raise UserError(message)


def unportable() -> None:
    class Unportable(Exception):
        pass

    raise Unportable("x")


def test_an_error_of_one_rank_reaches_all(tmp_path):
    code, said = on_ranks(in_a_group, 2, folder=tmp_path)
    assert code == 0, said


def in_a_group() -> int:
    from medvlp.training.process_group import process_group

    with process_group():
        return collective()


def kill_when(forks, folder: Path, cells: int, signal_number: int, pause: float = 0.0) -> None:
    """Send a signal to all processes once so many cells are finished."""
    while len(list(folder.glob("cells/*.json"))) < cells and any(fork.poll() is None for fork in forks):
        time.sleep(0.002)
    time.sleep(pause)
    for fork in forks:
        if fork.poll() is None:
            os.kill(fork.process.pid, signal_number)


def test_a_sweep_that_is_stopped_and_killed_goes_on(sweep_folder):
    models, tasks = CLIPS, ["kind", "captions"]
    options = ("resamples=2000", "by=[kind]")
    sweep = words("killed", models, tasks, *options)
    forks = start_eval(sweep, sweep_folder)
    kill_when(forks, sweep_folder / "killed", 1, signal.SIGTERM)
    stopped, said = finish_eval(forks)
    assert stopped in (0, 3), said
    forks = start_eval(sweep, sweep_folder)
    kill_when(forks, sweep_folder / "killed", 2, signal.SIGKILL)
    killed, _ = finish_eval(forks)
    assert (stopped, killed) != (0, 0)  # one of them came before the end
    written = {path.name: path.stat().st_mtime_ns for path in (sweep_folder / "killed/cells").iterdir()}
    assert evaluate(sweep) == 0
    after = {path.name: path.stat().st_mtime_ns for path in (sweep_folder / "killed/cells").iterdir()}
    assert len(after) == 4
    assert written.items() <= after.items()  # none is measured again
    assert evaluate(words("undisturbed", models, tasks, *options)) == 0
    assert {*JOINED} - {"failures.jsonl"} <= contents(sweep_folder / "undisturbed").keys()
    assert contents(sweep_folder / "killed") == contents(sweep_folder / "undisturbed")


def dying_on_one_rank(args: list[str]) -> int:
    """A sweep whose retrieval ends the process of rank 1."""
    run = Retrieval.run
    Retrieval.run = lambda self, model: os._exit(9) if rank() == 1 else run(self, model)
    return run_eval(args)


@pytest.mark.slow
def test_a_rank_that_dies_is_no_failed_cell(world):
    code, said = on_ranks(dying_on_one_rank, 2, words("lost", CLIPS, ["kind", "captions"]), folder=world)
    assert code == 9, said
    assert said.count("medvlp eval: another rank ended without a word") == 1
    assert "Traceback" not in said
    assert {(row["checkpoint"], row["task"]) for row in rows(world / "lost/results.jsonl")} == {("a.ckpt", "kind")}
    assert not (world / "lost/failures.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_ten_kills_at_random_moments(world, ranks):
    models, tasks = [*CLIPS, ASSISTANT], ["kind", "captions", "questions"]
    folder = world / f"kills{ranks}"
    start = time.monotonic()
    code, said = finish_eval(start_eval(words(f"calm{ranks}", models, tasks, "resamples=20000"), world, ranks))
    seconds = time.monotonic() - start
    assert code == 0, said
    chance, kills, written = random.Random(ranks), 0, {}
    sweep = words(folder.name, models, tasks, "resamples=20000")
    while kills < 10:
        forks = start_eval(sweep, world, ranks)
        time.sleep(chance.uniform(0.2, 1.0) * seconds)
        victims = forks if chance.random() < 0.7 else [chance.choice(forks)]
        for fork in victims:
            if fork.poll() is None:
                fork.kill()
        if len(victims) < len(forks):  # as torchrun ends the others
            time.sleep(0.5)
            kill_when(forks, folder, 0, signal.SIGTERM)
        finish_eval(forks)
        kills += 1
        times = {path.name: path.stat().st_mtime_ns for path in folder.glob("cells/*.json")}
        assert written.items() <= times.items(), "a finished cell was measured again"
        for path in folder.glob("cells/*.json"):
            assert json.loads(path.read_bytes())["id"] == path.stem
        written = times
        if len(times) == 5:  # all over again: cells that a kill can lose
            for path in list(folder.glob("cells/*.json"))[:3]:
                path.unlink()
                del written[path.name]
    code, said = finish_eval(start_eval(sweep, world, ranks))
    assert code == 0, said
    assert contents(folder) == contents(world / f"calm{ranks}")
