"""`medvlp compare`: which models, what is printed, and how it ends where something is missing."""

import json
from dataclasses import replace

import pytest

from medvlp.cli import main
from medvlp.eval.bootstrap import MetricValue
from medvlp.eval.statistics.result_files import read_results
from medvlp.jsonl import read_rows, write_rows
from medvlp.verbs.results.compare import USAGE
from tests.eval.statistics.test_comparisons import ITEMS, add, result_of
from tests.results import write_result

BETTER = dict.fromkeys(ITEMS, True)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two evaluations: `one` of three models on two tasks, `two` of a model that has the name of one of these."""
    monkeypatch.chdir(tmp_path)
    for task in ("rad", "slake"):
        for model, hits in (("runs/a.ckpt", BETTER), ("runs/b.ckpt", ITEMS), ("hf:org/name", ITEMS)):
            add(tmp_path / "one", model, result_of(hits, task, in_train="unknown" if model[:2] == "hf" else None))
    add(tmp_path / "two", "runs/a.ckpt", result_of(ITEMS, "rad"))
    return tmp_path


def compare(capsys, *args):
    code = main(["compare", *args, "resamples=200"])
    out, err = capsys.readouterr()
    return code, out, err


def test_models_of_one_folder_in_a_table(folders, capsys):
    code, out, err = compare(capsys, "one")
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if "closed_accuracy" in line]
    assert len(lines) == 2 * 3
    assert "rad · test" in lines[0]
    assert "slake · test" in lines[3]
    assert "13 / 27 / 0" in lines[0].replace("  ", " ")
    assert "name?" in out  # nobody knows what it was trained on
    assert "1 / 1 / 0" not in out
    matrix = out[out.index("better / not") :]
    assert "2 / 0 / 0" in matrix
    assert "0 / 2 / 0" in matrix
    assert "research use only" in out


def test_chosen_models_of_two_folders(folders, capsys):
    code, out, _ = compare(capsys, "one:runs/a.ckpt", "two:a.ckpt", "format=json")
    assert code == 0
    (row,) = map(json.loads, out.splitlines())
    assert (row["a"], row["b"], row["task"]) == ("one:runs/a.ckpt", "two:runs/a.ckpt", "rad")
    assert row["difference"] == pytest.approx(1 - sum(ITEMS.values()) / 40)
    code, out, _ = compare(capsys, "one:hf:org/name", "two", "task=rad", "format=json")
    assert [(row["a"], row["b"], row["difference"]) for row in map(json.loads, out.splitlines())] == [
        ("hf:org/name", "runs/a.ckpt", 0)
    ]


def test_tasks_and_metrics_are_chosen(folders, capsys):
    _, out, _ = compare(capsys, "one", "task=[slake, other]", "metric=closed_accuracy", "format=json")
    assert {json.loads(line)["task"] for line in out.splitlines()} == {"slake"}


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["gone"], 1, "gone: there is no such folder"),
        ([".", "one"], 1, "it has no results.jsonl"),
        (["one:c.ckpt"], 1, "no model has 'c.ckpt' in its name; one has runs/a.ckpt, runs/b.ckpt, hf:org/name"),
        (["one:runs"], 1, "2 models have 'runs' in their names"),
        (
            ["one", "task=vqa"],
            1,
            "no two models were measured on one task and split of those:\n  runs/a.ckpt: rad on test",
        ),
        (["two"], 1, "no two models were measured on one task and split"),
        (["one", "metric=closed_acuracy"], 1, "metric=closed_acuracy: no result has it; did you mean closed_accuracy?"),
        (["one", "tasks=rad"], 2, "'tasks=rad' is no option; did you mean task=?"),
        (["one", "--json"], 2, "'--json' is no option"),
        (["one", "resamples=many"], 2, "resamples=many is no whole number"),
        (["one", "format=yaml"], 2, "format=yaml is neither table nor json"),
    ],
)
def test_what_cannot_be_compared_is_said(folders, capsys, args, code, message):
    ended = main(["compare", *args])
    out, err = capsys.readouterr()
    assert (ended, out) == (code, "")
    assert message in err


def test_records_that_are_gone_are_named_and_the_others_compared(folders, capsys):
    (folders / "one" / read_results(folders / "one")[0].protocol["records"]).unlink()
    code, out, err = compare(capsys, "one", "task=rad", "format=json")
    assert code == 1
    assert [json.loads(line)["difference"] for line in out.splitlines()] == [None, None, 0]
    assert "the records of runs/a.ckpt on rad" in err
    assert err.count("medvlp compare:") == 1


def test_cards_that_differ_are_under_the_table(folders, capsys):
    add(folders / "three", "runs/c.ckpt", result_of(ITEMS, "rad", instruction="Be brief."))
    code, out, _ = compare(capsys, "one:runs/a.ckpt", "three")
    assert code == 0
    assert "not comparable" in out
    assert "instruction: not stated against 'Be brief.'" in out


def test_help_and_usage(capsys):
    assert main(["compare", "--help"]) == 0
    assert capsys.readouterr().out.strip() == USAGE
    assert main(["compare"]) == 2


def metrics_of(folder, *names):
    """Rows of further metrics in results.jsonl."""
    rows = list(read_rows(folder / "results.jsonl"))
    write_rows(folder / "results.jsonl", [row | {"metric": name} for row in rows for name in (row["metric"], *names)])


def test_calibration_is_compared_if_it_is_asked_for(tmp_path, capsys):
    names = ("ece", "brier", "aurc", "sensitivity@90specificity")
    for model, hits in (("a.ckpt", BETTER), ("b.ckpt", ITEMS)):
        result = result_of(hits, kind="zero_shot", classes={"no": ["no"], "yes": ["yes"]})
        records = [
            record
            | {"target": "yes", "prediction": "yes" if hit else "no", "similarities": [0.0, 0.01 if hit else -0.01]}
            | {"scores": {"no": 0.2 if hit else 0.7, "yes": 0.8 if hit else 0.3}}
            for record, hit in zip(result.records, hits.values(), strict=True)
        ]
        for i in (0, 7, 21):
            records[i]["target"] = "no"
        write_result(
            tmp_path, model, replace(result, metrics=[MetricValue("acc1", 0.5, 0.0, 1.0, 40)], records=records)
        )
    metrics_of(tmp_path, *names)
    code, out, _ = compare(capsys, str(tmp_path), f"metric=[{','.join(names)}]", "format=json")
    rows = {row["metric"]: row for row in map(json.loads, out.splitlines())}
    assert (code, set(rows)) == (0, set(names))
    assert None not in [row["difference"] for row in rows.values()]
    brier = rows["brier"]
    scores = [
        [record["scores"]["yes"] - (record["target"] == "yes") for record in r.records()]
        for r in read_results(tmp_path)
    ]
    a, b = (sum(2 * gap**2 for gap in of_model) / 40 for of_model in scores)
    assert brier["difference"] == pytest.approx(a - b)
    better, worse = (sum(sign * (abs(x) - abs(y)) > 1e-9 for x, y in zip(*scores, strict=True)) for sign in (-1, 1))
    assert (brier["wins"], brier["losses"]) == (better, worse)  # less is better


def test_parts_of_the_items_are_compared_if_they_are_asked_for(tmp_path, capsys):
    for model, hits in (("a.ckpt", BETTER), ("b.ckpt", ITEMS)):
        result = result_of(hits)
        records = [r | ({"in_train": "id"} if i < 10 else {}) for i, r in enumerate(result.records)]
        add(tmp_path, model, replace(result, records=records))
    metrics_of(tmp_path, "closed_accuracy_not_in_train")
    code, out, _ = compare(capsys, str(tmp_path), "metric=closed_accuracy_not_in_train", "format=json")
    (row,) = map(json.loads, out.splitlines())
    assert (code, row["n"]) == (0, 30)
    assert row["difference"] == pytest.approx(1 - sum(list(ITEMS.values())[10:]) / 30)


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ("closed_accuracy/worst_group[sex]", "is over groups of items"),
        ("ece", "ece is not computed from both models' records"),
    ],
)
def test_a_metric_that_items_have_no_part_in_is_refused(folders, capsys, metric, problem):
    metrics_of(folders / "one", metric)
    code, _, err = compare(capsys, "one", f"metric={metric}")
    assert code == 1
    assert problem in err


@pytest.mark.parametrize(
    ("protocol", "problem"),
    [
        ({"in_train": [1]}, "in_train is [1], expected"),
        ({"in_train": {"samples": 3, "same_bytes": "3"}}, "in_train is {'samples': 3, 'same_bytes': '3'}, expected"),
        ({"split": ["test"]}, "split is ['test'], expected"),
    ],
)
def test_a_protocol_of_another_shape_is_named(folders, capsys, protocol, problem):
    path = folders / "one/results.jsonl"
    rows = list(read_rows(path))
    rows[1]["protocol"] |= protocol
    write_rows(path, rows)
    assert main(["compare", "one"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "line 2 is not as medvlp writes it" in err
    assert problem in err
