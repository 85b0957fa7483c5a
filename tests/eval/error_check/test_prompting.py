"""Texts checked for an error by a prompting protocol: examples with their verdicts in front, and votes on the sentence."""

from dataclasses import replace

import pytest

from medvlp.config import ConfigError
from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.config.evaluation.error_check import ErrorCheckConfig
from medvlp.eval.error_check.task import ErrorCheck
from medvlp.eval.prompting.protocol import Prompting
from medvlp.eval.vqa.questions import QuestionFilter
from tests.eval.prompting.worlds import NO_INTERVALS, Told, dataset, sample
from tests.eval.vqa.test_task import values

LUNG = "0 The heart is {}.\n1 There is a left effusion."
FIXED = "There is a right effusion."


def text(number, error=True):
    stated = {"error_sentence_id": 1, "corrected_sentence": FIXED} if error else {"error_sentence_id": -1}
    return sample(number, [(LUNG.format(f"large in film {number}"), "yes" if error else "no", "open", stated)])


def run(tmp_path, model, **keys):
    prompting = PromptingConfig(**keys)
    prompting.check("made", 512, "test")
    scored = dataset(tmp_path, [text(0), text(1, error=False)])
    train = dataset(tmp_path, [text(10), text(11, error=False), text(12)], "train")
    task = ErrorCheck(
        "made", scored, QuestionFilter("Reply.", max_new_tokens=512), bootstrap=NO_INTERVALS, controls=("all_correct",)
    )
    return replace(task, prompting=Prompting(prompting, train)).run(model)


def test_examples_stand_in_front_with_their_verdicts(tmp_path):
    model = Told(lambda prompt: f"1 {FIXED}")
    result = run(tmp_path, model, shots=2)
    turns = [(turn.role, turn.text.replace("<image>\n", "")) for turn in model.prompts[0].turns]
    assert turns[:4] == [
        ("user", f"{LUNG.format('large in film 10')}\nReply."),
        ("assistant", f"1 {FIXED}"),
        ("user", f"{LUNG.format('large in film 11')}\nReply."),
        ("assistant", "CORRECT"),
    ]
    assert turns[4:] == [("user", f"{LUNG.format('large in film 0')}\nReply.")]
    assert result.protocol["prompting"]["examples_per_question"] == {"2": 2}
    assert result.records[0]["examples"] == [f"made__{number}__0__0#0" for number in (10, 11)]
    assert result.protocol["first_prompt"].count("CORRECT") == 1
    assert (values(result)["flag_accuracy"], values(result)["sentence_accuracy"]) == (1 / 2, 1 / 2)


def test_a_vote_is_on_the_sentence_and_a_tie_is_no_answer(tmp_path):
    corrections = [f"1 {FIXED}", "CORRECT", "Because.\nThe answer is 1 There is an effusion.", "1 A small effusion."]
    ties = ["CORRECT", "1 There is an effusion."]

    def says(prompt, number):
        return corrections[number] if "film 0" in prompt.turns[-1].text else ties[number % 2]

    model = Told(samples=says)
    result = run(tmp_path, model, samples=4, temperature=0.7, chain_of_thought=True)
    first, second = result.records
    assert first["votes"] == {"sentence 1": 3, "correct": 1}
    assert first["verdict"] == {"has_error": True, "sentence": 1, "correction": FIXED}
    assert (second["prediction"], second["verdict"], second["scores"]["unparsed"]) == ("", None, 1)
    scores = values(result)
    assert scores["sentence_accuracy"] == 1 / 2
    assert scores["sentence_accuracy/one_sample"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert scores["sentence_accuracy/minus_one_sample"] == pytest.approx(1 / 2 - (3 / 4 + 1 / 2) / 2)
    assert "one_sample" in result.protocol["controls"]
    assert result.protocol["decoding"].startswith("4 samples at temperature 0.7, seed 0; their majority")


def test_a_protocol_that_makes_no_task_is_refused():
    with pytest.raises(ConfigError, match="state a temperature"):
        ErrorCheckConfig(name="made", data="x", prompting=PromptingConfig(samples=3)).check()
