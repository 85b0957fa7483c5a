"""Runs as a user starts them: interrupted, resumed, on several ranks, on damaged data."""

import json
import os
import random
import shutil
import signal
import sys
from collections import Counter
from dataclasses import replace
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from medvlp.shards import Sample, ShardDataset
from medvlp.training.optim import LearningRate
from medvlp.training.trainer import nameless
from tests.conftest import REPOSITORY
from tests.datasets import pairs, write_split
from tests.distributed.ranks import start_train, train_on_ranks
from tests.models.tiny import TINY, tiny_architecture
from tests.runs import equal, finish, losses, rows, run_here, start, tiny_words, wait_for_step, weights

PARTS = ("vision", "vision_head", "text", "text_head", "logit_scale")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data, architecture, and a run that nothing disturbed."""
    made = tmp_path_factory.mktemp("train")
    write_split(made / "made" / "train", pairs(44))
    tiny_architecture(made)
    assert run_here([*tiny_words(made), "run_name=whole"]) == 0
    return made


@pytest.fixture
def words(folder):
    return tiny_words(folder)


def test_a_run_leaves_what_was_promised(folder):
    run = folder / "runs/whole"
    assert rows(run / "status.json") == [{"state": "done", "step": 12, "reason": ""}]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [
        "last.ckpt",
        "step-000006.ckpt",
        "step-000009.ckpt",
        "step-000012.ckpt",
    ]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["optim"]["lr"] == 0.002
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["medvlp"]["config"] == config
    assert set(checkpoint["medvlp"]) == {
        "format",
        "config",
        "model_cfg",
        "preprocess",
        "tokenizer",
        "weights_sha256",
    }
    assert (run / "report.html").exists()
    metrics = rows(run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == list(range(1, 13))
    assert [round(row["lr"], 6) for row in metrics[:3]] == [0.001, 0.002, 0.002]
    assert metrics[0]["epoch"] == 0.2
    samples = rows(run / "samples.jsonl")
    assert [len(row["keys"]) for row in samples] == [8] * 12
    epoch = [key for row in samples[:5] for key in row["keys"]]
    assert len(set(epoch)) == 40


def test_open_clip_opens_the_checkpoint_as_it_is(folder):
    import open_clip

    path = folder / "runs/whole/checkpoints/last.ckpt"
    open_clip.add_model_config(folder / "tiny-clip.json")
    theirs, _, _ = open_clip.create_model_and_transforms("tiny-clip")
    theirs.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    import medvlp

    ours, transform, tokenizer = medvlp.load(path)
    tokens, pixels = tokenizer(["a finding"]), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours.encode_text(tokens), theirs.eval().encode_text(tokens))
        assert torch.equal(ours.encode_image(pixels), theirs.encode_image(pixels))
    assert transform.transforms[0].size == 32


def test_a_run_killed_in_mid_epoch_goes_on_bit_for_bit(folder, words):
    kill_and_resume(folder, words, "killed", step=7, resumed=["data.workers=1"])


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(10))
def test_killed_at_random_steps(folder, words, attempt):
    step = random.Random(attempt).randrange(1, 12)
    kill_and_resume(folder, words, f"killed-{attempt}", step, resumed=[f"data.workers={attempt % 3}"])


def kill_and_resume(folder, words, name, step, resumed, whole="whole"):
    run, whole = folder / "runs" / name, folder / "runs" / whole
    fork = start_train([*words, f"run_name={name}"])
    wait_for_step(fork, run, step)
    fork.kill()
    assert finish(fork)[0] == -signal.SIGKILL
    assert rows(run / "status.json")[0]["state"] == "running"
    assert not (run / "checkpoints/step-000012.ckpt").exists()
    assert run_here([*words, f"run_name={name}", "resume=auto", *resumed]) == 0
    assert rows(run / "samples.jsonl") == rows(whole / "samples.jsonl")
    assert losses(run) == losses(whole)
    assert equal(weights(run), weights(whole))


def test_on_sigterm_it_saves_exits_3_and_goes_on(folder, words):
    run = folder / "runs/stopped"
    fork = start_train([*words, "run_name=stopped", "trainer.checkpoint_every=100"])
    wait_for_step(fork, run, 2)
    os.kill(fork.process.pid, signal.SIGTERM)
    code, output = finish(fork)
    assert code == 3, output
    status = rows(run / "status.json")[0]
    assert (status["state"], status["reason"]) == ("stopped", "SIGTERM")
    assert 2 <= status["step"] < 12
    assert (run / f"checkpoints/step-{status['step']:06d}.ckpt").exists()
    assert run_here([*words, "run_name=stopped", "resume=auto", "trainer.checkpoint_every=100"]) == 0
    assert equal(weights(run), weights(folder / "runs/whole"))


def test_torchrun_forwards_sigterm_to_ranks_and_their_workers_and_still_saves(folder, words):
    run = folder / "runs/stopped2"
    more = ["run_name=stopped2", "trainer.checkpoint_every=1000", "trainer.max_steps=4000", "data.workers=2"]
    process = start([*words, *more], ranks=2)
    wait_for_step(process, run, 3)
    process.send_signal(signal.SIGTERM)
    _, output = finish(process)
    status = rows(run / "status.json")[0]
    assert status["state"] == "stopped", output
    assert (run / f"checkpoints/step-{status['step']:06d}.ckpt").exists()
    assert len(rows(run / "samples.jsonl")) == status["step"]


@pytest.fixture(scope="module")
def two_ranks(folder):
    """Runs on two ranks: in double precision, the same in parts, and from a checkpoint of one rank. All on the same ranks, to
    start once."""
    words = tiny_words(folder)
    code, output = train_on_ranks(
        [
            [*words, *DOUBLE, "run_name=two64"],
            [*words, *DOUBLE, "run_name=parts64", "trainer.accumulate=2"],
            [*words, *elastic(folder), "run_name=elastic2"],
            [*words, *DOUBLE, *blend(folder), "run_name=blend2"],
        ]
    )
    assert code == 0, output
    return folder / "runs"


DOUBLE = ["trainer.precision=64-true", "trainer.max_steps=20", "optim.clip_norm=1", "optim.ema_decay=0.9"]


def elastic(folder):
    return [f"resume={folder}/runs/whole/checkpoints/step-000006.ckpt"]


def test_two_ranks_are_one_rank_in_double_precision(folder, words, two_ranks):
    assert run_here([*words, *DOUBLE, "run_name=one64"]) == 0
    one_rank = folder / "runs/one64"
    for both in (two_ranks / "two64", two_ranks / "parts64"):
        assert losses(both) == pytest.approx(losses(one_rank), rel=1e-9)
        assert rows(both / "samples.jsonl") == rows(one_rank / "samples.jsonl")
        checkpoints = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (one_rank, both)]
        for kind in ("state_dict", "training_weights"):  # the average, and what it is of
            for name, value in checkpoints[0][kind].items():
                assert torch.allclose(value, checkpoints[1][kind][name], rtol=1e-9, atol=1e-12), name


def blend(folder):
    """Two sources by shares: one selected by its table and by scores next to it, the other by a file of keys."""
    split = folder / "made/train"
    if not (folder / "other").exists():
        samples = [replace(sample, key=f"other{sample.key[4:]}") for sample in pairs(20)]
        write_split(folder / "other/train", samples)
        (folder / "keys.txt").write_text("\n".join(sample.key for sample in samples[3:17]))
        (split / "scores").mkdir()
        keys = ShardDataset(split).keys
        quality = pa.table({"key": keys, "quality": [(7 * row) % 44 for row in range(44)]})
        pq.write_table(quality, split / "scores/made.parquet")
    return [
        "data.sources.made.where=['top 75% by quality','caption_length > 5']",
        f"data.sources.other.path={folder}/other/train",
        f"data.sources.other.where=['key in file {folder}/keys.txt']",
        "data.shares.made=3",
        "data.shares.other=1",
    ]


def test_a_filtered_blend_goes_on_bit_for_bit_and_two_ranks_are_one(folder, words, two_ranks):
    filtered = [*words, *DOUBLE, *blend(folder)]
    assert run_here([*filtered, "run_name=blend"]) == 0
    run = folder / "runs/blend"
    counts = json.loads((run / "selected.json").read_text())
    assert {name: count["selected"] for name, count in counts.items()} == {"made": 33, "other": 14}
    seen = Counter(key for row in rows(run / "samples.jsonl") for key in row["keys"])
    expected_keys = {f"other__a{n:04d}__f1__0" for n in range(3, 17)}
    expected_keys |= {f"made__a{n:04d}__f1__0" for n in range(44) if (7 * n) % 44 >= 11}
    assert seen.keys() == expected_keys
    share = sum(count for key, count in seen.items() if key.startswith("other")) / 160
    assert share == pytest.approx(12 / 47, abs=0.05)  # of each epoch
    metrics = rows(run / "metrics.jsonl")
    assert {"samples/made", "samples/other", "loss/made", "loss/other", "logit_scale"} <= metrics[0].keys()
    kill_and_resume(folder, filtered, "blend-killed", step=6, resumed=["data.workers=1"], whole="blend")
    for other, tolerance in ((run.with_name("blend-killed"), 0), (two_ranks / "blend2", 1e-9)):
        assert rows(other / "samples.jsonl") == rows(run / "samples.jsonl")
        for row, expected in zip(rows(other / "metrics.jsonl"), metrics, strict=True):
            for name in ("loss", "loss/made", "loss/other", "samples/made", "samples/other", "logit_scale"):
                assert (name in row) == (name in expected)  # a step without a sample of a source has no loss of it
                assert row.get(name, 0) == pytest.approx(expected.get(name, 0), rel=tolerance), (row["step"], name)


def test_steps_in_parts_go_on_bit_for_bit(folder, words):
    """With patches that are dropped at random, and a checkpoint in mid-epoch."""
    architecture = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "patch_dropout": 0.5}}
    (folder / "dropping.json").write_text(json.dumps(architecture))
    parts = [*words, f"model.name={folder}/dropping.json", "trainer.accumulate=4", "trainer.max_steps=8"]
    assert run_here([*parts, "run_name=parts"]) == 0
    checkpoint = folder / "runs/parts/checkpoints/step-000003.ckpt"
    assert run_here([*parts, "run_name=parts-resumed", f"resume={checkpoint}"]) == 0
    assert losses(folder / "runs/parts-resumed") == losses(folder / "runs/parts")[3:]
    assert equal(weights(folder / "runs/parts-resumed"), weights(folder / "runs/parts"))
    assert losses(folder / "runs/parts")[0] == pytest.approx(losses(folder / "runs/whole")[0], rel=0.1)  # all negatives


def test_a_run_goes_on_with_another_number_of_ranks(folder, words, two_ranks):
    run, whole = folder / "runs/elastic", folder / "runs/whole"
    assert run_here([*words, *elastic(folder), "run_name=elastic"]) == 0
    assert losses(run) == losses(whole)[6:]
    assert rows(two_ranks / "elastic2/samples.jsonl") == rows(whole / "samples.jsonl")[6:]
    assert losses(two_ranks / "elastic2") == pytest.approx(losses(whole)[6:], rel=1e-4)


def test_a_longer_horizon_continues_a_finished_run(folder, words):
    short = [*words, "run_name=longer", "optim.schedule=constant", "trainer.max_steps=4"]
    assert run_here(short) == 0
    assert run_here([*short, "resume=auto", "trainer.max_steps=9"]) == 0
    assert run_here([*words, "run_name=at-once", "optim.schedule=constant", "trainer.max_steps=9"]) == 0
    assert equal(weights(folder / "runs/longer"), weights(folder / "runs/at-once"))
    assert run_here([*short, "resume=auto", "trainer.max_steps=9"]) == 0  # nothing is left to do


def test_a_longer_horizon_sets_the_rates_from_its_first_step_and_says_what_changed(folder, words, capsys):
    run = [*words, "run_name=horizon", "trainer.max_steps=4"]
    assert run_here(run) == 0
    assert run_here([*run, "resume=auto", "trainer.max_steps=9", "optim.final_lr_fraction=0.1"]) == 0
    said = capsys.readouterr().out
    assert "and followed from here: optim.final_lr_fraction 0.0 → 0.1, trainer.max_steps 4 → 9\n" in said
    schedule = LearningRate("cosine", 2, 9, 0.1)
    rates = [row["lr"] for row in rows(folder / "runs/horizon/metrics.jsonl")][4:]
    assert rates == pytest.approx([2e-3 * schedule(step) for step in range(4, 9)], rel=1e-12)
    assert run_here([*run, "resume=auto", "trainer.max_steps=5"]) == 1
    assert "is at step 9, past this run's end at step 5; raise trainer.max_steps" in capsys.readouterr().err


def test_with_last_alone_a_run_goes_on_and_keeps_its_rows(folder, words):
    run = folder / "runs/last-alone"
    assert run_here([*words, "run_name=last-alone", "trainer.max_steps=4", "optim.schedule=constant"]) == 0
    for path in (run / "checkpoints").glob("step-*.ckpt"):
        path.unlink()
    (run / "checkpoints" / ".last.ckpt.0123456789ab.partial").write_bytes(b"of a killed writer")
    assert (
        run_here([*words, "run_name=last-alone", "resume=auto", "trainer.max_steps=6", "optim.schedule=constant"]) == 0
    )
    assert [row["step"] for row in rows(run / "samples.jsonl")] == [1, 2, 3, 4, 5, 6]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["last.ckpt", "step-000006.ckpt"]


def test_weights_without_numbers_are_not_saved_and_the_good_ones_stay(folder, words, capsys):
    run, good = folder / "runs/overflow", folder / "runs/whole/checkpoints/step-000006.ckpt"
    (run / "checkpoints").mkdir(parents=True)
    content = torch.load(good, weights_only=True)
    for state in content["optimizer_states"][0]["state"].values():
        state["exp_avg"].fill_(float("inf"))  # what the next step divides by its root
    torch.save(content, run / "checkpoints/step-000006.ckpt")
    assert run_here([*words, "run_name=overflow", "resume=auto", "trainer.checkpoint_every=1"]) == 1
    assert "is not a finite number at step 7, so this step is not saved" in capsys.readouterr().err
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-000006.ckpt"]
    assert rows(run / "status.json")[0]["state"] == "failed"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([], "exists; choose another run_name, or go on with resume=auto"),
        (["resume=auto", "seed=1"], "seed differ from that run's"),
        (["resume=auto", "optim.lr=5e-5"], "optim.lr differ from that run's"),
        (["resume=auto", "optim.parts.vision.freeze=true"], "optim.parts differ from that run's"),
        (["run_name=new", *(f"optim.parts.{part}.freeze=true" for part in PARTS)], "nothing is left to train"),
        (["resume=auto", "data.global_batch_size=4"], "data.global_batch_size differ"),
        (["resume=auto", "data.sources.made.weight=2"], "data.sources differ"),
        (["resume=absent.ckpt"], "no such file"),
        (["run_name=new", "optim.parts.visio.freeze=true"], "unknown part 'visio'"),
        (["run_name=new", "data.global_batch_size=45"], "an epoch has 44 samples"),
        (["run_name=new", "init_from=absent.ckpt"], "checkpoint absent.ckpt: no such file"),
        (["run_name=new", "model.name=ViT-B-999"], "not one of open_clip's architectures"),
        (["run_name=new", "tasks=[rocov2_retrieval]"], "task rocov2_retrieval"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(words, change, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDVLP_DATA", str(tmp_path))
    assert run_here([*words, "run_name=whole", *change]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_changed_data_is_refused_on_resume(words, folder, tmp_path, capsys):
    write_split(tmp_path / "made/train", pairs(45))
    changed = [*words, "run_name=whole", "resume=auto", f"data.sources.made.path={tmp_path}/made/train"]
    assert run_here([*changed, "trainer.max_steps=13"]) == 1
    assert "the data changed since the checkpoint: made has another manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(lr_schedulers=[1]), "AttributeError: 'int' object"),
        (lambda c: c["optimizer_states"][0]["param_groups"].pop(), "different number of parameter groups"),
        (lambda c: c["optimizer_states"][0]["param_groups"][0].update(params=[1]), "doesn't match the size"),
        (lambda c: c.pop("pytorch-lightning_version"), "KeyError"),
        (lambda c: c.update(callbacks=5), "AttributeError"),
    ],
)
def test_a_state_that_cannot_be_taken_up_is_named(change, said, folder, words, capsys):
    """By its weights the checkpoint is sound; the rest of it is of another version, or edited."""
    run = folder / "runs/odd"
    content = torch.load(sorted((folder / "runs/whole/checkpoints").glob("step-*.ckpt"))[0], weights_only=True)
    change(content)
    shutil.rmtree(run, ignore_errors=True)
    (run / "checkpoints").mkdir(parents=True)
    torch.save(content, run / "checkpoints/step-000003.ckpt")
    assert run_here([*words, "run_name=odd", "resume=auto"]) == 1
    error = capsys.readouterr().err
    assert "the state of its run cannot be taken up" in error
    assert said in error
    assert "start a new run with init_from=" in error
    assert "Traceback" not in error


def test_going_back_to_an_older_checkpoint_leaves_the_later_ones_aside(folder, words):
    run = folder / "runs/back"
    assert run_here([*words, "run_name=back"]) == 0
    older = run / "checkpoints/step-000006.ckpt"
    assert run_here([*words, "run_name=back", f"resume={older}", "trainer.max_steps=8"]) == 0
    names = sorted(path.name for path in (run / "checkpoints").glob("*.ckpt"))
    assert names == [
        "last.ckpt",
        "set-aside-step-000009.ckpt",
        "set-aside-step-000012.ckpt",
        "step-000006.ckpt",
        "step-000008.ckpt",
    ]
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    assert [row["step"] for row in rows(run / "metrics.jsonl")] == list(range(1, 9))


def test_a_refused_command_leaves_the_runs_status(folder, words):
    before = rows(folder / "runs/whole/status.json")
    assert run_here([*words, "run_name=whole", "resume=auto", "seed=5"]) == 1
    assert rows(folder / "runs/whole/status.json") == before


def test_a_loss_that_is_no_number_stops_the_run(folder, words, capsys):
    assert run_here([*words, "run_name=nan", "optim.lr=1e30", "optim.warmup_steps=0"]) == 1
    assert "the loss is nan at step" in capsys.readouterr().err
    assert rows(folder / "runs/nan/status.json")[0]["state"] == "failed"
    assert rows(folder / "runs/nan/metrics.jsonl")[0]["step"] == 1


def test_a_named_model_takes_another_image_size_and_remembers_it(folder, words):
    import medvlp

    path = folder / "tiny-clip.json"
    more = ["run_name=sized", "trainer.max_steps=1", "model.image.size=64", "model.image.mean=[0.1,0.2,0.3]"]
    assert run_here([*words, *more, "model.text.context_length=16"]) == 0
    content = path.read_text()
    try:
        path.unlink()  # the checkpoint says all there is to know
        model, transform, tokenizer = medvlp.load(folder / "runs/sized/checkpoints/last.ckpt")
    finally:
        path.write_text(content)
    assert tuple(model.visual.image_size) == (64, 64)
    assert list(transform.transforms[-1].mean) == [0.1, 0.2, 0.3]
    assert tokenizer(["a"]).shape == (1, 16)


def test_half_precision_towers_follow_the_single_precision_run(folder, words):
    assert run_here([*words, "run_name=half", "trainer.precision=bf16-mixed", "trainer.max_steps=4"]) == 0
    assert losses(folder / "runs/half") == pytest.approx(losses(folder / "runs/whole")[:4], rel=0.02)
    assert weights(folder / "runs/half")["visual.proj"].dtype == torch.float32


def test_frozen_parts_stay_and_init_from_takes_named_parts(folder, words):
    source = f"init_from={folder}/runs/whole/checkpoints/last.ckpt"
    more = ["run_name=tuned", "trainer.max_steps=2", "init_parts=[vision]", "optim.parts.vision.freeze=true"]
    assert run_here([*words, *more, source]) == 0
    before, after = weights(folder / "runs/whole"), weights(folder / "runs/tuned")
    assert torch.equal(before["visual.conv1.weight"], after["visual.conv1.weight"])
    assert not torch.equal(before["visual.proj"], after["visual.proj"])
    assert not torch.equal(before["text_projection"], after["text_projection"])


def damaged(count: int) -> tuple[list[Sample], dict[str, str]]:
    """100 pairs of which some are bad, in three ways."""
    made, reasons = pairs(100), {}
    for number in range(count):
        sample = made[number * 9 + 3]
        if number % 3 == 0:
            sample.images["jpg"] = sample.images["jpg"][:100]
        elif number % 3 == 1:
            sample.texts["caption"] = ""
        else:
            sample.images["jpg"] = b"\x00" * 50
        reasons[sample.key] = "empty_caption" if number % 3 == 1 else "undecodable_image"
    return made, reasons


def test_damaged_samples_are_replaced_and_counted_exactly(words, tmp_path):
    samples, reasons = damaged(3)
    split = write_split(tmp_path / "made/train", samples, per_shard=25)
    broken = ruin_json(split, samples[50].key)
    path = f"data.sources.made.path={split}"
    options = ["run_name=damaged", "data.global_batch_size=10", "trainer.max_steps=20", "data.max_bad_fraction=0.05"]
    assert run_here([*words, path, *options, f"run_root={tmp_path}"]) == 0
    records = rows(tmp_path / "damaged/bad_samples.jsonl")
    assert {row["key"]: row["reason"] for row in records} == {**reasons, **broken}
    assert len(records) == 4
    assert {row["shard"] for row in records} == {"000000.tar", "000002.tar"}


def test_past_the_threshold_it_stops_and_names_shard_and_key(words, tmp_path, capsys):
    samples, reasons = damaged(6)
    split = write_split(tmp_path / "made/train", samples, per_shard=25)
    path = f"data.sources.made.path={split}"
    options = ["run_name=ruined", "data.global_batch_size=10", "data.max_bad_fraction=0.03"]
    assert run_here([*words, path, *options, f"run_root={tmp_path}"]) == 1
    error = capsys.readouterr().err
    assert "4 of 100 samples are bad" in error or "5 of 100 samples are bad" in error
    assert any(key in error for key in reasons)
    assert ".tar of source made" in error
    assert rows(tmp_path / "ruined/status.json")[0]["state"] == "failed"


def ruin_json(split, key: str) -> dict[str, str]:
    """Damage one byte of a sample's JSON on disk, behind the index's back."""
    for tar in sorted(split.glob("*.tar")):
        content = bytearray(tar.read_bytes())
        offset = content.find(f"{key}.json".encode())
        if offset >= 0:
            content[offset + 512] = ord("[")
            tar.write_bytes(content)
            return {key: "checksum_mismatch"}
    raise AssertionError(f"{key} is nowhere")


def test_loggers_by_name(words, folder, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = folder / "runs/logged"
    assert (
        run_here([*words, "run_name=logged", "trainer.max_steps=2", "trainer.loggers=[tensorboard,wandb-offline]"]) == 0
    )
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("train/loss")] == pytest.approx(losses(run), rel=1e-6)
    logs = list((run / "wandb").glob("offline-run-*/*.wandb"))
    assert logs
    said = b"".join(path.read_bytes() for path in logs)
    assert not any(word.encode() in said for word in (sys.executable, sys.prefix, str(REPOSITORY)))
    settings = nameless()
    assert (settings.host, settings.username, settings.x_disable_meta) == ("", "", True)


class Cell:
    """In the place of the process that a cell of a grid is: a fork that trains. commands: what would have been started."""

    commands: ClassVar[list[list[str]]] = []

    def __init__(self, command):
        self.commands.append(command)
        self.fork = start_train(command[3:])

    def wait(self):
        return finish(self.fork)[0]


def test_a_grid_runs_every_cell_in_its_own_folder(words, folder, monkeypatch):
    monkeypatch.setattr("medvlp.runs.grid.subprocess.Popen", Cell)
    grid = [
        *words,
        "-m",
        "run_name=grid",
        "trainer.max_steps=2",
        "optim.lr=1e-3,1e-2",
        "run_root=" + str(folder / "grid"),
    ]
    assert run_here(grid) == 0
    assert [command[:3] for command in Cell.commands] == [[sys.executable, "-m", "medvlp.train"]] * 2
    made = sorted(path.name for path in (folder / "grid").iterdir())
    assert made == ["grid.jsonl", "grid.md", "grid__lr-0.001", "grid__lr-0.01"]
    low, high = (losses(folder / "grid" / name) for name in made[2:])
    assert low[0] == high[0]  # before any step
    assert low[1] != high[1]


def test_a_grid_is_refused_under_torchrun(words, monkeypatch, capsys):
    monkeypatch.setattr("medvlp.train.WORLD_SIZE", 2)
    assert run_here([*words, "-m", "run_name=grid", "optim.lr=1e-3,1e-2"]) == 1
    assert "a grid is not run under torchrun" in capsys.readouterr().err
    assert os.environ.get("WORLD_SIZE") is None
