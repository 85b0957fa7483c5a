"""Whole tasks on colours, where every rank and probability can be worked out by hand."""

import json
import math

import numpy as np
import pytest

from medvlp.builders.tasks import task_class
from medvlp.config import TASKS, list_options, load_task
from medvlp.eval.bootstrap import Bootstrap, MetricValue
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.errors import TaskError
from medvlp.eval.results import metric_rows
from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.eval.task import CAPABILITIES, TaskResult, TaskSettings
from medvlp.eval.zero_shot import ZeroShot, class_embeddings
from medvlp.shards import BadSample
from tests.eval.colour_world import ColourEncoder, FakeDataset, sample
from tests.results import write_result

QUICK = Bootstrap(resamples=200)


def run(task):
    return task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000))


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


def zero_shot(rows, **changes):
    classes = {"red": ["red", "a red thing"], "green": ["green"], "3": ["blue"]}
    stated = {"label": "hue", "classes": classes, "templates": ["{}", "a patch of {}"], "bootstrap": QUICK}
    return ZeroShot("hues", FakeDataset(rows), **{**stated, **changes})


def test_zero_shot_counts_what_it_leaves_out():
    task = zero_shot(
        [
            sample("a", "red", "p1", hue="red"),
            sample("b", "green", "p1", hue="green"),
            sample("c", "blue", "p2", hue=3),  # values are compared as strings
            sample("d", "red", "p2", hue="green"),
            sample("e", "grey", "p3", hue="red"),  # equally near to all classes: a tie, so a miss
            sample("f", "grey", "p4", hue="grey"),
            sample("g", "grey", "p4"),
            BadSample("checksum_mismatch"),
        ]
    )
    result = run(task)
    assert values(result)["acc1"] == 0.6
    assert values(result)["mean_per_class_recall"] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert list(values(result)) == ["acc1", "mean_per_class_recall", "auroc"]
    protocol = result.protocol
    assert (protocol["n"], protocol["samples"], protocol["excluded"]) == (5, 8, {"(no label)": 1, "grey": 1})
    assert (protocol["bad"], protocol["bad_keys"]) == ({"checksum_mismatch": 1}, ["bad7"])
    assert protocol["exclusions"] == [
        "1 of 8 samples: hue 'grey' is no class of the task",
        "1 of 8 samples: no label 'hue'",
        "1 of 8 samples: cannot be read (checksum mismatch)",
    ]
    assert protocol["class_counts"] == {"red": 2, "green": 2, "3": 1}
    assert (protocol["data"], protocol["split"], protocol["split_hash"]) == (
        "data/colours/test",
        "test",
        task.dataset.manifest_hash,
    )
    assert (protocol["weights"], protocol["bootstrap"]["clusters"]) == ("colour-encoder", 3)
    assert protocol["unique_images"] == 4  # a and d are one picture; f, which equals e, is excluded
    assert protocol["auroc"] == "one-vs-rest, mean over the classes; ties count one half"
    assert protocol["tie_rule"].startswith("in ranks and accuracy ties count against")
    assert [r["prediction"] for r in result.records] == ["red", "green", "3", "red", None]
    assert [r["target"] for r in result.records] == ["red", "green", "3", "green", "red"]
    assert result.records[4]["score"] == pytest.approx(1 / 3)
    assert result.records[0]["scores"]["green"] == pytest.approx(math.exp(-100))
    accuracy = np.mean([r["prediction"] == r["target"] for r in result.records])
    assert accuracy == values(result)["acc1"]


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["red", "gren"], r"class 'gren' has no samples; did you mean 'green' \(2 samples, no class\)\?"),
        (["red", "Green"], r"class 'Green' has no samples; did you mean 'green' \(2 samples"),
        (["red", "light,blue"], r"did you mean 'light, blue' \(1 sample, no class\)\?"),
        (
            ["red", "purple"],
            r"class 'purple' has no samples, and 'green' \(2 samples\) is no class|'light, blue' \(1 sample\) is no",
        ),
        (
            ["Red", "GREEN"],
            r"class 'Red' has no samples; did you mean 'red' .*'GREEN' has no samples; did you mean 'green'",
        ),
    ],
)
def test_a_class_without_samples_next_to_a_label_without_a_class_is_an_error(classes, said):
    rows = [sample("a", "red", hue="red"), sample("b", "green", hue="green"), sample("c", "green", hue="green")]
    rows += [sample("d", "blue", hue="light, blue")]
    task = zero_shot(rows, classes={name: [name] for name in classes})
    with pytest.raises(TaskError, match=said):
        task.check()
    with pytest.raises(TaskError, match=said):
        run(task)


def test_labels_that_differ_in_case_only_are_not_ignored_unsaid():
    rows = [sample("a", "red", hue="red"), sample("b", "red", hue="Red"), sample("c", "green", hue="green")]
    classes = {"red": ["red"], "green": ["green"]}
    with pytest.raises(TaskError, match=r"class 'red' has 1 sample; did you mean 'Red' \(1 sample, no class\)"):
        zero_shot(rows, classes=classes).check()
    chosen = zero_shot(rows, classes=classes, exclude=("Red",))
    chosen.check()
    assert run(chosen).protocol["exclusions"] == [
        "1 of 3 samples: hue 'Red' is no class of the task (the task's exclude names it)"
    ]


def test_a_class_that_nobody_has_is_said_where_no_label_is_ignored():
    rows = [sample("a", "red", hue="red"), sample("b", "green", hue="green")]
    assert run(zero_shot(rows)).protocol["exclusions"] == ["0 samples: class '3' has none here"]


def test_what_retrieval_leaves_out_is_said():
    rows = [sample("a", "red", caption="red"), sample("b", "green", caption=" "), BadSample("undecodable_image")]
    assert run(Retrieval("captions", FakeDataset(rows), bootstrap=QUICK)).protocol["exclusions"] == [
        "1 of 3 samples: no text caption",
        "1 of 3 samples: cannot be read (undecodable image)",
    ]


def test_split_is_the_manifest_s_whatever_the_folder_is_called():
    dataset = FakeDataset([sample("a", "red", caption="red")], folder="data/colours/renamed", split="valid")
    protocol = run(Retrieval("captions", dataset, bootstrap=QUICK)).protocol
    assert (protocol["data"], protocol["split"]) == ("data/colours/renamed", "valid")


@pytest.mark.parametrize(
    ("kinds", "cluster"),
    [
        (["patient", "patient"], "group (patient)"),
        (["patient", "article"], "group (article or patient)"),
        ([None, None], "group (kind not stated)"),
        (["article", None], "group (article or kind not stated)"),
    ],
)
def test_clusters_are_of_the_kind_that_used_samples_state(kinds, cluster):
    rows = [sample(f"{i}", "red", f"g{i}", kind=kind, hue="red") for i, kind in enumerate(kinds)]
    unused = sample("x", "red", "g", kind="figure", hue="pink")
    assert run(zero_shot([*rows, unused], exclude=("pink",))).protocol["bootstrap"]["cluster"] == cluster


def test_class_embedding_is_the_renormalised_mean_of_unit_prompts():
    task = zero_shot([], classes={"warm": ["red", "yellow"], "cold": ["blue"]}, templates=["{}"])
    warm, cold = class_embeddings(CachedEncoder(ColourEncoder(), 4, 0, 10_000), task.classes, task.templates)
    mean = (np.array([1, 0, 0]) + np.array([1, 1, 0]) / math.sqrt(2)) / 2
    assert warm == pytest.approx(mean / np.linalg.norm(mean), abs=1e-7)
    assert cold == pytest.approx([0, 0, 1])


def test_acc5_appears_beyond_five_classes():
    classes = {str(i): [name] for i, name in enumerate(["red", "green", "blue", "yellow", "red yellow", "grey"])}
    result = run(zero_shot([sample("a", "grey", hue=0), sample("b", "blue", hue=2)], classes=classes))
    assert values(result)["acc5"] == 0.5


def test_labels_that_match_no_class_are_explained():
    message = r"has 'hue' among .*; found \{'pink': 1\}; labels and metadata there: \['hue', 'size'\]"
    with pytest.raises(TaskError, match=message):
        run(zero_shot([sample("a", "red", hue="pink", size=3)]))


def retrieval(rows, **changes):
    return Retrieval("captions", FakeDataset(rows), bootstrap=QUICK, **changes)


def test_retrieval_pools_equal_captions():
    result = run(
        retrieval(
            [
                sample("a", "red", "p1", "red"),
                sample("b", "red", "p2", " red "),  # the same text: one candidate for both images
                sample("c", "blue", "p3", "green"),
                sample("d", "green", "p3", "blue"),
                sample("e", "yellow", "p4", "yellow"),
                sample("f", "grey", "p5", " "),
            ],
            recall_at=(1, 3, 4),
        )
    )
    assert values(result)["image_to_text_recall@1"] == 3 / 5
    assert values(result)["text_to_image_recall@1"] == 2 / 4
    assert values(result)["image_to_text_recall@4"] == 1.0
    assert {metric.n for metric in result.metrics} == {5, 4}
    protocol = result.protocol
    assert (protocol["n"], protocol["unique_n"], protocol["pairs"], protocol["excluded"]) == (5, 4, 5, {"(no text)": 1})
    assert "gallery stays" in protocol["bootstrap"]["resampled"]
    to_text, to_image = result.records[:5], result.records[5:]
    assert to_text[1] | {"score": 1} == {
        "id": "b", "group": "p2", "prediction": "a", "target": ["a"],
        "score": 1, "direction": "image_to_text", "rank": 1, "fields": {},
    }  # fmt: skip
    assert to_image[0]["target"] == ["a", "b"]
    assert [r["rank"] for r in to_image] == [1, 5, 5, 1]  # four others score 0 or more, as the match does


def test_several_text_fields_give_several_captions():
    rows = [sample("a", "red", "p1", "blue"), sample("b", "blue", "p2", "blue")]
    rows[0].texts["roi"] = "red"
    result = run(retrieval(rows, text=["caption", "roi"], recall_at=[1]))
    assert (result.protocol["unique_n"], result.protocol["pairs"]) == (2, 3)
    assert values(result) == {"image_to_text_recall@1": 1.0, "text_to_image_recall@1": 1.0}


def test_a_collapsed_encoder_scores_nothing():
    rows = [sample(f"{i}", "grey", f"p{i}", f"grey {i}") for i in range(12)]
    assert set(values(run(retrieval(rows, recall_at=(1, 5, 11)))).values()) == {0.0}


def test_retrieval_without_texts_is_refused():
    with pytest.raises(TaskError, match=r"has text \['report'\]; fields: \['caption'\]"):
        run(retrieval([sample("a", "red", "p", "red")], text="report"))


def test_records_name_the_competitor_on_a_tie():
    rows = [sample("a", "red", "p1", "red"), sample("b", "red", "p2", "a red patch"), sample("c", "blue", "p3", "blue")]
    result = run(retrieval(rows, recall_at=[1]))
    assert [record["rank"] for record in result.records] == [2, 2, 1] * 2
    assert [record["prediction"] for record in result.records] == ["b", "a", "c"] * 2
    hits = [record["prediction"] in record["target"] for record in result.records]
    assert [np.mean(hits[:3]), np.mean(hits[3:])] == list(values(result).values())


def test_another_split_is_another_result(tmp_path):
    for split, value in (("valid", 0.5), ("test", 0.25), ("valid", 0.75)):
        metrics = [MetricValue("acc1", value, value, value, 8)]
        write_result(
            tmp_path, "run/last.ckpt", TaskResult("hues", "zero_shot", metrics, [{"id": value}], {"split": split})
        )
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(row["protocol"]["split"], row["value"]) for row in rows] == [("test", 0.25), ("valid", 0.75)]
    records = [json.loads((tmp_path / row["protocol"]["records"]).read_text()) for row in rows]
    assert records == [{"id": 0.25, "kind": "zero_shot"}, {"id": 0.75, "kind": "zero_shot"}]


def test_results_are_written_once_per_checkpoint_and_task(tmp_path):
    metrics = [MetricValue("acc1", 0.5, 0.25, 0.75, 8), MetricValue("auroc", *[float("nan")] * 3, 8)]
    result = TaskResult(
        "hues", "zero_shot", metrics, [{"id": "a", "prediction": None}], {"kind": "zero_shot", "split": "test"}
    )
    assert metric_rows(result)[1]["value"] is None
    for checkpoint in ("x/run/checkpoints/last.ckpt", "y/run/checkpoints/last.ckpt", "x/run/checkpoints/last.ckpt"):
        write_result(tmp_path, checkpoint, result)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(row["checkpoint"][0], row["metric"]) for row in rows] == [(c, m) for c in "yx" for m in ("acc1", "auroc")]
    assert {key: rows[0][key] for key in ("value", "ci_low", "ci_high", "n")} == {
        "value": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n": 8,
    }  # fmt: skip
    paths = {row["protocol"]["records"] for row in rows}
    assert len(paths) == 2  # one base name, two checkpoints, two files
    assert all(json.loads((tmp_path / path).read_text()) == result.records[0] | {"kind": "zero_shot"} for path in paths)


@pytest.mark.parametrize("kind", TASKS)
def test_a_kind_names_itself_and_known_capabilities(kind):
    task = task_class(kind)
    assert (task.kind, TASKS[kind][0](name="x", data="d").kind) == (kind, kind)
    needs = task.needs(TASKS[kind][0]())
    assert needs
    assert set(needs) <= set(CAPABILITIES)


@pytest.mark.parametrize("name", list_options("configs/task"))
def test_shipped_tasks_build(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDVLP_DATA", str(tmp_path))
    config = load_task(name)
    other_splits = {  # sets without a test, or whose test has no answers
        **dict.fromkeys(("kvasir_vqa", "iu_xray_errors", "iu_xray_findings", "iu_xray_impression"), "train"),
        **dict.fromkeys(("ham10000", "padchest"), "train"),
        **dict.fromkeys(("lc25000_colon", "lc25000_lung", "rsna_boxes", "rsna_pneumonia", "scin"), "train"),
        **dict.fromkeys(("chexpert", "cmb_exam", "medmcqa", "mmmu_health"), "valid"),
    }
    assert (config.name, config.split) == (name, other_splits.get(name, "test"))
    if config.kind == "probe":  # it opens what it fits
        with pytest.raises(
            TaskError, match=f"task {name}: a probe is fitted on labelled samples, and .*train is not there"
        ):
            task_class(config.kind).from_config(config, FakeDataset([]), TaskSettings())
        return
    task = task_class(config.kind).from_config(config, FakeDataset([]), TaskSettings())
    assert (task.name, task.kind) == (name, config.kind)
