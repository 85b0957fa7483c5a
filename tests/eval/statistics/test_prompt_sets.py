"""Prompt sets on colours: all are measured, and validation data choose the one of the scores."""

import pytest

from medvlp.config import ConfigError, ZeroShotConfig
from medvlp.config.tasks import VqaConfig
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.zero_shot import ZeroShot
from tests.eval.colour_world import ColourEncoder, FakeDataset, sample

CLASSES = {"red": ["red"], "green": ["green"]}
SETS = {"plain": ["{}"], "blind": ["{} green red"], "swapped": ["not {} but yellow"]}
"""`blind` makes both classes equal: every item is a tie, which is wrong."""


def run(rows, valid=None, **changes):
    datasets = FakeDataset(rows), FakeDataset(valid, "data/colours/valid", None, "valid") if valid else None
    task = ZeroShot(
        "hues", datasets[0], "hue", CLASSES, [], Bootstrap(200), prompt_sets=SETS, valid=datasets[1], **changes
    )
    return task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000))


ROWS = [sample("a", "red", hue="red"), sample("b", "green", hue="green"), sample("c", "red", hue="green")]


def test_the_set_is_chosen_on_valid_and_the_spread_is_of_test():
    result = run(ROWS, [sample("v", "green", hue="green")])
    values = {metric.name: metric for metric in result.metrics}
    assert values["acc1"].value == values["acc1/prompts_best"].value == pytest.approx(2 / 3)
    assert values["acc1/prompts_worst"].value == 0
    assert values["acc1/prompts_median"].n == 3
    assert values["acc1/prompts_best"].ci_low <= 2 / 3 <= values["acc1/prompts_best"].ci_high
    protocol = result.protocol
    assert (protocol["prompt_set"], protocol["templates"], protocol["prompt_sets"]) == ("plain", ["{}"], SETS)
    assert protocol["prompt_set_chosen"] == "best acc1 on the validation split: plain 1.000, blind 0.000, swapped 1.000"
    assert result.records[0]["ranks_by_prompts"] == {"plain": 1, "blind": 2, "swapped": 1}


def test_a_set_that_is_bad_on_valid_is_not_chosen_though_it_is_first():
    order = {name: SETS[name] for name in ("blind", "plain")}
    rows = [sample("v", "green", hue="green")]
    task = ZeroShot(
        "hues",
        FakeDataset(ROWS),
        "hue",
        CLASSES,
        [],
        Bootstrap(0),
        prompt_sets=order,
        valid=FakeDataset(rows, "data/colours/valid", None, "valid"),
    )
    assert task.run(CachedEncoder(ColourEncoder(), 4, 0, 10_000)).protocol["prompt_set"] == "plain"


@pytest.mark.parametrize(
    ("valid", "reason"),
    [(None, "the task has no other split to choose on"), ([sample("v", "red", hue="blue")], "has a class of the task")],
)
def test_without_validation_data_the_first_is_taken_and_said(valid, reason):
    protocol = run(ROWS, valid).protocol
    assert protocol["prompt_set"] == "plain"
    assert protocol["prompt_set_chosen"].startswith("the first, because ")
    assert reason in protocol["prompt_set_chosen"]


def zero_shot(**changes):
    stated = {"name": "hues", "label": "hue", "classes": CLASSES, "data": "x", "prompt_sets": {"a": ["{}"]}}
    return ZeroShotConfig(**{**stated, **changes})


def test_options_are_checked():
    zero_shot().check()
    zero_shot(positive="red").check()
    for changes, message in (
        ({"templates": ["{}"]}, "templates or prompt_sets, not both"),
        ({"prompt_sets": {"a": ["{}"], "b": ["red"]}}, r"prompt_sets.b need \{\} for the class name; found \['red'\]"),
        ({"prompt_sets": {"a": []}}, r"prompt_sets.a need \{\} .* none at all"),
        ({"prompt_sets": {}}, r"templates need \{\}"),
        ({"positive": "blue"}, "positive='blue', expected one of two classes"),
    ):
        with pytest.raises(ConfigError, match=message):
            zero_shot(**changes).check()
    for changes, message in (
        ({"instruction": "Be brief.", "instructions": {"a": "b"}}, "instruction or instructions, not both"),
        ({"instructions": {"a": "b", "c": "b"}}, "two of them are the same text"),
    ):
        with pytest.raises(ConfigError, match=message):
            VqaConfig(name="x", data="x", **changes).check()
