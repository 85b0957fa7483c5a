"""An assistant is asked during training and by `medvlp eval`, and both say the same."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch

from medvlp.builders import load_assistant
from medvlp.builders.llava import assistant_model
from medvlp.config import ConfigError, load_task
from medvlp.eval.models.answering import Prompt
from medvlp.evaluate import main as evaluate
from medvlp.shards import Sample, ShardDataset, Turn
from tests.api_server import MODEL, serving
from tests.assistants import assistant_words, tiny_clip_checkpoint, vqa_samples
from tests.datasets import write_split
from tests.runs import equal, rows, run_here, weights

TASKS = {
    "made_vqa": "kind: vqa\ndata: {data}\nmax_new_tokens: 6\n",
    "some_vqa": "kind: vqa\ndata: {data}\nmax_new_tokens: 6\nvalid_limit: 5\n",
    "shuffled": "kind: vqa\ndata: {data}\nmax_new_tokens: 6\ncontrols: [shuffled_images]\n",
    "untested": "kind: vqa\ndata: {data}\nvalid_split: held_out\n",
    "cheating": "kind: vqa\ndata: {data}\nvalid_split: test\n",
    "made_kind": "kind: zero_shot\ndata: {data}\nlabel: kind\ntemplates: ['{{}}']\nclasses: {{a: [a], b: [b]}}\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("asked")
    for split in ("train", "valid", "test"):
        write_split(made / "made" / split, vqa_samples(10))
    (made / "configs/task").mkdir(parents=True)
    for name, text in TASKS.items():
        (made / f"configs/task/{name}.yaml").write_text(f"name: {name}\n" + text.format(data=made / "made"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        words = [*assistant_words(made), "trainer.max_steps=3"]
        monitor = "trainer.monitor=made_vqa/open_token_recall"
        assert run_here([*words, "run_name=a", "tasks=[made_vqa,some_vqa]", "trainer.eval_every=2", monitor]) == 0
        assert run_here([*words, "run_name=alone"]) == 0
    return made


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


CHECKPOINT = "runs/a/checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def results(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["tasks=[made_vqa]", "split=valid", "resamples=50", "accelerator=cpu", "batch_size=5"]
        assert evaluate([f"checkpoints=[{CHECKPOINT}]", *words]) == 0
    return rows(folder / "runs/eval/eval/results.jsonl")


def test_training_asks_the_valid_split_and_goes_on_as_if_it_had_not(folder):
    rows_of_valid = [row for row in rows(folder / "runs/a/metrics.jsonl") if row["split"] == "valid"]
    assert [(row["step"], row["task"]) for row in rows_of_valid] == [
        (step, task) for step in (2, 3) for task in ("made_vqa", "some_vqa")
    ]
    assert all("open_token_recall" in row and not any("blank" in name for name in row) for row in rows_of_valid)
    assert (folder / "runs/a/checkpoints/best.ckpt").is_file()
    assert equal(weights(folder / "runs/a"), weights(folder / "runs/alone"))


def test_medvlp_eval_finds_what_training_found(folder, results):
    last = next(row for row in rows(folder / "runs/a/metrics.jsonl")[::-1] if row.get("task") == "made_vqa")
    by_name = {row["metric"]: row["value"] for row in results}
    for name, value in last.items():
        if name not in ("step", "split", "task"):
            assert by_name[name] == pytest.approx(value), name
    assert {"open_token_recall/shuffled_images", "closed_accuracy/minus_blank_image"} <= set(by_name)
    card = results[0]["protocol"]
    samples = vqa_samples(10)
    assert card["n"] == sum(len(sample.conversations) for sample in samples)
    assert (card["split"], card["unique_images"]) == ("valid", 10)
    assert (card["in_train"]["samples"], card["in_train"]["same_bytes"], card["in_train"]["same_picture"]) == (
        10,
        10,
        0,
    )
    assert card["weights"] == torch.load(folder / CHECKPOINT, weights_only=True)["medvlp"]["weights_sha256"]
    assert (folder / "runs/eval/eval/report.html").is_file()


def test_a_prediction_is_what_stock_transformers_generates(folder, results):
    records = {row["id"]: row for row in rows(folder / "runs/eval/eval" / results[0]["protocol"]["records"])}
    loaded = load_assistant(CHECKPOINT)
    model = assistant_model(loaded.assistant, loaded.encoder, 10**7, 8, "")
    dataset = ShardDataset(folder / "made/valid")
    compared = 0
    for sample in (dataset.read(row) for row in range(4)):
        for conversation in sample.conversations:
            ids = torch.from_numpy(loaded.encoder.prompt(conversation.turns[:-1], 1))[None]
            out = loaded.assistant.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values=model.pictures(sample),
                do_sample=False,
                max_new_tokens=6,
                pad_token_id=loaded.assistant.pad_id,
            )
            text = loaded.assistant.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
            record = records[f"{sample.key}#{conversation.id}"]
            assert record["prediction"] == text.strip()
            assert record["target"] == conversation.turns[-1].text
            compared += 1
    assert compared == 7


def test_the_token_that_ends_an_answer_is_the_templates(folder):
    loaded = load_assistant(CHECKPOINT)
    assert loaded.assistant.tokenizer.convert_ids_to_tokens(loaded.encoder.ends()) == ["<|im_end|>"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip_checkpoint(tmp_path_factory.mktemp("clip"))


def test_tasks_and_models_that_do_not_fit_are_named_before_anything_runs(folder, clip, capsys):
    assert evaluate([f"checkpoints=[{CHECKPOINT}]", "tasks=[made_vqa,made_kind]"]) == 1
    error = capsys.readouterr().err
    assert f"task made_kind (kind: zero_shot) cannot measure {CHECKPOINT}, which is an assistant" in error
    assert evaluate([f"checkpoints=[{CHECKPOINT},{clip}]", "tasks=[made_vqa]", "output=runs/unfit"]) == 1
    assert f"task made_vqa (kind: vqa) cannot measure {clip}, which is a CLIP model" in capsys.readouterr().err
    assert not (folder / "runs/unfit").exists()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("made_kind", "made_kind (kind: zero_shot) needs embeddings, which objective=instruct does not give"),
        ("untested", "has no split 'held_out' to score during training"),
        ("cheating", "valid_split=test is the split that `medvlp eval` scores"),
    ],
)
def test_training_refuses_tasks_that_it_cannot_or_must_not_run(folder, capsys, task, message):
    assert run_here([*assistant_words(folder), f"run_name={task}", f"tasks=[{task}]"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("controls: [blank]", "task wrong: controls='blank' is not a choice; did you mean 'blank_image'?"),
        ("answer_types: [yes]", "task wrong: answer_types"),
        ("kind: vqq", "task wrong: kind='vqq' is not a choice; did you mean 'vqa'?"),
        ("max_new_tokens: 0", "max_new_tokens=0 must be at least 1"),
    ],
)
def test_settings_of_a_task_are_checked_when_it_is_read(folder, line, message):
    kind = "" if line.startswith("kind") else "kind: vqa\n"
    (folder / "configs/task/wrong.yaml").write_text(f"name: wrong\n{kind}data: x\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_task("wrong")
    assert message in str(caught.value)


def test_records_hold_valid_json(folder, results):
    path = folder / "runs/eval/eval" / results[0]["protocol"]["records"]
    for line in path.read_text().splitlines():
        assert json.loads(line)["scores"]["unparsed"] in (0.0, 1.0)


def test_a_second_evaluation_asks_and_decodes_nothing(results, folder, monkeypatch):
    def asked(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr("medvlp.models.llava.generate.BatchedGenerator.generate", asked)
    monkeypatch.setattr("medvlp.data.chat.images.decode_image", asked)
    words = ["tasks=[made_vqa]", "split=valid", "resamples=50", "accelerator=cpu", "batch_size=4"]
    assert evaluate([f"checkpoints=[{CHECKPOINT}]", *words, "output=runs/again"]) == 0
    assert rows(folder / "runs/again/results.jsonl") == results


def test_an_overwritten_checkpoint_is_asked_again(folder):
    """Two checkpoints that had one name one after the other share no answer."""
    shutil.copy("runs/a/checkpoints/step-000002.ckpt", "same-name.ckpt")
    words = ["checkpoints=[same-name.ckpt]", "tasks=[made_vqa]", "resamples=0", "accelerator=cpu"]
    assert evaluate([*words, "output=runs/before"]) == 0
    shutil.copy(CHECKPOINT, "same-name.ckpt")
    assert evaluate([*words, "output=runs/after"]) == 0
    assert evaluate([f"checkpoints=[{CHECKPOINT}]", *words[1:], "output=runs/fresh", "cache.max_gb=0"]) == 0
    before, after, fresh = [of_run(name) for name in ("before", "after", "fresh")]
    assert after == fresh != before


def of_run(name):
    """Predictions of an evaluation's only model."""
    (file,) = Path(f"runs/{name}/samples").iterdir()
    return [(row["id"], row["prediction"], row["controls"]) for row in rows(file)]


def test_behind_a_server_the_assistant_answers_as_it_does_here(folder, capsys):
    loaded = load_assistant(CHECKPOINT)
    model = assistant_model(loaded.assistant, loaded.encoder, 10**7, 8, "")
    lock = threading.Lock()

    def says(request):
        turns = []
        for message in request.body["messages"]:
            content = message["content"]
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            words = [part["text"] if part["type"] == "text" else "<image>" for part in parts]
            turns.append(Turn(message["role"], "\n".join(words)))
        sample = Sample("made", {f"{number}.jpg": data for number, data in enumerate(request.images())})
        with lock:
            prompt = Prompt(turns, len(sample.images), model.pictures(sample))
            return model.generate([prompt], request.body["max_tokens"])[0]

    words = ["tasks=[shuffled]", "resamples=50", "accelerator=cpu"]
    with serving(says) as server:
        name = f"api:{server.url}#{MODEL}"
        assert evaluate([f"checkpoints=[{CHECKPOINT},'{name}']", *words, "output=runs/served"]) == 0
        requests = sum(server.answered.values())
        tokens = f"{7 * requests} tokens of prompts, {3 * requests} of answers"
        (comparison,) = [
            row for row in rows(folder / "runs/served/comparisons.jsonl") if row["metric"] == "exact_match"
        ]
        assert comparison["difference"] == 0
        assert comparison["differing"] == ["penalties: 'none' against 'as the server has them'"]
        assert f"usage of {name}: {requests} requests (0 of them again), {tokens}\n" in capsys.readouterr().out
    files = {row["checkpoint"]: row["protocol"]["records"] for row in rows(folder / "runs/served/results.jsonl")}
    local, served = ([*rows(folder / "runs/served" / files[key])] for key in (CHECKPOINT, name))
    assert len(local) == 19
    assert {record.pop("finish") for record in served} == {"stop"}
    assert served == [{key: value for key, value in record.items() if key != "in_train"} for record in local]
