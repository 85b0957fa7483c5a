"""Metrics from records alone: what results.jsonl says, after a journey through JSON."""

import json

import numpy as np
import pytest

from medvlp.eval.bootstrap import Bootstrap, resampled_values
from medvlp.eval.errors import RecordsError
from medvlp.eval.metrics import MeanOfMeans, auroc, mean_per_class_recall
from medvlp.eval.retrieval.image_text import Retrieval
from medvlp.eval.statistics.measures import measures, part
from medvlp.eval.trained import Trained
from medvlp.jsonl import read_rows
from tests.eval.colour_world import COLOURS, FakeDataset, sample
from tests.eval.test_task import run, zero_shot
from tests.results import write_result

CLASSES = {colour: [colour] for colour in COLOURS if colour != "grey"}


def records_of(rows):
    """Records of answers: (group, metric → score)."""
    return [{"id": f"q{i}", "group": group, "scores": scores} for i, (group, scores) in enumerate(rows)]


def colours(count=40):
    rng = np.random.default_rng(0)
    names = list(COLOURS)
    rows = []
    for i in range(count):
        colour, hue = names[rng.integers(5)], names[rng.integers(4)]
        rows.append(sample(f"k{i}", colour, f"p{rng.integers(12)}", f"{names[rng.integers(5)]} {i % 9}", hue=hue))
    return rows


@pytest.mark.parametrize("trained", [None, Trained({f"k{i}": "bytes" for i in range(0, 40, 3)}, ["made/train"])])
@pytest.mark.parametrize("kind", ["zero_shot", "retrieval"])
def test_the_file_of_records_gives_every_row_of_the_results(tmp_path, kind, trained):
    quick = Bootstrap(resamples=300, seed=5)
    task = {
        "zero_shot": zero_shot(colours(), classes=CLASSES, bootstrap=quick, trained=trained),
        "retrieval": Retrieval("captions", FakeDataset(colours()), bootstrap=quick, trained=trained),
    }[kind]
    write_result(tmp_path, "a.ckpt", run(task))
    rows = list(read_rows(tmp_path / "results.jsonl"))
    protocol = rows[0]["protocol"]
    records = list(read_rows(tmp_path / protocol["records"]))
    values = quick.measure(measures(records, protocol))
    assert [(m.name, m.value, m.ci_low, m.ci_high, m.n) for m in values] == [
        (row["metric"], row["value"], row["ci_low"], row["ci_high"], row["n"]) for row in rows
    ]
    assert any(row["metric"].endswith("_not_in_train") for row in rows) == (trained is not None)


def test_directions_of_retrieval_have_their_own_items():
    rows = [sample("a", "red", "p1", "red"), sample("b", "blue", "p2", "blue")]
    rows[0].texts["roi"] = "red patch"
    result = run(Retrieval("captions", FakeDataset(rows), text=["caption", "roi"], recall_at=[1]))
    to_text, to_image = measures(result.records, result.protocol)
    assert (to_text.keys, to_image.keys) == (["a", "b"], ["a", "a (2)", "b"])  # one sample, two texts
    assert (list(to_text.metrics), list(to_image.metrics)) == (["image_to_text_recall@1"], ["text_to_image_recall@1"])
    assert [record["direction"] for record in to_image.records] == ["text_to_image"] * 3


def test_intervals_resample_clusters_and_count_what_a_metric_has():
    groups = ["a", "a", "b", "c", "c", "c"]
    everything, some = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0], [None, 1.0, None, 0.0, None, None]
    records = records_of(
        (group, {"all": value, "some": other, "none": None})
        for group, value, other in zip(groups, everything, some, strict=True)
    )
    metrics = {metric.name: metric for metric in Bootstrap(resamples=3000, seed=1).measure(measures(records, {}))}
    assert set(metrics) == {"all", "some"}
    assert (metrics["all"].value, metrics["all"].n) == (0.5, 6)
    assert (metrics["some"].value, metrics["some"].n) == (0.5, 2)
    # the reference: clusters sampled and joined one by one
    sample_RK = np.random.default_rng(1).integers(0, 3, (3000, 3))
    clusters = [[1.0, 0.0], [1.0], [0.0, 0.0, 1.0]]
    means = [np.mean([value for k in row for value in clusters[k]]) for row in sample_RK]
    assert (metrics["all"].ci_low, metrics["all"].ci_high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_a_metric_stands_before_its_controls():
    records = records_of(
        [("a", {"llava_med/x": None, "exact_match": 1.0}), ("b", {"llava_med/x": 0.5, "exact_match": 0.0})]
    )
    for record, blind in zip(records, (0.0, 1.0), strict=True):
        record["control_scores"] = {"blank_image": {"exact_match": blind}}
    (measured,) = measures(records, {"kind": "vqa", "controls": {"blank_image": "grey", "seed": 0}})
    assert {name: metric(None) for name, metric in measured.metrics.items()} == {
        "exact_match": 0.5,
        "exact_match/blank_image": 0.5,
        "exact_match/minus_blank_image": 0.0,
        "llava_med/x": 0.5,
        "blank_image_retention": 1.0,
    }
    assert next(iter(measured.metrics)) == "exact_match"
    assert measured.counts["llava_med/x"] == 1


def test_means_of_classes_equal_the_metric_on_arrays():
    rng = np.random.default_rng(3)
    scores, target, times = rng.normal(size=(50, 4)), rng.integers(0, 4, 50), rng.integers(0, 3, (20, 50)).astype(float)
    times[:, target == 2] = 0  # no resample has this class
    hit = scores.argmax(1) == target
    mean = MeanOfMeans(np.repeat(hit[:, None], 4, 1), target[:, None] == np.arange(4))
    assert mean(None) == pytest.approx(mean_per_class_recall(scores, target), abs=1e-15)
    expected = mean_per_class_recall(scores, target, times)
    assert mean(times) == pytest.approx(expected, abs=1e-12)
    cluster = rng.integers(0, 7, 50)
    of_clusters = rng.integers(0, 3, (20, 7)).astype(float)
    sums = [of_clusters @ array for array in mean.sums_of(cluster, 7)]
    assert mean.from_sums(*sums) == pytest.approx(mean(of_clusters[:, cluster]), abs=1e-12)


def test_a_part_of_the_items_is_measured_as_if_the_others_were_not_there():
    result = run(zero_shot(colours(), classes=CLASSES))
    (measured,) = measures(result.records, result.protocol)
    member = np.arange(len(measured.keys)) % 3 == 0
    selection = [record for record, is_member in zip(result.records, member, strict=True) if is_member]
    (alone,) = measures(selection, result.protocol)
    parted = part(measured, member)
    assert parted.counts == alone.counts
    for name, metric in alone.metrics.items():
        assert parted.metrics[name](None) == pytest.approx(metric(None), abs=1e-12), name


def test_items_of_a_part_are_those_that_a_metric_counts():
    rows: list[tuple[str, dict[str, float | None]]] = [
        ("a", {"exact_match": 1.0}), ("b", {"exact_match": 0.0}), ("c", {"exact_match": 1.0}), ("d", {"exact_match": 1.0})
    ]  # fmt: skip
    records = records_of(rows)
    for i, record in enumerate(records):
        record |= {"images": int(i != 1), "control_scores": {"blank_image": record["scores"]}}
        by_set = {"one": {"exact_match": 1.0}, "two": {} if i == 2 else {"exact_match": 0.0}}  # not askable in both
        record["scores_by_prompts"] = by_set
    protocol = {"kind": "vqa", "controls": {"blank_image": "grey"}}
    (measured,) = measures(records, protocol)
    for member in ([True, True, False, False], [False, False, True, True], [False, True, True, False]):
        (alone,) = measures([r for r, is_member in zip(records, member, strict=True) if is_member], protocol)
        assert part(measured, member).counts == alone.counts
    counts = part(measured, [True, True, False, False]).counts
    assert (counts["blank_image_retention"], counts["exact_match/prompts_best"], counts["exact_match"]) == (1, 2, 2)


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        ("zero_shot", {"target": "red", "scores": {"red": 0.5}}),
        ("retrieval", {"direction": "image_to_text"}),
        ("vqa", {"scores": {"exact_match": 1.0}}),
        ("made_up", {}),
        ("zero_shot", {"target": "pink", "similarities": [0.1]}),
        ("zero_shot", {"target": "red", "similarities": [0.1, 0.3]}),
        ("zero_shot", {"target": "red", "similarities": [None]}),
        ("retrieval", {"direction": "image_to_text", "rank": "first"}),
        ("vqa", {"scores": 3, "control_scores": {}}),
    ],
)
def test_records_that_lack_something_say_what_to_do(kind, record):
    protocol = {"kind": kind, "classes": {"red": ["red"]}, "recall_at": [1], "controls": {"blank_image": "grey"}}
    with pytest.raises(RecordsError, match=f"records of kind '{kind}' lack .* run `medvlp eval` again"):
        measures([{"id": "a", "group": "p"} | record], protocol)


def test_a_metric_of_sums_and_one_of_items_see_the_same_resamples():
    rng = np.random.default_rng(4)
    hits, groups = rng.integers(0, 2, 60), [f"g{g}" for g in rng.integers(0, 15, 60)]
    values = resampled_values(
        {"sums": MeanOfMeans.of(hits), "items": lambda weights: weights @ hits / weights.sum(1)}, groups, 400
    )
    assert values["sums"] == pytest.approx(values["items"], abs=1e-12)
    scores = rng.normal(size=60)
    ranks = resampled_values({"auroc": lambda weights: auroc(scores, hits, weights)}, groups, 400)["auroc"]
    assert len(np.unique(ranks)) > 100


def test_json_keeps_every_value():
    result = run(zero_shot(colours(), classes=CLASSES))
    again = json.loads(json.dumps([result.records, result.protocol]))
    assert [m.metrics["auroc"](None) for m in measures(*again)] == [
        m.metrics["auroc"](None) for m in measures(result.records, result.protocol)
    ]
