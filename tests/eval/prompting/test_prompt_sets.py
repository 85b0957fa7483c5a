"""Prompt sets of answers: each asks all questions, the one that is best on valid gives the scores."""

from dataclasses import replace

import pytest

from medvlp.config import ConfigError
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.task import TaskSettings
from medvlp.eval.vqa.task import Vqa
from tests.eval.prompting.worlds import NO_INTERVALS, Told, config, dataset, sample
from tests.eval.vqa.test_task import values

SETS = {
    "plain": {},
    "brief": {"instruction": "Be brief.", "prompting": {"chain_of_thought": False}},
    "shots": {"prompting": {"shots": 1}},
    "votes": {"max_new_tokens": 256, "prompting": {"samples": 3, "temperature": 0.5}},
}


def asked(number, answer):
    return sample(number, [(f"Is finding {number} there?", answer, "closed", {})])


def test_the_set_that_is_best_on_valid_gives_the_scores(tmp_path):
    scored = dataset(tmp_path, [asked(i, "yes" if i < 3 else "no") for i in range(4)])
    dataset(tmp_path, [asked(i, "no") for i in range(10, 14)], "valid")
    dataset(tmp_path, [asked(20, "yes")], "train")
    made = replace(config(), data=str(tmp_path), prompt_sets=SETS, controls=[])
    made.check()
    task = Vqa.from_config(made, scored, TaskSettings(NO_INTERVALS))
    # no to all where an example is shown, which is right on valid, and wrong on most of test
    model = Told(lambda prompt: "no" if len(prompt.turns) > 1 else "yes")
    result = task.run(model)
    assert result.protocol["prompt_set"] == "shots"
    assert result.protocol["prompt_sets"] == SETS
    assert "plain 0.000, brief 0.000, shots 1.000, votes 0.000" in result.protocol["prompt_set_chosen"]
    assert result.protocol["prompting"]["shots"] == 1
    scores = values(result)
    assert scores["closed_accuracy"] == 1 / 4
    assert (scores["closed_accuracy/prompts_best"], scores["closed_accuracy/prompts_worst"]) == (3 / 4, 1 / 4)
    assert task.prompting_identity["shots"]["examples"] == task.prompt_sets["shots"].prompting.examples.manifest_hash
    in_training = Vqa.from_config(made, scored, TaskSettings(Bootstrap(resamples=0), in_training=True))
    assert (in_training.prompt_sets, in_training.prompting.config.shots) == ({}, 0)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ({"a": {"scorers": ["generated"]}}, r"prompt_sets.a: .* expected a mapping with some of the keys instruction"),
        ({"a": ["Be brief."]}, "expected a mapping"),
        ({"a": {"prompting": {"shot": 1}}}, "prompt_sets.a: .*shot"),
        ({"a": {"max_new_tokens": "many"}}, "prompt_sets.a: "),
        ({"a": {"prompting": {"samples": 3}}}, "state a temperature"),
        ({"a": {"prompting": {"shots": 1, "split": "valid"}}}, "is valid_split, on which the prompts are chosen"),
    ],
)
def test_a_set_that_makes_no_task_is_refused(sets, words):
    with pytest.raises(ConfigError, match=words):
        replace(config(), prompt_sets=sets).check()
