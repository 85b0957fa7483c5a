import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.engines.ray_engine import run
from data_prep.errors import PrepError
from tests.data_prep.engines.jobs import fails_or_tells_its_threads, square, tried

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
from data_prep.engines.ray_engine import run
from tests.data_prep.engines.jobs import fails_at_first
if __name__ == "__main__":
    list(run(fails_at_first, [(Path(name), "wait", 9) for name in sys.argv[1:]], 2))
"""


def test_it_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(PrepError, match=r"needs Ray, which is not installed; pip install 'medvlp\[ray\]'"):
        next(run(square, [1], 2))


def test_jobs_faults_and_deaths(tmp_path, capfd):
    """One Ray for all of it, since starting one takes seconds. Nothing of it is seen on the terminal."""
    ray = pytest.importorskip("ray")
    faults = {"done": ("io", 0), "io": ("io", 2), "killed": ("kill", 1), "killer": ("kill", 9), "input": ("input", 9)}
    jobs = [(tmp_path / name, *fault) for name, fault in faults.items()]
    outcomes = {
        o.job if o.job == "threads" else o.job[0].name: o
        for o in run(fails_or_tells_its_threads, [*jobs, "threads"], 2, pause=0.01)
    }
    assert outcomes.pop("threads").result == (1, 1, "1")
    assert not ray.is_initialized()
    assert {name: (o.result, o.tries) for name, o in outcomes.items()} == {
        "done": ("done", 1),
        "io": ("io", 3),
        "killed": ("killed", 2),
        "killer": (None, 3),
        "input": (None, 1),
    }
    assert "a worker process ended" in str(outcomes["killer"].error)
    assert outcomes["killer"].crashed
    assert isinstance(outcomes["input"].error, PrepError)
    assert tried(tmp_path / "killer") == 3
    assert capfd.readouterr() == ("", "")
    assert not list(Path("/tmp").glob(f"medvlp-ray-{os.getpid()}-*"))


def test_a_cluster_that_does_not_answer():
    pytest.importorskip("ray")
    with pytest.raises(PrepError, match=r"ray_address=nonsense: this Ray cannot be joined \(.*leave ray_address out"):
        next(run(square, [1], 2, address="nonsense"))


@pytest.mark.slow
def test_no_task_outlives_a_killed_driver(tmp_path):
    psutil = pytest.importorskip("psutil")
    pytest.importorskip("ray")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    names = [tmp_path / "a", tmp_path / "b"]
    driver = subprocess.Popen(
        [sys.executable, script, *names], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.DEVNULL
    )
    while not all(map(tried, names)):
        assert driver.poll() is None
        time.sleep(0.05)
    tasks = [p for p in psutil.Process(driver.pid).children(recursive=True) if p.name().startswith("ray::_pinned")]
    assert len(tasks) == 2
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(1)  # without a watch of our own, they went on for two and a half
    assert not any(task.is_running() and task.status() != psutil.STATUS_ZOMBIE for task in tasks)
