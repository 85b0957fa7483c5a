"""Sweeps over a cluster: a Slurm array run by hand, and Ray on this machine. The same results as in one process."""

import json
import shlex
import shutil

import pytest

from medvlp.evaluate import main as evaluate
from medvlp.sweep import engines
from medvlp.sweep.engines import SweepJob
from tests.runs import rows
from tests.sweep.test_ranks import contents
from tests.sweep.world import ASSISTANT, CLIPS, another, words

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
    assert [len(job.ids) for job in jobs] == [2, 2, 1]
    assert "  b.ckpt · captions · test: a worker process ended (killed)" in said.err
    assert "Traceback" not in said.err
    assert evaluate(sweep) == 0
    assert [job.ids for job in jobs[3:]] == [jobs[1].ids]
    assert contents(sweep_folder / "on_ray") == one_process


def test_cells_that_a_job_does_not_find_fail(sweep_folder, monkeypatch, capsys):
    """A run that a pattern matches has saved a file, and another's file was overwritten, when the job starts."""
    from data_prep.engines import JobOutcome

    (sweep_folder / "saved").mkdir()
    shutil.copy("a.ckpt", "saved/b.ckpt")
    shutil.copy("b.ckpt", "saved/moving.ckpt")

    def engine(function, jobs, workers, **options):
        for job in jobs:
            assert job.config.checkpoints == ["saved/b.ckpt", "saved/moving.ckpt"]
            shutil.copy("b.ckpt", "saved/a.ckpt")
            another(sweep_folder / "a.ckpt", sweep_folder / "saved/moving.ckpt", 3)
            yield JobOutcome(job, function(job))

    monkeypatch.setitem(engines.ENGINES, "ray", engine)
    assert evaluate(words("changed", ["saved/*.ckpt"], ["kind"], "engine=ray")) == 1
    assert "the job that was to measure saved/moving.ckpt on kind found other content" in capsys.readouterr().err
    assert {row["checkpoint"] for row in rows(sweep_folder / "changed/results.jsonl")} == {"saved/b.ckpt"}
    assert [row["checkpoint"] for row in rows(sweep_folder / "changed/failures.jsonl")] == ["saved/moving.ckpt"]
    assert evaluate(words("changed", ["saved/*.ckpt"], ["kind"], "engine=slurm")) == 0
    script = (sweep_folder / "changed.slurm/units.sbatch").read_text().splitlines()[-1]
    assert "checkpoints=['saved/a.ckpt','saved/b.ckpt','saved/moving.ckpt']" in shlex.split(script)


@pytest.mark.slow
def test_ray_gives_the_same(sweep_folder, one_process):
    pytest.importorskip("ray")
    assert evaluate(words("ray", MODELS, TASKS, "engine=ray", "jobs=2")) == 0
    assert contents(sweep_folder / "ray") == one_process
