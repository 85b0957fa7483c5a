import json
import shutil
import subprocess
import sys

import pytest

from medvlp.config import TASKS
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.eval.zero_shot import ZeroShot
from medvlp.jsonl import BrokenLine
from medvlp.report import results_table, write_run_report
from medvlp.report.files import NotARun, read_jsonl
from medvlp.report.run.charts import POINTS, line_chart, thin
from medvlp.report.run.details import EXAMPLES, task_details
from medvlp.report.run.galleries import Examples
from medvlp.report.sweep.scores import checkpoint_names
from medvlp.report.sweep.tables import cell, result_lines
from medvlp.shards import ShardDataset
from medvlp.verbs.results.report import main
from tests.eval.colour_world import ColourEncoder
from tests.report.dataset.small_folders import HOSTILE, jsonl
from tests.report.html_page import Page, assert_safe
from tests.results import write_result


def result(checkpoint, task, metric, value, protocol, n=6, low=None, high=None):
    return {"checkpoint": checkpoint, "task": task, "metric": metric, "value": value, "ci_low": low, "ci_high": high,
            "n": n, "protocol": protocol}  # fmt: skip


@pytest.fixture
def evaluation(tmp_path, prepared):
    folder = tmp_path / "eval"
    (folder / "samples").mkdir(parents=True)
    keys = [f"figures__a{i}" for i in range(6)]
    ranked = [
        {"id": keys[i], "group": f"a{i}", "prediction": keys[(i + shift) % 6], "target": [keys[i]],
         "score": 0.9 - i / 10, "direction": direction, "rank": 1 + shift * (i + 1),
         "kind": "retrieval"}
        for direction in ("image_to_text", "text_to_image") for i, shift in enumerate([0, 1, 0, 1, 0, 1])
    ]  # fmt: skip
    classified = [
        {"id": keys[i], "group": f"a{i}", "prediction": prediction, "target": target, "score": 0.5 + i / 10,
         "kind": "zero_shot"}
        for i, (target, prediction) in enumerate([("CT", "CT"), ("CT", "MRI"), ("CT", None), ("MRI", "MRI")])
    ]  # fmt: skip
    jsonl(folder / "samples/retrieval.jsonl", ranked)
    jsonl(folder / "samples/modality.jsonl", classified, tail='{"id": "figu')
    data = {"data": str(prepared / "test"), "split_hash": ShardDataset(prepared / "test").manifest_hash, "samples": 6}
    data |= {"n": 6, "excluded": {"PET": 2}, "bad": {"undecodable_image": 1}}
    retrieval = data | {"records": "samples/retrieval.jsonl", "unique_n": 5, "text": ["caption"]}
    modality = data | {"records": "samples/modality.jsonl", "classes": {"CT": ["computed tomography"], "MRI": ["MRI"]},
                       "templates": ["a photo of {}"]}  # fmt: skip
    jsonl(
        folder / "results.jsonl",
        [
            result(
                "runs/a/checkpoints/last.ckpt", "retrieval", "image_to_text_recall@1", 0.5, retrieval, 6, 0.125, 0.875
            ),
            result("runs/a/checkpoints/last.ckpt", "modality", "auroc", None, modality, 4),
            result("runs/b/checkpoints/last.ckpt", "retrieval", "image_to_text_recall@1", 0.25, {}, 5, 0.0, 0.5),
        ],
    )
    (folder / "config.yaml").write_text("tasks:\n- <retrieval>\n")
    return folder


def test_evaluation_page_shows_numbers_pictures_and_protocols(evaluation):
    page = assert_safe(write_run_report(evaluation))
    for expected in (
        "0.500 [0.125, 0.875]", "0.250 [0.000, 0.500]", "undefined", "5–6", "a/last", "b/last",
        "Image to text: best", "Text to image: worst", "rank 5 (6 queries)", "coronal MRI of the knee",
        "CT taken for MRI (0.60)", "(tie)", "a photo of {}", "split_hash", "tasks: - <retrieval>",
        "The last line of modality.jsonl is incomplete", "No picture: the image cannot be decoded.", HOSTILE,
    ):  # fmt: skip
        assert expected in page.text, expected
    assert "Class CT MRI (tie) n Recall CT 1 1 1 3 0.333 MRI 0 1 0 1 1.000" in page.text
    assert "<script" not in (evaluation / "report.html").read_text()
    assert page.tags.count("img") > 8


def test_page_of_what_the_evaluators_write(tmp_path, prepared):
    dataset, model = ShardDataset(prepared / "test"), CachedEncoder(ColourEncoder(), 4, 0, 10**6)
    classes = {"CT": ["red"], "MRI": ["blue"]}
    tasks = [Retrieval("captions", dataset), ZeroShot("modality", dataset, "modality", classes, ["{}"])]
    for task in tasks:
        write_result(tmp_path / "eval", "runs/a/checkpoints/last.ckpt", task.run(model))
    page = assert_safe(write_run_report(tmp_path / "eval"))
    for expected in (
        "Text to image: worst",
        "Rows are true classes",
        "unique_n 4",
        "(no text) 1",
        "undecodable_image 1",
        "modality 1 6 5 5 ",
        "figures all 15 8 4: the image cannot be decoded; 3: not allowed",
        "figures train 2 2 none",
    ):
        assert expected in page.text, expected


def test_pages_are_the_same_bytes_again(evaluation, training):
    for folder in (evaluation, training):
        first = write_run_report(folder).read_bytes()
        assert write_run_report(folder).read_bytes() == first


def test_data_that_is_gone_or_changed_is_said(evaluation, prepared):
    manifest = prepared / "test/manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    assert "has changed since the evaluation" in Page(write_run_report(evaluation)).text
    shutil.rmtree(prepared)
    page = assert_safe(write_run_report(evaluation))
    assert "Images and captions are missing:" in page.text
    assert "test does not exist" in page.text
    assert "img" not in page.tags


@pytest.fixture
def training(tmp_path):
    folder = tmp_path / "run<1>"
    folder.mkdir()
    rows = [
        {"step": step, "split": "train", "loss": 4.0 / step, "lr": 1e-3, "samples_per_second": 100.0, "data_wait": 0.125,
         "grad_norm": float("nan") if step == 7 else 1.5, "logit_scale": 14.3, "alignment $x$ & <b>": 1.0}
        for step in range(1, 1001)
    ]  # fmt: skip
    rows.insert(500, {"step": 500, "split": "valid", "task": "rocov2_retrieval", "image_to_text_recall@10": 0.4375})
    jsonl(folder / "metrics.jsonl", rows, tail='{"step": 1001, "spl')
    bad = [{"step": 1, "source": "figures", "key": f"k{i}", "reason": "checksum_mismatch"} for i in range(3)]
    jsonl(folder / "bad_samples.jsonl", bad)
    (folder / "status.json").write_text('{"state": "stopped", "step": 1000, "reason": "SIGTERM"}')
    return folder


def test_training_page_draws_every_column(training):
    page = assert_safe(write_run_report(training))
    for expected in (
        "run<1>", "Status: stopped, step 1000 (SIGTERM)", "loss 0.004 at step 1000", "Learning rate",
        "logit_scale 14.3",
        "rocov2_retrieval · valid", "image_to_text_recall@10 0.4375 at step 500", "the bytes are not those that were written 3",
        "The last line of metrics.jsonl is incomplete", "alignment $x$ & <b>",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert page.tags.count("svg") == 8


def test_curves_are_thinned_and_keep_their_range():
    curve = [(step, 1.0 if step % 2 else 3.0) for step in range(100_000)]
    points = thin(curve)
    assert len(points) == POINTS
    assert points[0] == (124.5, 2.0, 1.0, 3.0)
    assert len(line_chart("loss", {"loss": curve})) < 100_000
    assert thin([(0, 1.0), (1, float("nan")), (2, 2.0)]) == [(0, 1.0, 1.0, 1.0), (2, 2.0, 2.0, 2.0)]


@pytest.mark.parametrize(
    ("content", "rows", "note"),
    [
        ("", [], ""),
        ('{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}], ""),
        ('{"a": 1}\n{"a": 2', [{"a": 1}], "incomplete"),
        ('{"a": 1}\n{"a": "\udc80', [{"a": 1}], "incomplete"),
    ],
)
def test_jsonl_of_a_killed_run(tmp_path, content, rows, note):
    (tmp_path / "m.jsonl").write_text(content, "utf-8", "surrogateescape")
    lines = read_jsonl(tmp_path / "m.jsonl")
    assert lines.rows == rows
    assert note in lines.note


def test_damage_elsewhere_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"a": 1}\nbroken\n{"a": 2}\n')
    with pytest.raises(BrokenLine, match=r"metrics.jsonl, line 2: not a JSON object"):
        write_run_report(tmp_path)


@pytest.mark.parametrize("name", ["status.json", "config.yaml", "metrics.jsonl", "results.jsonl"])
@pytest.mark.parametrize("text", ["[" * 100_000 + "\n", "[1]\n", "\xff\n", "{", "a: &a [x]\nb: *b\n"])
def test_files_of_another_shape_are_named(tmp_path, name, text, capsys):
    jsonl(tmp_path / "metrics.jsonl", [{"step": 1, "split": "train", "loss": 1.0}])
    (tmp_path / name).write_text(text, encoding="latin-1")
    torn = name.endswith(".jsonl") and text == "{"
    assert main([str(tmp_path)]) == (0 if torn else 1)
    error = capsys.readouterr().err
    assert torn or error.startswith(f"medvlp report: {tmp_path / name}")


def test_examples_are_those_of_the_kind_that_records_carry(tmp_path):
    """Whatever fields they have: a classification whose records have a rank is no retrieval."""
    record = {"id": "a", "target": "CT", "prediction": "CT", "score": 1.0, "rank": 1, "direction": "image_to_text"}

    def examples(fields, **protocol):
        jsonl(tmp_path / "records.jsonl", [record | fields])
        return task_details(
            tmp_path, "c", "t", {"records": "records.jsonl", "classes": {"CT": []}, **protocol}
        ).examples

    assert examples({"kind": "zero_shot"}, kind="retrieval").confusion is not None
    assert examples({}, kind="zero_shot").confusion is not None  # records of older versions carry none
    assert examples({"kind": "counting"}) == Examples()
    assert set(EXAMPLES) <= set(TASKS)  # a kind without examples has its table and its protocol


def test_tables():
    rows = [result("a.ckpt", "t", "acc1", 0.5, {}, 9, 0.25, 0.75), result("b.ckpt", "t", "acc1", 1.0, {}, 9)]
    assert [cell(row) for row in rows] == ["0.500 [0.250, 0.750]", "1.000"]
    assert [line.cells for line in result_lines([*rows, result("b.ckpt", "t", "auroc", 0.5, {})])] == [
        ["0.500 [0.250, 0.750]", "1.000"],
        ["", "0.500"],
    ]
    printed = results_table(rows).splitlines()
    assert [word.strip() for word in printed[4].split("│")[1:-1]] == [
        "t",
        "acc1",
        "9",
        "",
        "0.500 [0.250, 0.750]",
        "1.000",
    ]
    assert "not in these scores" not in results_table(rows)


def test_what_the_scores_leave_out_stands_under_the_table_and_on_the_page(tmp_path):
    said = {
        "excluded": {"normal": 100},
        "bad": {"checksum_mismatch": 2},
        "exclusions": ["100 of 394 samples: <b>none</b>"],
    }
    rows = [
        result(path, "t", "acc1", 0.779, {"split": "test", **protocol}, 292)
        for path, protocol in (("a.ckpt", said), ("b.ckpt", said), ("old.ckpt", {"excluded": {"normal": 3}}))
    ]
    printed = results_table(rows[:2]).splitlines()
    assert [word.strip() for word in printed[4].split("│")[1:5]] == ["t", "acc1", "292", "102"]
    assert printed[-2:] == ["not in these scores:", "  t: 100 of 394 samples: <b>none</b>"]
    assert results_table(rows).splitlines()[-1] == "  t: 3 normal"
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_run_report(tmp_path).read_text("utf-8")
    assert "<li>t: 100 of 394 samples: &lt;b&gt;none&lt;/b&gt;</li>" in page
    assert '<td class="number">292</td><td class="number">3–102</td>' in page
    paths = ["runs/x/checkpoints/last.ckpt", "runs/y/checkpoints/last.ckpt", "old/y/checkpoints/last.ckpt"]
    assert list(checkpoint_names([{"checkpoint": path} for path in paths]).values()) == ["x/last", *paths[1:]]


def test_command(evaluation, prepared, tmp_path, capsys):
    assert main([str(evaluation), str(prepared)]) == 0
    printed = capsys.readouterr().out
    assert str(evaluation / "report.html") in printed.replace("\n", "")
    assert str(prepared / "report.html") in printed.replace("\n", "")
    assert "image_to_text_recall@1" in printed.replace("\n", "")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), str(tmp_path / "absent")]) == 1
    errors = capsys.readouterr().err
    assert "empty holds none of metrics.jsonl, results.jsonl, status.json: expected the folder of a run" in errors
    assert "absent does not exist" in errors
    assert main(["--help"]) == 0
    assert "usage: medvlp report <folder>" in capsys.readouterr().out
    assert main([]) == 2


def test_reports_never_import_torch(evaluation, prepared):
    code = (
        "import sys, medvlp.verbs.results.report\n"
        f"assert medvlp.verbs.results.report.main({[str(evaluation), str(prepared)]!r}) == 0\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_rows_that_lack_a_field_are_explained(tmp_path):
    (tmp_path / "results.jsonl").write_text(json.dumps({"task": "t"}) + "\n")
    with pytest.raises(NotARun, match=r"results\.jsonl, line 1 is not as medvlp writes it: it has no 'checkpoint'"):
        write_run_report(tmp_path)


@pytest.mark.parametrize(
    ("change", "file", "error"),
    [
        ({"value": "0.5"}, "results.jsonl", "value is '0.5', expected a finite number or null"),
        ({"value": 10**400}, "results.jsonl", "value is 1000"),
        ({"protocol": "test"}, "results.jsonl", "protocol is 'test', expected an object or null"),
        ({"n": None, "task": []}, "results.jsonl", "task is [], expected a string"),
        ({"protocol": {"bad": {"x": -1}}}, "results.jsonl", "in its protocol, bad is {'x': -1}"),
        (
            {"protocol": {"records": "records.jsonl"}},
            "records.jsonl",
            "prediction is ['CT'], expected a string or null",
        ),
    ],
)
def test_a_malformed_run_is_named_and_the_next_one_is_made(tmp_path, training, capsys, change, file, error):
    folder = tmp_path / "malformed"
    folder.mkdir()
    jsonl(folder / "records.jsonl", [{"id": "a", "target": "CT", "prediction": ["CT"], "kind": "zero_shot"}])
    jsonl(folder / "results.jsonl", [result("a.ckpt", "t", "acc1", 0.5, {}) | change])
    assert main([str(folder), str(training)]) == 1
    printed = capsys.readouterr()
    assert f"{folder / file}, line 1 is not as medvlp writes it: {error}" in printed.err
    assert printed.out == f"{training / 'report.html'}\n"


def test_records_outside_of_the_folder_are_not_read(tmp_path):
    jsonl(tmp_path / "others.jsonl", [{"id": "a", "target": "CT", "prediction": "MRI", "score": 1.0}])
    folder = tmp_path / "eval"
    folder.mkdir()
    for path in ("../others.jsonl", f"{tmp_path}/others.jsonl"):
        jsonl(folder / "results.jsonl", [result("a.ckpt", "t", "acc1", 0.5, {"records": path})])
        with pytest.raises(NotARun, match="outside of the folder"):
            write_run_report(folder)


def test_status_without_a_reason(training):
    (training / "status.json").write_text('{"state": "running", "step": 7}')
    assert "Status: running, step 7 The last line" in assert_safe(write_run_report(training)).text


def test_training_page_counts_its_data(training, prepared):
    (training / "config.yaml").write_text(f"data: {{sources: {{figures: {{path: {prepared / 'train'}}}}}}}")
    page = assert_safe(write_run_report(training))
    assert "figures test 13 6 4: the image cannot be decoded; 3: not allowed" in page.text
    (prepared / "ledger.json").write_text('{"in": 3}')
    text = assert_safe(write_run_report(training)).text
    assert "Counts of the data are skipped:" in text
    assert "Dropped: stage" not in text


def test_splits_are_told_apart():
    rows = [result("a.ckpt", "t", "acc1", value, {"split": split}) for split, value in (("valid", 0.5), ("test", 0.25))]
    assert [(line.task, line.cells) for line in result_lines(rows)] == [
        ("t · valid", ["0.500"]),
        ("t · test", ["0.250"]),
    ]
    assert [line.task for line in result_lines(rows[:1])] == ["t"]
    assert "t · test" in results_table(rows)


def test_names_that_are_no_utf_8_stand_on_the_page_by_their_bytes(tmp_path):
    folder = tmp_path / "run\udcff"
    folder.mkdir()
    (folder / "status.json").write_text('{"state": "running", "step": 7}')
    assert b"run\\udcff" in write_run_report(folder).read_bytes()


def test_a_page_that_cannot_be_written_is_named(training, capsys):
    (training / "report.html").mkdir()
    assert main([str(training)]) == 1
    assert f"{training / 'report.html'}" in capsys.readouterr().err
