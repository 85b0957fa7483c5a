import os
import signal

import pytest

from data_prep.engines.local import run
from data_prep.engines.retries import MAX_CONSECUTIVE_CRASHES
from data_prep.errors import PrepError
from medvlp.shards import ShardError
from tests.data_prep.engines.jobs import (
    dies_in_company,
    fails_at_first,
    raises_what_cannot_cross,
    returns_what_cannot_cross,
    square,
    threads,
    tried,
    waits_for_the_second,
)
from tests.test_process import begin, wait_until_gone

BOTH = pytest.mark.parametrize("workers", [1, 2])


@BOTH
def test_every_job_has_one_outcome(workers):
    outcomes = list(run(square, range(9), workers))
    assert sorted((o.job, o.result, o.error, o.tries) for o in outcomes) == [(n, n * n, None, 1) for n in range(9)]
    assert list(run(square, [], workers)) == []


@BOTH
@pytest.mark.parametrize(
    ("fault", "times", "tries", "ends"),
    [
        ("io", 2, 3, None),
        ("io", 3, 3, OSError),
        ("memory", 1, 2, None),
        ("bug", 1, 2, None),
        ("flaky", 2, 3, None),
        ("flaky", 3, 3, ShardError),
        ("folder", 1, 1, IsADirectoryError),
        ("input", 1, 1, PrepError),
        ("contract", 1, 1, ShardError),
    ],
)
def test_who_is_given_another_try(tmp_path, workers, fault, times, tries, ends):
    jobs = [(tmp_path / "a", fault, times), (tmp_path / "b", fault, 0)]
    outcomes = {o.job[0].name: o for o in run(fails_at_first, jobs, workers, pause=0.01)}
    assert (outcomes["b"].result, outcomes["b"].tries) == ("b", 1)
    assert (tried(tmp_path / "a"), outcomes["a"].tries) == (tries, tries)
    assert outcomes["a"].result == (None if ends else "a")
    assert type(outcomes["a"].error) is (ends or type(None))
    assert bool(outcomes["a"].trace) == bool(ends)


def test_no_retries(tmp_path):
    (outcome,) = run(fails_at_first, [(tmp_path / "a", "io", 1)], 1, retries=0)
    assert (outcome.tries, tried(tmp_path / "a"), outcome.can_retry) == (1, 1, True)


@BOTH
def test_a_full_disk_ends_the_run(tmp_path, workers):
    """Each further unit would be read and prepared for nothing. What waits for another try is listed, too."""
    jobs = [
        (tmp_path / "0", "io", 9),
        (tmp_path / "1", "full", 9),
        *((tmp_path / f"{n}", "io", 0) for n in range(2, 60)),
    ]
    outcomes = {o.job[0].name: o for o in run(waits_for_the_second, jobs, workers, pause=0.01)}
    assert "No space left" in str(outcomes["1"].error)
    assert workers > 1 or isinstance(outcomes["0"].error, OSError)  # with two, it may still be in flight
    assert tried(tmp_path / "59") == 0
    assert len(outcomes) < len(jobs)


def test_a_killed_worker_takes_no_other_job_with_it(tmp_path):
    """Jobs in flight beside the one that ends its process are done, and the rest of the jobs after it."""
    jobs = [(tmp_path / f"{n}", "kill", 99 if n in (3, 11) else 0) for n in range(16)]
    outcomes = {o.job[0].name: o for o in run(fails_at_first, jobs, 2, pause=0.01, retries=1)}
    assert sorted(name for name, o in outcomes.items() if o.error) == ["11", "3"]
    assert "a worker process ended" in str(outcomes["3"].error)
    assert "out of memory" in str(outcomes["3"].error)
    assert [outcomes[name].tries for name in ("3", "11", "0")] == [2, 2, 1]
    assert len(outcomes) == 16
    assert all(outcomes[str(n)].result == str(n) for n in range(16) if n not in (3, 11))


def test_a_worker_killed_once_is_forgiven(tmp_path):
    """In company the job is only suspected, and is done alone; so even without retries it is no failure."""
    jobs = [(tmp_path / f"{n}", {2: tmp_path / "3", 3: tmp_path / "2"}.get(n)) for n in range(8)]
    outcomes = list(run(dies_in_company, jobs, 2, pause=0.01, retries=0))
    assert sorted(str(o.result) for o in outcomes) == [str(n) for n in range(8)]
    assert [tried(tmp_path / name) for name in ("2", "3")] == [2, 2]
    (alone,) = run(fails_at_first, [(tmp_path / "last", "kill", 1)], 2, pause=0.01, retries=1)
    assert (alone.result, alone.tries) == ("last", 2)


def test_processes_that_only_die_end_the_run(tmp_path):
    jobs = [(tmp_path / f"{n}", "kill", 99) for n in range(30)]
    outcomes = list(run(fails_at_first, jobs, 2, pause=0.01))
    assert len(outcomes) == MAX_CONSECUTIVE_CRASHES
    assert all(o.crashed and isinstance(o.error, RuntimeError) for o in outcomes)


@BOTH
def test_what_cannot_cross_is_told(workers):
    outcomes = list(run(raises_what_cannot_cross, [1, 2], workers, retries=0))
    assert sorted(str(o.error) for o in outcomes) == ["Local: job 1", "Local: job 2"]
    assert "raises_what_cannot_cross" in outcomes[0].trace


def test_a_result_that_cannot_cross_fails_alone():
    outcomes = {o.job: o for o in run(returns_what_cannot_cross, [0, 1, 0], 2)}
    assert outcomes[0].result == 0
    assert "cannot pickle" in str(outcomes[1].error)


def test_workers_have_one_thread_and_this_process_keeps_its_own():
    before = dict(os.environ)
    assert [o.result for o in run(threads, [0, 1], 2)] == [(1, 1, "1")] * 2
    assert dict(os.environ) == before


def test_leaving_early_leaves_no_process():
    from multiprocessing import active_children

    outcomes = run(square, range(1000), 2)
    assert next(outcomes).error is None
    outcomes.close()
    assert active_children() == []


def test_ctrl_c_ends_units_that_hang_and_their_processes(tmp_path):
    work = (
        "import threading\n"
        "from pathlib import Path\n"
        "from data_prep.engines import local\n"
        "from tests.data_prep.engines.jobs import fails_at_first, tried\n"
        f"paths = [Path({str(tmp_path)!r}, name) for name in 'abc']\n"
        "def tell():\n"
        "    while not (tried(paths[0]) and tried(paths[1])): time.sleep(0.05)\n"
        "    print('ready', flush=True)\n"
        "    print(*(child.pid for child in process.children()), flush=True)\n"
        "threading.Thread(target=tell, daemon=True).start()\n"
        "list(local.run(fails_at_first, [(path, 'wait', 9) for path in paths], 2))"
    )
    command = begin(work)
    units = [int(pid) for pid in command.stdout.readline().split()]
    assert len(units) == 2
    for pid in units:  # as a terminal does, to the whole group
        os.kill(pid, signal.SIGINT)
    command.send_signal(signal.SIGINT)
    _, told = command.communicate(timeout=120)
    assert (command.returncode, told) == (3, "medvlp made: stopped by SIGINT\n")
    for pid in units:
        wait_until_gone(pid)
