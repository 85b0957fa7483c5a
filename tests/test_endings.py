"""How runs end that cannot begin, that fail, and that are killed: one message, one code, no process and no folder in the way."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from medvlp import train
from medvlp.claims import LOCK, claim
from medvlp.evaluate import main as evaluate
from medvlp.runs import runs_of
from tests.assistants import vqa_samples
from tests.datasets import pairs, write_split
from tests.distributed import differing
from tests.distributed.ranks import on_ranks, start_train
from tests.models.tiny import tiny_architecture
from tests.runs import equal, finish, losses, rows, run_here, start, tiny_words, wait_for_step, weights
from tests.test_process import wait_until_gone
from tests.training.saved import save as saved

LONG = ["trainer.max_steps=4000", "trainer.checkpoint_every=1000"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("endings")
    write_split(made / "made/train", pairs(44))
    write_split(made / "other/train", pairs(45))
    write_split(made / "questions/train", vqa_samples(24))
    damaged = pairs(44)
    for sample in damaged[::3]:
        sample.texts["caption"] = ""
    write_split(made / "damaged/train", damaged)
    tiny_architecture(made)
    return made


@pytest.fixture
def words(folder):
    return tiny_words(folder)


def said(output: str) -> list[str]:
    """What we said ourselves, of all that came out."""
    return [line for line in output.splitlines() if re.match(r"medvlp( \w+)?: ", line)]


def offspring(pid: int) -> dict[int, bytes]:
    """Processes that a process has started, and those that they have, with their environments."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    pids = {pid}
    while more := {child for child, parent in parents.items() if parent in pids} - pids:
        pids |= more
    return {child: Path(f"/proc/{child}/environ").read_bytes() for child in pids - {pid}}


def holders(path: Path) -> list[str]:
    """Processes that have a file open."""
    pids = []
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if descriptor.readlink() == path:
                pids.append(descriptor.parts[2])
        except OSError:
            continue
    return pids


def test_what_fails_before_its_first_step_leaves_nothing_in_the_way(folder, words, capsys):
    assert run_here([*words, "run_name=early", "data.global_batch_size=45"]) == 1
    assert run_here([*words, "run_name=early", "trainer.accelerator=gpu"]) == 1
    assert "trainer.accelerator=gpu, but PyTorch finds no GPU here" in capsys.readouterr().err
    questions = f"data.sources.made.path={folder}/questions/train"
    assert run_here([*words, "run_name=early", questions]) == 1
    assert "20 samples in a row could not be read" in capsys.readouterr().err
    assert not (folder / "runs/early").exists()
    # As a kill at any point before the first step leaves it.
    (folder / "runs/early/checkpoints").mkdir(parents=True)
    (folder / "runs/early/status.json").write_text('{"state": "running", "step": 0, "reason": ""}')
    (folder / f"runs/early/{LOCK}").write_text("medvlp train, process 1 on a machine that is gone")
    (folder / "runs/early/.config.yaml.0123.partial").write_text("seed:")
    assert run_here([*words, "run_name=early", "trainer.max_steps=1"]) == 0
    assert rows(folder / "runs/early/status.json") == [{"state": "done", "step": 1, "reason": ""}]
    assert run_here([*words, "run_name=early"]) == 1
    assert "early exists; choose another run_name, or go on with resume=auto" in capsys.readouterr().err


def test_what_somebody_else_put_there_is_in_the_way(folder, words, capsys):
    (folder / "runs/notes").mkdir(parents=True)
    (folder / "runs/notes/plan.txt").write_text("do not lose this")
    assert run_here([*words, "run_name=notes"]) == 1
    assert "notes exists; choose another run_name" in capsys.readouterr().err


def test_a_folder_that_is_in_use_or_of_another_kind_is_refused_by_name(folder, words, capsys):
    with claim(folder / "runs/used", "train"):
        assert run_here([*words, "run_name=used", "resume=auto"]) == 1
    error = capsys.readouterr().err
    assert f"used is in use by medvlp train, process {os.getpid()} on " in error
    assert "give another run_name" in error
    (folder / "runs/scores").mkdir()
    (folder / "runs/scores/results.jsonl").write_text("")
    assert run_here([*words, "run_name=scores", "resume=auto"]) == 1
    assert "scores holds an evaluation; medvlp train does not write into it" in capsys.readouterr().err
    (folder / "runs/trained/checkpoints").mkdir(parents=True)
    (folder / "runs/trained/config.yaml").write_text("verb: train\n")
    (folder / "a.ckpt").write_bytes(b"")
    given = [f"checkpoints=[{folder}/a.ckpt]", "tasks=[rocov2_retrieval]"]
    assert evaluate([*given, f"output={folder}/runs/trained"]) == 1
    assert "trained holds a training run; medvlp eval does not write into it" in capsys.readouterr().err
    assert (folder / "runs/trained/config.yaml").read_text() == "verb: train\n"


@pytest.mark.parametrize("resume", ["none", "auto"])
def test_what_others_train_before_the_folder_is_claimed_is_not_written_over(resume, folder, words, capsys, monkeypatch):
    """Libraries take seconds to load, and earlier stages hours."""
    run = folder / f"runs/raced-{resume}"

    def meanwhile(words):
        runs = runs_of(words)
        saved(run / "checkpoints/last.ckpt", step=5)
        (run / "metrics.jsonl").write_text('{"step": 5}\n')
        return runs

    monkeypatch.setattr(train, "runs_of", meanwhile)
    assert run_here([*words, f"run_name={run.name}", f"resume={resume}"]) == 1
    assert re.search("exists; choose another|another command has trained there", capsys.readouterr().err)
    assert (run / "metrics.jsonl").read_text() == '{"step": 5}\n'


@pytest.mark.parametrize("ranks", [3, 16])
def test_a_batch_that_the_ranks_cannot_share_is_known_before_anything_starts(words, ranks, monkeypatch):
    from medvlp.config import ConfigError
    from medvlp.runs import runs_of

    monkeypatch.setattr("medvlp.runs.WORLD_SIZE", ranks)
    with pytest.raises(
        ConfigError, match=rf"global_batch_size=8 cannot be divided evenly among {ranks} ranks; use a multiple"
    ):
        runs_of(words)


def test_nodes_of_unequal_size_and_too_few_gpus_are_known_before_anything_is_built(words, monkeypatch):
    from medvlp.config import ConfigError, check_ranks, compose
    from medvlp.training.trainer import check_devices

    with pytest.raises(ConfigError, match="8 ranks, 3 of them on this node: every node needs the same number"):
        check_ranks(compose("train", words), 8, 3)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ConfigError, match="8 ranks on this node, which has 2 GPUs: start 2 "):
        check_devices("auto", 8)
    check_devices("cpu", 8)
    check_devices("gpu", 2)


def test_tasks_on_other_data_or_with_other_options_are_other_facts(folder):
    from medvlp.config import RetrievalConfig
    from medvlp.runs import task_fact

    def fact(data, **options):
        return task_fact(RetrievalConfig(name="made", data=str(folder / data), valid_split="train", **options))

    compared, description = fact("made")
    assert f"{folder}/made/train (manifest " in description
    assert fact("made")[0] == compared
    assert len({compared, fact("other")[0], fact("nowhere")[0], fact("made", recall_at=[1])[0]}) == 4


def test_a_mistake_in_the_data_ends_the_run_its_workers_and_its_process(folder, words):
    bad = f"data.sources.made.path={folder}/damaged/train"
    process = start_train([*words, "run_name=mistake", "data.workers=2", bad, "data.max_bad_fraction=0"])
    process.process.join()
    end = time.monotonic() + 120
    while holders(process.output):  # its workers wrote there, too
        assert time.monotonic() < end, "they live on"
        time.sleep(0.02)
    code, output = finish(process)
    assert code == 1
    (line,) = said(output)
    assert re.search(r"\d of 44 samples are bad", line)
    assert rows(folder / "runs/mistake/status.json")[0]["state"] == "failed"


def test_ranks_on_other_data_do_not_begin(folder, words):
    other = f"data.sources.made.path={folder}/other/train"
    command = [*words, "run_name=differing", "--", other, "optim.lr=1"]
    code, output = on_ranks(differing.train, 2, command)
    assert code == 1
    assert said(output) == ["medvlp train: the ranks differ in the configuration; start all of them alike:"]
    assert f"  data.sources.made.path: {folder}/made/train (manifest " in output
    assert f", {folder}/other/train (manifest " in output
    assert "  optim.lr: 0.002 on rank 0 (" in output
    assert not (folder / "runs/differing").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ["data.sources.made.path=/nowhere/train"],
            ": data.sources.made.path: /nowhere/train does not exist. Prepare it",
        ),
        (["model.name=absent.json"], "the ranks differ in the configuration"),
        (["resume=auto", "run_root=/nowhere"], "the ranks differ in the configuration"),
    ],
)
def test_a_refusal_of_one_rank_is_told_once_and_leaves_no_folder(folder, words, more, told):
    command = [*words, "run_name=refused", "--", *more]
    code, output = finish(start(command, ranks=2, module="tests.distributed.differing"))
    assert code == 1
    (line,) = said(output)
    assert told in line
    assert not (folder / "runs/refused").exists()


@pytest.mark.slow
def test_a_checkpoint_that_is_missing_on_one_node_is_named_with_both_sides(folder, words):
    short = [*words, "trainer.max_steps=3"]
    assert run_here([*short, f"run_root={folder}/node0", "run_name=run"]) == 0
    command = [*short, "run_root=link", "run_name=run", "resume=auto", "trainer.max_steps=6"]
    # Each rank has its own working folder, and in it its own `link`.
    for rank, target in enumerate(["node0", "node1"]):
        (folder / f"at{rank}").mkdir()
        (folder / f"at{rank}/link").symlink_to(folder / target)
    (folder / "node1").mkdir()
    process = start([f"{folder}/at", *command], ranks=2, module="tests.distributed.elsewhere")
    code, output = finish(process)
    assert code == 1
    assert "  resume=auto: step-000003.ckpt, step 3, weights " in output
    assert ", a fresh start on rank 1 (" in output


@pytest.mark.slow
def test_one_of_two_ranks_killed_ends_the_other_and_the_run_goes_on_from_its_checkpoint(folder, words):
    run = folder / "runs/lost"
    assert run_here([*words, "run_name=whole", "optim.schedule=constant"]) == 0
    process = start([*words, *LONG, "run_name=lost", "optim.schedule=constant", "trainer.checkpoint_every=3"], ranks=2)
    wait_for_step(process, run, 4)
    ranks = offspring(process.pid)
    (victim,) = [pid for pid, environment in ranks.items() if b"\0RANK=1\0" in environment]
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    code, output = finish(process, seconds=60)
    assert time.monotonic() - began < 40
    assert code == 1
    (line,) = said(output)
    assert "another rank ended without a word" in line
    assert rows(run / "status.json")[0]["state"] == "failed"
    for pid in ranks:
        wait_until_gone(pid)
    last = max(int(path.stem[5:]) for path in (run / "checkpoints").glob("step-*.ckpt"))
    more = ["optim.schedule=constant", f"trainer.max_steps={last + 3}"]
    code, output = finish(start([*words, "run_name=lost", "resume=auto", *more], ranks=2))
    assert code == 0, output
    both = list(zip(losses(run), losses(folder / "runs/whole"), strict=False))
    assert len(both) >= 6
    assert [loss for loss, _ in both] == pytest.approx([expected for _, expected in both], rel=1e-4)


@pytest.mark.slow
def test_a_worker_that_the_system_kills_is_told_as_that(folder, words):
    run = folder / "runs/killed-worker"
    process = start([*words, *LONG, "run_name=killed-worker", "data.workers=1"])
    wait_for_step(process, run, 2)
    (worker,) = offspring(process.pid)
    os.kill(worker, signal.SIGKILL)
    code, output = finish(process)
    assert code == 1
    (line,) = said(output)
    assert "a loader worker was ended by the system (SIGKILL)" in line
    assert rows(run / "status.json")[0]["state"] == "failed"


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_group_and_saves(folder, words):
    run = folder / "runs/interrupted"
    process = start([*words, *LONG, "run_name=interrupted", "data.workers=2"], group=True)
    wait_for_step(process, run, 2)
    os.killpg(process.pid, signal.SIGINT)
    code, output = finish(process)
    assert (code, said(output)) == (3, [])
    status = rows(run / "status.json")[0]
    assert (status["state"], status["reason"]) == ("stopped", "SIGINT")
    assert (run / f"checkpoints/step-{status['step']:06d}.ckpt").exists()


@pytest.mark.slow
def test_ctrl_c_during_a_long_evaluation_ends_at_once_and_the_evaluation_is_made_up_for(folder, words):
    for split in ("valid", "test"):
        write_split(folder / "made" / split, pairs(44))
    (folder / "configs/task").mkdir(parents=True)
    task = f"name: slow\nkind: retrieval\ndata: {folder}/made\n"
    (folder / "configs/task/slow.yaml").write_text(task)
    run = folder / "runs/evaluating"
    words = [*words, "run_name=evaluating", "tasks=[slow]", "trainer.max_steps=3"]
    process = start([str(folder), *words], module="tests.slow_evaluation", group=True)
    deadline = time.monotonic() + 600
    while not (run / "evaluating").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    code, output = finish(process, seconds=20)
    assert code == 3
    assert said(output) == ["medvlp train: stopped by SIGINT"]
    assert rows(run / "status.json") == [{"state": "stopped", "step": 3, "reason": "SIGINT"}]
    assert (run / "checkpoints/step-000003.ckpt").exists()


@pytest.mark.slow
def test_two_trainings_of_one_name_leave_one_model(folder, words):
    run = folder / "runs/twice"
    first = start([*words, *LONG, "run_name=twice"])
    wait_for_step(first, run, 2)
    code, output = finish(start([*words, "run_name=twice", "resume=auto"]))
    assert code == 1
    assert f"twice is in use by medvlp train, process {first.pid} on " in said(output)[0]
    first.kill()
    finish(first)
    whole = [*words, "run_name=twice", "optim.schedule=constant", "trainer.max_steps=2"]
    assert run_here([*whole, "resume=auto"]) == 0
    assert run_here([*whole, "run_name=once"]) == 0
    assert equal(weights(run), weights(folder / "runs/once"))
