"""What a sweep tells before it runs, and what it writes for other programs."""

import json

import pytest

from medvlp.evaluate import main as evaluate
from medvlp.sweep import lm_eval, measure
from tests.runs import rows
from tests.sweep.world import ASSISTANT, CLIPS, words

LISTS = ("results", "configs", "versions", "n-shot", "n-samples", "higher_is_better", "group_subtasks")
"""What lm-evaluation-harness has an entry of each task in."""


def test_a_dry_run_lists_cells_and_measures_nothing(sweep_folder, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "cache"))  # without what other tests have stored
    (sweep_folder / "configs/task/unprepared.yaml").write_text("name: unprepared\nkind: retrieval\ndata: nowhere\n")
    assert evaluate(words("dry", ["a.ckpt"], ["kind"])) == 0
    capsys.readouterr()
    before = sorted(path.name for path in (sweep_folder / "dry").rglob("*"))
    monkeypatch.setattr(measure, "open_model", None)
    assert evaluate([*words("dry", [*CLIPS, ASSISTANT], ["kind", "captions", "questions"]), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "finished    a.ckpt: kind (test)  acc1 " in said
    assert "to measure  a.ckpt: captions (test)  embeddings of 24 images are stored\n" in said
    assert "to measure  b.ckpt: kind (test)\n" in said
    assert "questions does not apply to a.ckpt, b.ckpt\n" in said
    assert said.endswith("5 cells: 1 finished, 4 to measure, 0 missing\n")
    assert evaluate([*words("dry", ["a.ckpt"], ["kind", "unprepared"]), "--dry-run"]) == 1
    said = capsys.readouterr().out
    assert "missing     a.ckpt: unprepared (test)  task unprepared: " in said
    assert "missing: task unprepared: " in said
    assert "medvlp prep source=" in said
    assert sorted(path.name for path in (sweep_folder / "dry").rglob("*")) == before


def test_results_as_lm_evaluation_harness_writes_them(sweep_folder):
    models = ["a.ckpt", ASSISTANT]
    assert evaluate(words("harness", models, ["kind", "captions", "questions"], "lm_eval=true")) == 0
    assert evaluate(words("harness", models, ["kind", "captions", "questions"], "lm_eval=true")) == 0
    tasks = {"a.ckpt": ["captions", "kind"], ASSISTANT: ["questions"]}
    ours = rows(sweep_folder / "harness/results.jsonl")
    for model, names in tasks.items():
        (path,) = (sweep_folder / "harness/lm_eval" / model).glob("results_*.json")
        content = json.loads(path.read_text())
        assert (content["model_name"], content["config"]["model_args"]) == (model, {"pretrained": model})
        for key in LISTS:
            assert sorted(content[key]) == names, key
        for task in names:
            values = content["results"][task]
            for row in ours:
                if (row["checkpoint"], row["task"]) == (model, task) and row["value"] is not None:
                    assert values[f"{row['metric']},none"] == row["value"]
                    error = values[f"{row['metric']}_stderr,none"]
                    if row["ci_low"] is not None:
                        assert error == pytest.approx((row["ci_high"] - row["ci_low"]) / 3.92, rel=1e-3)
            (path,) = (sweep_folder / "harness/lm_eval" / model).glob(f"samples_{task}_*.jsonl")
            samples = rows(path)
            assert [sample["doc_id"] for sample in samples] == list(range(len(samples)))
            assert {"doc", "target", "arguments", "resps", "filtered_resps", "filter", "doc_hash"} <= set(samples[0])
            for metric in {name for sample in samples for name in sample["metrics"]} - {"rank"}:
                scores = [sample[metric] for sample in samples if metric in sample]
                if metric != "unparsed" or task == "questions":
                    assert sum(scores) / len(scores) == pytest.approx(values[f"{metric},none"]), metric
        assert content["n-samples"][names[-1]]["effective"] <= content["n-samples"][names[-1]]["original"]
    assert content["higher_is_better"]["questions"]["unparsed"] is False
    assert content["higher_is_better"]["questions"]["closed_accuracy"] is True


def test_models_whose_names_make_one_folder_have_two(tmp_path):
    names = ["m/a.ckpt", "m__a.ckpt", "m/" + 300 * "a"]
    for name in names:
        folder = lm_eval.folder_of(name, tmp_path)
        folder.mkdir()
        (folder / "results_2026.json").write_text(json.dumps({"model_name": name}))
    assert [lm_eval.folder_of(name, tmp_path) for name in names] == [
        lm_eval.folder_of(name, tmp_path) for name in names
    ]
    assert len(list(tmp_path.iterdir())) == 3
    assert (tmp_path / "m__a.ckpt").is_dir()


def test_subgroups_and_calibration_of_every_cell(sweep_folder, capsys):
    assert evaluate(words("groups", ["a.ckpt"], ["kind"], "by=[kindd]")) == 1
    said = capsys.readouterr().err
    assert "kindd" in said
    assert "did you mean 'kind'?" in said
    assert not (sweep_folder / "groups").exists()
    assert (
        evaluate(words("groups", ["a.ckpt", ASSISTANT], ["kind", "questions"], "by=[answer_type]", "people=[kind]"))
        == 0
    )
    groups = rows(sweep_folder / "groups/subgroups.jsonl")
    assert {(row["checkpoint"], row["task"], row["by"]) for row in groups} == {
        (model, task, by)
        for model, task in (("a.ckpt", "kind"), (ASSISTANT, "questions"))
        for by in ("answer_type", "kind")
    }
    by_kind = [row for row in groups if (row["by"], row["metric"]) == ("kind", "acc1")]
    assert sum(row["n"] for row in by_kind) == 24
    assert {row["group"] for row in groups if (row["task"], row["by"]) == ("questions", "kind")} == {"(not stated)"}
    results = {(row["task"], row["metric"]): row for row in rows(sweep_folder / "groups/results.jsonl")}
    assert results["kind", "acc1/worst_group[kind]"]["value"] == min(row["value"] for row in by_kind)
    assert {"ece", "brier", "aurc", "sensitivity@95specificity"} <= {
        metric for task, metric in results if task == "kind"
    }
    calibration = rows(sweep_folder / "groups/calibration.jsonl")
    assert [(row["task"], row["split"], len(row["bins"])) for row in calibration] == [("kind", "test", 15)]
    reliance = results["questions", "visual_reliance_score"]["protocol"]["reliance"]
    assert "image" in reliance[0]
