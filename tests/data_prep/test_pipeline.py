import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep import cli
from data_prep.engines.local import run
from data_prep.errors import PrepError
from data_prep.pipeline import UnitsFailed, prepare, shown_input
from medvlp.shards import ShardDataset, verify
from tests.data_prep.folders import digests, jpeg, write_rocov2

REPOSITORY = Path(__file__).resolve().parents[2]


def prep(folder, output, **options):
    return prepare("rocov2", str(folder), output, **{"samples_per_shard": 4, **options})


def test_the_bytes_do_not_depend_on_workers(rocov2, tmp_path):
    prep(rocov2, tmp_path / "one", workers=1)
    prep(rocov2, tmp_path / "two", workers=2)
    written = digests(tmp_path / "one")
    assert written == digests(tmp_path / "two")
    assert sum(name.endswith(".tar") for name in written) == 5
    assert verify(tmp_path / "one") == []
    manifest = (tmp_path / "one" / "train" / "manifest.json").read_text()
    assert not any(word in manifest for word in ("engine", "workers", "seconds", str(tmp_path)))


def test_planted_damage_is_counted_and_named(rocov2, tmp_path):
    train = rocov2 / "train"
    (train / "ROCOv2_2023_train_000000.jpg").write_bytes(jpeg(0)[:-150])
    (train / "ROCOv2_2023_train_000001.jpg").unlink()
    (train / "ROCOv2_2023_train_000002.jpg").write_bytes(jpeg(0, side=8))
    captions = rocov2 / "train_captions.csv"
    captions.write_text(captions.read_text().replace('"Caption 5, with a comma"', " \u200b"))
    ledger = prep(rocov2, tmp_path / "out").ledger
    drops = {
        "check_images": {"broken_image": 1, "too_small": 1},
        "need_text": {"empty_caption": 1},
        "read": {"missing_image": 1},
    }
    assert (ledger["in"], ledger["out"], ledger["drops"]) == (18, 14, drops)
    sha256 = ShardDataset(tmp_path / "out" / "train").manifest_hash
    assert ledger["splits"]["train"] == {"in": 12, "out": 8, "drops": drops, "manifest_sha256": sha256}
    assert ledger == json.loads((tmp_path / "out" / "ledger.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
    assert [(r["name"], r["stage"], r["reason"]) for r in rows] == [
        ("ROCOv2_2023_train_000000.jpg", "check_images", "broken_image"),
        ("ROCOv2_2023_train_000001", "read", "missing_image"),
        ("ROCOv2_2023_train_000002.jpg", "check_images", "too_small"),
        ("ROCOv2_2023_train_000005.jpg", "need_text", "empty_caption"),
    ]
    assert rows[2]["detail"] == "jpg is 8 × 8, min_side is 16"
    assert verify(tmp_path / "out") == []


def test_shards_are_numbered_without_gaps(rocov2, tmp_path):
    for n in range(4):
        (rocov2 / "train" / f"ROCOv2_2023_train_{n:06d}.jpg").unlink()
    prep(rocov2, tmp_path / "out")
    train = ShardDataset(tmp_path / "out" / "train")
    assert train.manifest.shards == {"000000.tar": 4, "000001.tar": 4}
    assert train.read(0).metadata["original_name"] == "ROCOv2_2023_train_000004.jpg"
    assert train.column("shard") == ["000000.tar"] * 4 + ["000001.tar"] * 4


def test_again_is_done_and_changes_nothing(rocov2, tmp_path):
    assert not prep(rocov2, tmp_path / "out").was_done
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    again = prep(rocov2, tmp_path / "out", workers=2)
    assert again.was_done
    assert again.ledger["out"] == 18
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"samples_per_shard": 5}, "read.samples_per_shard: 4 there, 5 now"),
        ({"min_side": 20}, "check_images.min_side: 16 there, 20 now"),
        ({"max_pixels": 9}, "check_images.max_pixels: 64000000 there, 9 now"),
    ],
)
def test_another_configuration_needs_another_folder(rocov2, tmp_path, options, complaint):
    prep(rocov2, tmp_path / "out")
    with pytest.raises(PrepError, match=complaint) as caught:
        prep(rocov2, tmp_path / "out", **options)
    assert "give a new output folder" in str(caught.value)


def test_another_input_needs_another_folder(rocov2, tmp_path):
    prep(rocov2, tmp_path / "out")
    (rocov2 / "test" / "ROCOv2_2023_test_000000.jpg").write_bytes(b"changed")
    with pytest.raises(PrepError, match=r"read.input.test/: \w{12}… there, \w{12}… now"):
        prep(rocov2, tmp_path / "out")


def test_folders_that_are_refused(rocov2, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    for output, complaint in [
        (tmp_path / "full", "no preparation wrote"),
        (rocov2, "same folder"),
        (__file__, "is a file"),
    ]:
        with pytest.raises(PrepError, match=complaint):
            prep(rocov2, output)
    with pytest.raises(PrepError, match=r"engine='mpi' is not a choice. Choices: local, ray, slurm"):
        prep(rocov2, tmp_path / "out", engine="mpi")


def test_a_key_twice_is_named(rocov2, tmp_path):
    name = "ROCOv2_2023_train_000001"
    with open(rocov2 / "valid_captions.csv", "a") as file:
        file.write(f"{name},again\n")
    (rocov2 / "valid" / f"{name}.jpg").write_bytes(jpeg(5))
    with pytest.raises(PrepError, match=f"1 keys come more than once: rocov2__{name}__0__0"):
        prep(rocov2, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*/manifest.json"))


@pytest.mark.parametrize("workers", [1, 2])
def test_one_failing_unit_stops_no_other(rocov2, tmp_path, workers):
    """A folder in the place of a part is an error of the system, and what else there is gets done."""
    prep(rocov2, tmp_path / "first", cache=tmp_path / "cache")
    (made,) = [path for path in (tmp_path / "cache").rglob("*.tar") if b"train_000005" in path.read_bytes()]
    (tmp_path / "out" / ".parts" / made.name).mkdir(parents=True)
    shutil.copy(tmp_path / "first" / ".plan.json", tmp_path / "out")  # as a run that was stopped leaves it
    failure = rf"1 units are not done, .*\n  train unit 1: ShardError: cannot write .*{made.name}: Is a directory"
    with pytest.raises(PrepError, match=failure):
        prep(rocov2, tmp_path / "out", workers=workers)
    parts = [json.loads(path.read_text()) for path in (tmp_path / "out").glob(".parts/*.json")]
    assert sorted((part["split"], part["samples"]) for part in parts) == [
        ("test", 3),
        ("train", 4),
        ("train", 4),
        ("valid", 3),
    ]


def test_faults_of_ours_are_told_apart(rocov2, tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.jobs.build_stages", lambda config: [lambda draft: draft.nonsense])
    with pytest.raises(UnitsFailed, match="AttributeError: 'Draft' object has no attribute 'nonsense'"):
        prep(rocov2, tmp_path / "out", workers=1)


def _die(job):
    os._exit(9)


def _square(job):
    return job * job


def test_the_engine():
    assert sorted(o.result for o in run(_square, range(7), workers=2)) == [0, 1, 4, 9, 16, 25, 36]
    outcomes = list(run(_die, [1], workers=2))
    assert "a worker process ended" in str(outcomes[0].error)


SCRIPT = """
import sys
from data_prep.pipeline import prepare
if __name__ == "__main__":
    prepare("rocov2", sys.argv[1], sys.argv[2], workers=2, samples_per_shard=10)
"""


def test_kill_and_restart(tmp_path):
    folder = write_rocov2(tmp_path / "in", train=600, valid=10, test=10)
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    output = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(output)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    while len(list(output.glob(".parts/*.json"))) < 5:
        assert process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in output.glob(".parts/*.json")}
    assert 5 <= len(done) < 62
    assert not (output / "ledger.json").exists()
    deadline = time.monotonic() + 120
    while any(_runs(pid) for pid in children):  # workers do not outlive the run
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(PrepError, match="another configuration"):
        prep(folder, output, samples_per_shard=11)
    seen = {path: path.stat().st_mtime_ns for path in output.glob(".parts/*.json")}
    prepare("rocov2", str(folder), output, samples_per_shard=10)
    prepare("rocov2", str(folder), tmp_path / "straight", workers=1, samples_per_shard=10)
    assert digests(output) == digests(tmp_path / "straight")
    run_info = json.loads((output / "run.json").read_text())
    assert run_info["units_done_before"] == len(seen) >= len(done)
    assert verify(output) == []
    assert not list(output.rglob("*.partial"))
    assert not list(output.rglob(".parts"))


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    "at", ["finalize.write_manifest", "finalize.write_tables", "finalize.make_ledger", "pipeline.shutil.rmtree"]
)
def test_a_stop_in_the_last_step(rocov2, tmp_path, monkeypatch, at):
    prep(rocov2, tmp_path / "straight")

    def stop(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"data_prep.{at}", stop)
        with pytest.raises(KeyboardInterrupt):
            prep(rocov2, tmp_path / "out")
    prep(rocov2, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")
    assert not list((tmp_path / "out").rglob(".parts"))


def test_two_at_once_are_refused(rocov2, tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out" / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(PrepError, match="is in use by another process; wait for it"):
        prep(rocov2, tmp_path / "out")
    os.close(handle)


def test_one_that_came_to_nothing_does_not_bind_its_folder(rocov2, tmp_path, monkeypatch):
    def broken(*args, **options):
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.pipeline._run_jobs", broken)
        with pytest.raises(OSError, match="the disk is gone"):
            prep(rocov2, tmp_path / "out", samples_per_shard=3)
    assert not (tmp_path / "out").exists()
    # Killed before its first unit: the plan is all there is.
    (tmp_path / "out/train").mkdir(parents=True)
    (tmp_path / "out/.plan.json").write_text('{"stages": [{"stage": "read"}], "tools": {}}')
    prep(rocov2, tmp_path / "out", samples_per_shard=4)
    with pytest.raises(PrepError, match="begun with another configuration"):
        prep(rocov2, tmp_path / "out", samples_per_shard=3)


def test_a_folder_without_a_single_sample_takes_another_configuration(rocov2, tmp_path):
    prep(rocov2, tmp_path / "straight")
    empty = prep(rocov2, tmp_path / "out", licences=["PDM"])
    assert empty.ledger["out"] == 0
    assert prep(rocov2, tmp_path / "out", licences=["PDM"]).was_done
    assert prep(rocov2, tmp_path / "out").ledger["out"] == 18
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_a_ledgers_splits_name_no_folder_elsewhere(rocov2, tmp_path):
    """What makes room for another configuration is the folder's own."""
    prep(rocov2, tmp_path / "out", licences=["PDM"])
    (tmp_path / "precious").mkdir()
    ledger = json.loads((tmp_path / "out/ledger.json").read_text())
    for name in ("../precious", str(tmp_path / "precious"), ".", ""):
        ledger["splits"][name] = ledger["splits"]["train"]
    (tmp_path / "out/ledger.json").write_text(json.dumps(ledger))
    assert prep(rocov2, tmp_path / "out").ledger["out"] == 18
    assert (tmp_path / "precious").is_dir()


def test_a_folder_of_another_kind_is_refused(rocov2, tmp_path):
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    with pytest.raises(PrepError, match="run holds a training run; medvlp prep does not write into it"):
        prep(rocov2, tmp_path / "run")


def test_summary(rocov2, tmp_path):
    (rocov2 / "test" / "ROCOv2_2023_test_000000.jpg").write_bytes(b"")
    first = prep(rocov2, tmp_path / "out")
    text = cli.summary(first.output, first.ledger, first.was_done)
    assert text.splitlines()[:2] == [
        "in 18, out 17 (train 12, valid 3, test 2), dropped 1",
        "        1 check_images: broken_image",
    ]
    assert "already finished" in cli.summary(first.output, first.ledger, prep(rocov2, tmp_path / "out").was_done)


def test_usage(capsys):
    assert cli.main([]) == 2
    assert cli.main(["rocov2"]) == 2
    assert "takes key=value, not 'rocov2'" in capsys.readouterr().err
    assert cli.main(["--help"]) == 0
    assert "mni152" in capsys.readouterr().out


def test_the_command(rocov2, tmp_path, capsys):
    words = ["source=rocov2", f"input={rocov2}", f"output={tmp_path / 'out'}", "workers=1", "samples_per_shard=4"]
    assert cli.main(words) == 0
    assert "in 18, out 18" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").exists()
    assert cli.main([*words[:2], f"output={tmp_path / 'other'}", "samples_per_shard=0"]) == 1
    assert "samples_per_shard" in capsys.readouterr().err
    assert cli.main([*words, "samples_per_shards=4"]) == 1
    error = capsys.readouterr().err
    assert "samples_per_shards" in error
    assert "Traceback" not in error


def test_no_torch(rocov2, tmp_path):
    code = (
        "import sys; from data_prep.pipeline import prepare; import medvlp.verbs.shards.verify, data_prep.cli;"
        f"prepare('rocov2', {str(rocov2)!r}, {str(tmp_path / 'out')!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_labels_of_medmnist_survive(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    arrays = {f"{s}_images": images for s in ("train", "val", "test")}
    np.savez(tmp_path / "octmnist.npz", **arrays, **{f"{s}_labels": np.arange(5) % 4 for s in ("train", "val", "test")})
    prepare("medmnist", str(tmp_path / "octmnist.npz"), tmp_path / "out", samples_per_shard=2)
    valid = ShardDataset(tmp_path / "out" / "valid")
    assert [valid.read(i).labels["label"] for i in range(5)] == [0, 1, 2, 3, 0]
    assert valid.column("modality") == ["OCT"] * 5
    assert verify(tmp_path / "out") == []


KILLED = """
import os, sys
from data_prep.pipeline import prepare
replace = os.replace
def stop(old, new):
    if str(new).endswith(sys.argv[3]):
        os._exit(9)
    replace(old, new)
os.replace = stop
prepare("rocov2", sys.argv[1], sys.argv[2], samples_per_shard=4)
"""


@pytest.mark.parametrize("at", [".plan.json", "train/samples.parquet", "ledger.json"])
def test_a_kill_leaves_nothing_after_the_next_run(rocov2, tmp_path, at):
    output = tmp_path / "out"
    words = [sys.executable, "-c", KILLED, str(rocov2), str(output), at]
    done = subprocess.run(words, cwd=REPOSITORY, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == 9
    assert len(list(output.rglob("*.partial"))) == 1
    assert prep(rocov2, output).ledger["out"] == 18
    assert not list(output.rglob("*.partial"))
    assert verify(output) == []


def test_a_leftover_beside_finished_data(rocov2, tmp_path):
    prep(rocov2, tmp_path / "out")
    (tmp_path / "out" / "train" / ".samples.parquet.17.partial").touch()
    assert prep(rocov2, tmp_path / "out").was_done
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize("name", ["ledger.json", ".plan.json"])
@pytest.mark.parametrize(
    "content",
    [
        '{"stages": [',
        "[]",
        "{}",
        "[" * 5000,
        '{"in": 1, "out": 0, "drops": {}, "splits": 5, "stages": [1], "tools": {}}',
    ],
)
def test_damaged_records(rocov2, tmp_path, capsys, name, content):
    words = ["source=rocov2", f"input={rocov2}", f"output={tmp_path / 'out'}", "workers=1", "samples_per_shard=4"]
    prep(rocov2, tmp_path / "out")
    (tmp_path / "out" / name).write_text(content)
    assert cli.main(words) == 1
    assert f"{name} is damaged" in capsys.readouterr().err


def test_a_report_that_cannot_be_written(rocov2, tmp_path, capsys):
    words = ["source=rocov2", f"input={rocov2}", f"output={tmp_path / 'out'}", "workers=1", "samples_per_shard=4"]
    prep(rocov2, tmp_path / "out")
    (tmp_path / "out" / "train" / "manifest.json").write_text("{")
    assert cli.main(words) == 1
    error = capsys.readouterr().err
    assert "train/manifest.json is not a manifest" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["workers", "max_pixels", "min_side", "samples_per_shard"])
def test_counts_start_at_one(rocov2, tmp_path, name):
    with pytest.raises(PrepError, match=f"{name} is 0, expected 1 or more"):
        prep(rocov2, tmp_path / "out", **{name: 0})
    assert not (tmp_path / "out").exists()


def test_an_empty_output(rocov2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PrepError, match="output is empty"):
        prep(rocov2, "")


def test_nothing_left(rocov2, tmp_path, capsys):
    (rocov2 / "train" / "ROCOv2_2023_train_000000.jpg").unlink()
    words = ["source=rocov2", f"input={rocov2}", f"output={tmp_path / 'out'}", "workers=1", "max_pixels=99"]
    assert cli.main(words) == 1
    message = "all 18 samples were dropped, most (17) by check_images: too_many_pixels; "
    assert message in capsys.readouterr().err
    assert len((tmp_path / "out" / "dropped.jsonl").read_text().splitlines()) == 18


@pytest.mark.parametrize(
    ("given", "name"),
    [("/home/ana/sets/rocov2", "rocov2"), ("sets/rocov2", "sets/rocov2"), ("../ana/a.csv", "a.csv"), ("", "")],
)
def test_a_runs_page_names_its_input_without_the_machines_folders(given, name):
    assert shown_input(given) == name
