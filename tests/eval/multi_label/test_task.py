"""Several labels by prompts, on patches of colours: every cosine is known."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from medvlp.config import ConfigError, MultiLabelConfig
from medvlp.data.labels import ClassLabels
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.errors import TaskError
from medvlp.eval.items import Item
from medvlp.eval.multi_label.targets import class_names, read_targets
from medvlp.eval.multi_label.task import MultiLabel
from medvlp.eval.statistics.classification import log_odds
from medvlp.eval.task import TaskSettings
from tests.eval.colour_world import ColourEncoder, FakeDataset, sample

ROWS = [
    ("a", "red", {"warm": 1, "cold": 0, "dark": 0}),
    ("b", "yellow", {"warm": 1, "cold": 0, "dark": 0}),
    ("c", "blue", {"warm": 0, "cold": 1, "dark": 0}),
    ("d", "green", {"warm": -1, "cold": 1}),  # uncertain, and one that is not stated
    ("e", "grey", {"warm": 0, "cold": None, "dark": False, "matt": 1}),
    ("f", "blue", ["cold"]),  # a list states all
    ("g", "red", []),
    ("h", "red", {"matt": 1}),  # nothing of the classes
    ("i", "grey", {"warm": "maybe"}),
    ("j", "grey", None),
]
NAMES = {"warm": ["red", "yellow"], "cold": ["blue"], "dark": ["grey"]}


def findings(rows=ROWS, **changes):
    stated = {
        "label": "look",
        "classes": NAMES,
        "templates": ["{}"],
        "negative_templates": ["green"],  # the colour against which all are held
        "bootstrap": Bootstrap(resamples=20),
    }
    dataset = FakeDataset([sample(key, colour, look=look) for key, colour, look in rows])
    return MultiLabel("looks", dataset, **{**stated, **changes})


def run(task):
    return task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000))


def values(result):
    return {metric.name: metric.value for metric in result.metrics}


@pytest.fixture(scope="module")
def pairs():
    valid = FakeDataset([sample(f"v{key}", colour, look=look) for key, colour, look in ROWS[:6]], split="valid")
    return run(findings(valid=valid))


def test_a_score_compares_the_prompts_for_a_class_with_those_against_it(pairs):
    record = pairs.records[0]  # red against the mean of red and yellow, and against green
    yellow = np.array([1, 1, 0]) / math.sqrt(2)
    warm = np.array([1, 0, 0]) + yellow
    assert record["logits"][0] == pytest.approx(100 * warm[0] / np.linalg.norm(warm))
    assert record["logits"][1] == pytest.approx(0)  # blue and green are as far
    assert record["scores"]["cold"] == pytest.approx(0.5)
    assert record["targets"] == {"warm": 1, "cold": 0, "dark": 0}


def test_metrics_are_scikit_learn_s_on_the_stated_labels(pairs):
    record_of = {record["id"]: record for record in pairs.records}
    for column, name in enumerate(("warm", "cold")):
        rows = [record for record in pairs.records if record["targets"][name] is not None]
        truth, score = [record["targets"][name] for record in rows], [record["logits"][column] for record in rows]
        assert values(pairs)[f"auroc/{name}"] == pytest.approx(roc_auc_score(truth, score))
        assert values(pairs)[f"ap/{name}"] == pytest.approx(average_precision_score(truth, score))
        predicted = [name in record["prediction"] for record in rows]
        assert values(pairs)[f"f1/{name}"] == pytest.approx(f1_score(truth, predicted))
    macro = [values(pairs)[f"auroc/{name}"] for name in ("warm", "cold")]
    assert values(pairs)["auroc"] == pytest.approx(np.mean(macro))
    assert list(record_of) == list("abcdefg")
    counts = {metric.name: metric.n for metric in pairs.metrics}
    assert (counts["auroc/warm"], counts["auroc/cold"], counts["auroc"]) == (6, 6, 7)


def test_what_is_not_scored_is_named(pairs):
    assert "auroc/dark" not in values(pairs)
    assert pairs.protocol["exclusions"] == [
        "2 of 10 samples: nothing stated of 'look'",
        "1 of 10 samples: look cannot be read: warm='maybe'",
        "class 'dark': none of its 6 stated labels is positive; it is in no metric",
    ]
    assert pairs.protocol["other_labels"] == {"matt": 2}
    assert pairs.protocol["class_counts"]["cold"] == {"positive": 3, "negative": 3, "not stated": 1}
    assert list(pairs.protocol["threshold"]) == ["warm", "cold"]


def test_without_a_split_to_choose_on_there_is_no_f1():
    result = run(findings())
    assert not any("f1" in name for name in values(result))
    assert result.protocol["threshold_choice"].startswith("none: the task has no other split")
    assert result.records[0]["prediction"] == []


def test_softmax_lets_classes_compete():
    result = run(findings(method="softmax", negative_templates=[]))
    similarity = [record["logits"] for record in result.records]
    assert np.argmax(similarity, axis=1).tolist()[:3] == [0, 0, 1]
    scores = np.array([list(record["scores"].values()) for record in result.records])
    assert scores.sum(axis=1) == pytest.approx(np.ones(len(scores)))  # the sigmoid of the log-odds is the softmax
    logits = np.array([[1.0, 2.0, 400.0]])
    assert log_odds(logits) == pytest.approx(np.array([[-399.0, -398.0, 400 - 2 - math.log1p(math.exp(-1))]]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": {"Warm": ["red"], "cold": ["blue"]}}, r"did you mean 'warm' \(6 samples, no class\)"),
        ({"classes": {"dark": ["grey"]}}, r"no class of \['dark'\] has positives and negatives in 'look'"),
        ({"label": "hue"}, r"no class of .* in 'hue' .*labels and metadata there: \['look'\]"),
    ],
)
def test_labels_that_do_not_fit_are_named(changes, said):
    with pytest.raises(TaskError, match=said):
        run(findings(**changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": ""}, "label is empty"),
        ({"method": "cosine"}, "method"),
        ({"templates": ["red"]}, r"templates need \{\} for the class name; found \['red'\]"),
        ({"negative_templates": []}, r"negative_templates need \{\}"),
        ({"method": "softmax", "classes": NAMES}, "negative_templates are of method: pairs"),
        ({"classes": {"warm": []}}, r"classes \['warm'\] have no names"),
    ],
)
def test_options_that_cannot_be_are_refused(changes, said):
    stated = {"name": "looks", "label": "look", "classes": {"warm": ["red"]}, "templates": ["{}"]}
    config = MultiLabelConfig(**{**stated, "negative_templates": ["no {}"], **changes})
    with pytest.raises(ConfigError, match=said):
        config.check()


def test_it_is_built_of_its_options():
    config = MultiLabelConfig(name="looks", label="look", classes=NAMES, templates=["{}"], negative_templates=["no {}"])
    task = MultiLabel.from_config(config, findings().dataset, TaskSettings(in_training=True))
    assert (task.method, task.valid, task.classes) == ("pairs", None, NAMES)


@pytest.mark.parametrize(
    ("label", "several", "expected", "said"),
    [
        ("b", False, [0, 1], ""),
        (2, False, None, "x '2' is no class of the task"),
        (["a"], False, [1, 0], ""),
        (["a", "b"], False, None, "x cannot be read: 2 names where one class is expected"),
        (None, False, None, "no label 'x'"),
        ([" ", None], False, None, "no label 'x'"),
        ([" ", None], True, None, "nothing stated of 'x'"),
        ({"a": math.nan, "b": 1}, True, [None, 1], ""),
        (["b", "z"], True, [0, 1], ""),
        ("a", True, [1, 0], ""),
        ({"a": 1.0}, True, [1, None], ""),
        ({"a": -1, "b": "0"}, True, [None, 0], ""),
        ({"a": None}, True, None, "nothing stated of 'x'"),
        ({"a": [1]}, True, None, "x cannot be read: a=[1]"),
    ],
)
def test_labels_become_targets(label, several, expected, said):
    targets = read_targets([Item("k", "g", {}, {"x": label})], ClassLabels("x", ("a", "b"), several, ("*",)))
    states = [[None if math.isnan(state) else state for state in row] for row in targets.target_NL.tolist()]
    assert states == ([] if expected is None else [expected])
    assert list(targets.excluded) == ([said] if said else [])


def test_names_that_there_are():
    items = [Item("k", "g", {}, {"x": label}) for label in (["b", "a"], {"c": 0}, "d", None, "e")]
    assert class_names(items, "x", ["e"]) == ["a", "b", "c", "d"]
