"""Instruction tuning as a user starts it: divided, packed, interrupted, resumed, in stages, on damaged data."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from medvlp.builders import build_objective, load_assistant
from medvlp.config import compose
from medvlp.shards import Conversation, ShardDataset, Turn
from tests.assistants import assistant_words, stock_losses, vqa_samples
from tests.datasets import write_split
from tests.distributed.ranks import start_train
from tests.runs import equal, losses, rows, run_here, wait_for_step, weights

LORA = ["model.lora.rank=4", "model.lora.dropout=0.2", "optim.parts.vision.freeze=true"]
BRIEF = ["trainer.max_steps=3", "trainer.checkpoint_every=100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data and parts; a run of adapters and projector that nothing disturbed; and one in which everything learns."""
    made = tmp_path_factory.mktemp("instruct")
    words = assistant_words(made)
    write_split(made / "single/train", vqa_samples(24, questions=1))
    assert run_here([*words, *LORA, "run_name=adapted"]) == 0
    assert run_here([*words, *BRIEF, "run_name=plain"]) == 0
    return made


@pytest.fixture
def words(folder):
    return assistant_words(folder)


def last(folder, name):
    return folder / f"runs/{name}/checkpoints/last.ckpt"


def test_a_run_killed_in_mid_epoch_goes_on_bit_for_bit(folder, words):
    run, whole = folder / "runs/killed", folder / "runs/adapted"
    process = start_train([*words, *LORA, "run_name=killed"])
    wait_for_step(process, run, 4)  # of 3 steps an epoch
    process.kill()
    assert process.finish()[0] == -signal.SIGKILL
    assert not (run / "checkpoints/step-000006.ckpt").exists()
    assert run_here([*words, *LORA, "run_name=killed", "resume=auto", "data.workers=1"]) == 0
    assert rows(run / "samples.jsonl") == rows(whole / "samples.jsonl")
    assert losses(run) == losses(whole)
    assert equal(weights(run), weights(whole))
    dropped = [*words, *LORA, "model.lora.dropout=0", "run_name=undropped"]
    assert run_here(dropped) == 0
    assert losses(folder / "runs/undropped")[1:] != losses(whole)[1:]  # dropout did take part


def test_conversations_beyond_the_language_models_positions_are_refused_before_anything_is_made(folder, words, capsys):
    """A row may be longer: in it every conversation begins at its first position."""
    short = assistant_words(folder, samples=24)
    language = next(word for word in short if word.startswith("model.language.source=")).split("=", 1)[1]
    config = Path(language) / "config.json"
    content = config.read_text()
    config.write_text(json.dumps({**json.loads(content), "max_position_embeddings": 24}))
    try:
        assert run_here([*words, *BRIEF, "run_name=beyond"]) == 1
        error = capsys.readouterr().err
        assert re.search(
            r"the longest conversation has \d+ tokens .* has positions for 24; set objective.max_length=24", error
        )
        assert not (folder / "runs/beyond").exists()
    finally:
        config.write_text(content)


# --- what a step's loss is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighting", ["token", "sample"])
def test_a_steps_loss_is_the_mean_over_its_conversations_in_stock_transformers(folder, words, weighting):
    name = f"weighted-{weighting}"
    chosen = [*words, f"objective.weighting={weighting}", "trainer.max_steps=1", f"run_name={name}"]
    assert run_here([*chosen, "trainer.accumulate=2"]) == 0
    objective = build_objective(compose("train", chosen))
    dataset = ShardDataset(folder / "made/train")
    objective.pipeline.open({"made": dataset})
    model, prepare = objective.module.model.eval(), objective.pipeline.prepare
    numbers = {dataset.key(i): i for i in range(len(dataset))}
    summed, counts = [], []
    for key in rows(folder / f"runs/{name}/samples.jsonl")[0]["keys"]:
        sample = dataset.read(numbers[key.removesuffix("#0")])  # all questions of an image are one example here
        item = prepare(sample, 0, np.random.default_rng(0))
        summed += stock_losses(model, item["conversations"], item["images"])
        counts += [int(conversation.supervised.sum()) for conversation in item["conversations"]]
    assert len(set(counts)) > 2
    each, counts = torch.stack(summed), torch.tensor(counts)
    expected = {"token": each.sum() / counts.sum(), "sample": (each / counts).mean()}
    assert abs(expected["token"] - expected["sample"]) > 0.01
    assert losses(folder / f"runs/{name}") == pytest.approx([expected[weighting].item()], rel=1e-6)


@pytest.fixture(scope="module")
def undivided(folder):
    """Runs on images with one question each, so that every packing draws the same examples."""
    path = f"data.sources.made.path={folder}/single/train"
    common = [*assistant_words(folder), path, "trainer.precision=64-true", "trainer.max_steps=10", "optim.clip_norm=1"]
    assert run_here([*common, "run_name=undivided"]) == 0
    return common


@pytest.mark.parametrize(
    ("packing", "accumulate"),
    [
        ("none", 1),
        ("sequence", 4),
        pytest.param("sequence", 1, marks=pytest.mark.slow),
        pytest.param("tree", 2, marks=pytest.mark.slow),
        pytest.param("none", 4, marks=pytest.mark.slow),
    ],
)
def test_packing_and_accumulation_do_not_change_what_is_learned(folder, undivided, packing, accumulate):
    name = f"{packing}-{accumulate}"
    more = [f"objective.packing={packing}", f"trainer.accumulate={accumulate}", f"run_name={name}"]
    assert run_here([*undivided, *more]) == 0
    run, whole = folder / f"runs/{name}", folder / "runs/undivided"
    assert losses(run) == pytest.approx(losses(whole), rel=1e-9)
    assert rows(run / "samples.jsonl") == rows(whole / "samples.jsonl")
    before = weights(whole)
    for key, value in weights(run).items():
        assert torch.allclose(value, before[key], rtol=1e-7, atol=1e-9), key


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_follows_single_precision(folder, words, precision):
    assert run_here([*words, *BRIEF, f"trainer.precision={precision}", f"run_name={precision}"]) == 0
    assert losses(folder / f"runs/{precision}") == pytest.approx(losses(folder / "runs/plain"), rel=0.02)


def test_conversations_without_any_image_train_too(folder, words):
    text = write_split(folder / "text/train", vqa_samples(9, images=0, source="text"))
    assert run_here([*words, *BRIEF, f"data.sources.made.path={text}", "run_name=text"]) == 0
    assert losses(folder / "runs/text")[2] < losses(folder / "runs/text")[0]


# --- a checkpoint, and stages that start from one -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "adapted"])
def test_a_checkpoint_is_all_that_an_assistant_needs(folder, name, tmp_path):
    path = shutil.copy(last(folder, name), tmp_path / "moved.ckpt")
    parts = [folder / "tower", folder / "llama"]
    for part in parts:
        part.rename(part.with_suffix(".away"))
    try:
        loaded = load_assistant(path)
    finally:
        for part in parts:
            part.with_suffix(".away").rename(part)
    assert equal(loaded.assistant.model.state_dict(), weights(folder / "runs" / name))
    assert not loaded.assistant.model.training
    conversation = vqa_samples(2)[1].conversations[0]
    encoder = build_objective(compose("train", assistant_words(folder))).pipeline.encoder
    assert np.array_equal(loaded.encoder.encode(conversation.turns, 1).ids, encoder.encode(conversation.turns, 1).ids)
    assert loaded.config.run_name == name


def begun(words, folder, name, *more):
    """The weights that a stage starts with, and those of the checkpoint that it starts from."""
    config = compose("train", [*words, f"init_from={last(folder, name)}", *more])
    return build_objective(config).module.model.state_dict(), weights(folder / "runs" / name)


def test_a_stage_starts_from_the_former(folder, words):
    now, before = begun(words, folder, "plain")
    assert equal(now, before)
    again, before = begun(words, folder, "adapted", *LORA)
    assert equal(again, before)
    assert any("lora_B" in key and value.abs().max() > 0 for key, value in again.items())


def test_adapters_begin_around_the_layers_of_a_checkpoint_without(folder, words):
    now, before = begun(words, folder, "plain", *LORA)
    adapters = {key: now.pop(key) for key in list(now) if ".lora_" in key}
    plain = {key.replace(".base_layer.", "."): value for key, value in now.items()}
    assert equal(plain, before)
    assert len(plain) < len(now) + 1
    assert any(".base_layer." in key for key in now)
    assert all((value == 0).all() == (".lora_B." in key) for key, value in adapters.items())
    run = [*words, *LORA, *BRIEF, f"init_from={last(folder, 'plain')}", "run_name=second"]
    assert run_here(run) == 0
    learned = weights(folder / "runs/second")
    name = "model.language_model.layers.1.mlp.up_proj"
    assert torch.equal(learned[f"{name}.base_layer.weight"], before[f"{name}.weight"])
    assert learned[f"{name}.lora_B.default.weight"].abs().max() > 0


def test_some_parts_may_be_taken(folder, words):
    now, before = begun(words, folder, "plain", *LORA, "init_parts=[projector]")
    fresh = build_objective(compose("train", [*words, *LORA])).module.model.state_dict()
    for key, value in now.items():
        assert torch.equal(value, before[key] if "projector" in key else fresh[key]), key
    assert not torch.equal(fresh["lm_head.weight"], before["lm_head.weight"])


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("plain", [*LORA, "init_parts=[adapter]"], "does not fit: missing ['model.language_model.layers.0"),
        ("adapted", [], "it has adapters: set model.lora as it was there"),
        ("adapted", [*LORA, "model.lora.rank=2"], "other shape ['model.language_model.layers.0"),
        ("adapted", [*LORA, "model.lora.alpha=4"], "its adapters were trained with model.lora.alpha=16"),
        ("adapted", [*LORA, "model.lora.targets=[q_proj]"], "does not fit: missing"),
    ],
)
def test_what_does_not_fit_a_stage_is_refused(folder, words, name, changes, said, capsys):
    begin = [*words, *changes, f"init_from={last(folder, name)}", "run_name=refused"]
    assert run_here(begin) == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (folder / "runs/refused").exists()


def test_other_layers_may_get_adapters_when_they_begin_afresh(folder, words):
    parts = "init_parts=[vision,projector]"
    now, before = begun(words, folder, "adapted", *LORA, "model.lora.targets=[q_proj]", parts)
    assert torch.equal(
        now["model.multi_modal_projector.linear_1.weight"], before["model.multi_modal_projector.linear_1.weight"]
    )
    assert sum(".lora_A." in key for key in now) == 2  # layers


# --- what learns, and how fast ------------------------------------------------------------------------------------------


def test_parts_learn_at_their_own_rates(words):
    rates = ["optim.lr=1e-3", "optim.parts.projector.lr=1e-2", "optim.parts.adapter.lr=3e-3"]
    objective = build_objective(compose("train", [*words, *LORA, *rates]))
    groups = objective.module.configure_optimizers()["optimizer"].param_groups
    assert {(group["name"], group["initial_lr"]) for group in groups} == {
        ("projector", 1e-2),
        ("projector (no decay)", 1e-2),
        ("adapter", 3e-3),
    }
    learning = {id(p) for group in groups for p in group["params"]}
    assert learning == {id(p) for p in objective.module.model.parameters() if p.requires_grad}


def test_frozen_parts_are_in_eval_mode_and_the_others_train(words):
    module = build_objective(compose("train", [*words, *LORA])).module
    module.train()
    inner = module.model.model
    assert not any(part.training for part in inner.vision_tower.modules())
    assert all(part.training for part in inner.multi_modal_projector.modules())
    dropouts = [part for name, part in inner.named_modules() if name.endswith("lora_dropout.default")]
    assert len(dropouts) == 2 * 7
    assert all(part.training and part.p == 0.2 for part in dropouts)


# --- damaged data -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_trained_on_stops_the_run_before_it_begins(words, tmp_path, capsys):
    samples = vqa_samples(9)
    samples[4].conversations[0].turns[0].text = "no image here"
    samples[7].conversations[0].turns.pop()
    split = write_split(tmp_path / "train", samples)
    assert run_here([*words, f"data.sources.made.path={split}", "run_name=faulty"]) == 1
    error = capsys.readouterr().err
    assert "data.sources.made: 2 conversations cannot be trained on" in error
    assert f"{samples[4].key}, conversation 4-0: placeholder_count" in error
    assert f"{samples[7].key}, conversation 7-0: bad_roles" in error


def test_a_bad_image_leaves_its_place_empty_and_is_counted(words, tmp_path):
    samples = vqa_samples(16)
    samples[5].images["jpg"] = b"\x00" * 50
    split = write_split(tmp_path / "train", samples)
    options = [f"data.sources.made.path={split}", f"run_root={tmp_path}", "run_name=bad", "data.max_bad_fraction=0.1"]
    assert run_here([*words, *options, "trainer.max_steps=2"]) == 0
    assert {(row["key"], row["reason"]) for row in rows(tmp_path / "bad/bad_samples.jsonl")} == {
        (f"{samples[5].key}#0", "undecodable_image")
    }
    assert sorted(len(row["keys"]) for row in rows(tmp_path / "bad/samples.jsonl")) == [7, 8]


def test_a_step_whose_only_image_is_bad_teaches_nothing(words, tmp_path):
    samples = vqa_samples(2)
    samples[1].images["jpg"] = b"\x00" * 50
    split = write_split(tmp_path / "train", samples)
    options = [f"data.sources.made.path={split}", f"run_root={tmp_path}", "run_name=bad", "data.max_bad_fraction=0.5"]
    assert run_here([*words, *options, "trainer.max_steps=2", "data.global_batch_size=1"]) == 0
    steps = rows(tmp_path / "bad/samples.jsonl")
    losses_of_keys = dict(zip([tuple(row["keys"]) for row in steps], losses(tmp_path / "bad"), strict=True))
    assert losses_of_keys[()] == 0
    assert len(losses_of_keys) == 2


def test_conversations_too_long_are_split_or_left_out_and_named(words, tmp_path, capsys):
    samples = vqa_samples(9)
    long = Conversation([Turn("user", "<image>\nWhy? " + "no " * 300), Turn("assistant", "yes")], "long")
    samples[3].conversations.append(long)
    split = write_split(tmp_path / "train", samples)
    options = [f"data.sources.made.path={split}", f"run_root={tmp_path}", "run_name=long", "trainer.max_steps=1"]
    assert run_here([*words, *options]) == 0
    objective = build_objective(compose("train", [*words, *options]))
    opened = objective.pipeline.open({"made": ShardDataset(split)})
    assert [
        (record["source"], record["key"], record["conversation"], record["reason"]) for record in opened.skipped
    ] == [("made", samples[3].key, "long", "too_long")]
    assert len(opened.datasets["made"]) == 9
