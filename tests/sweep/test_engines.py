"""Sweeps over a cluster: a Slurm array run by hand, and Ray on this machine. The same results as in one process."""

import json
import shlex

import pytest

from medvlp.evaluate import main as evaluate
from medvlp.sweep import engines
from medvlp.sweep.engines import SweepJob
from tests.sweep.test_ranks import contents
from tests.sweep.world import ASSISTANT, CLIPS, words

MODELS, TASKS = [*CLIPS, ASSISTANT], ["kind", "captions", "questions"]


@pytest.fixture(scope="module")
def one_process(world):
    """What a sweep in one process leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        assert evaluate(words("local", MODELS, TASKS)) == 0
    return contents(world / "local")


def test_an_array_writes_cells_and_one_job_finishes(sweep_folder, one_process, monkeypatch, capsys):
    sweep = words("array", MODELS, TASKS, "engine=slurm", "jobs=2")
    assert evaluate(sweep) == 0
    assert "  sh array.slurm/submit.sh\n" in capsys.readouterr().out
    scripts = {path.name: path.read_text() for path in (sweep_folder / "array.slurm").iterdir()}
    assert "#SBATCH --array=0-1\n" in scripts["units.sbatch"]
    assert '--dependency="afterany:' in scripts["submit.sh"]
    finish = shlex.split(scripts["finish.sbatch"].splitlines()[-1])
    assert finish[2:5] == ["-m", "medvlp.cli", "eval"]
    assert finish[5:] == [word for word in sweep if word not in ("engine=slurm", "jobs=2")] + ["engine=local"]
    assert not (sweep_folder / "array").exists()
    for index in (1, 0):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(index))
        monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
        assert evaluate(sweep) == 0
        cells = [json.loads(path.read_text()) for path in (sweep_folder / "array/cells").iterdir()]
        expected = {"b.ckpt"} if index else set(MODELS)
        assert {cell["checkpoint"] for cell in cells} == expected
        assert not (sweep_folder / "array/results.jsonl").exists()
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID")
    monkeypatch.setattr("medvlp.sweep.measure.open_model", None)  # nothing is left to measure
    assert evaluate(finish[5:]) == 0
    assert contents(sweep_folder / "array") == one_process


def test_jobs_of_ray_are_models_and_their_failures_come_back(sweep_folder, one_process, monkeypatch, capsys):
    """Ray itself is replaced: jobs run here, one after the other, and one of them loses its process."""
    from data_prep.engines import JobOutcome
    from data_prep.engines.retries import crash

    jobs: list[SweepJob] = []

    def engine(function, jobs_given, workers, **options):
        assert (workers, options["address"], options["gpus"]) == (2, "", False)
        for job in jobs_given:
            jobs.append(job)
            yield crash(job, "killed") if len(jobs) == 2 else JobOutcome(job, function(job))

    monkeypatch.setitem(engines.ENGINES, "ray", engine)
    sweep = words("on_ray", MODELS, TASKS, "engine=ray", "jobs=2")
    assert evaluate(sweep) == 1
    said = capsys.readouterr()
    assert [job.indices for job in jobs] == [(0, 1), (2, 3), (4,)]
    assert "  b.ckpt · captions · test: a worker process ended (killed)" in said.err
    assert "Traceback" not in said.err
    assert evaluate(sweep) == 0
    assert [job.indices for job in jobs[3:]] == [(2, 3)]
    assert contents(sweep_folder / "on_ray") == one_process


@pytest.mark.slow
def test_ray_gives_the_same(sweep_folder, one_process):
    pytest.importorskip("ray")
    assert evaluate(words("ray", MODELS, TASKS, "engine=ray", "jobs=2")) == 0
    assert contents(sweep_folder / "ray") == one_process
