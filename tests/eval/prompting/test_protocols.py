"""Chains of thought, self-consistency and ensemble refinement: what is asked, how it is voted, and what is asked only once."""

import json
from dataclasses import replace

import pytest

from medvlp.eval.errors import PromptTooLong
from medvlp.eval.models.kept import KeptModel
from medvlp.eval.statistics.measures import measures
from medvlp.eval.store.responses import ResponseLog
from medvlp.shards import BadSample, Turn
from tests.eval.prompting.worlds import NO_INTERVALS, Told, choice, sample, task
from tests.eval.vqa.test_task import values

ASKED = [
    sample(0, [choice("Organ?", "B"), ("Is it large?", "yes", "closed", {})]),
    sample(1, [("How many?", "5", "number", {"number_type": "integer"}), ("Where?", "left lung", "open", {})]),
]


def says(prompt, number):
    """Samples of each question, by hand: a majority of 3 : 1, a tie, a majority that is right, and four opinions."""
    return {
        "Organ?": ["The answer is B", "I cannot tell.", "B. lung", "(C)"],
        "Is it large?": ["yes", "no", "no", "yes"],
        "How many?": ["The answer is 5.", "5", "about 7", "7"],
        "Where?": ["the left lung", "Left lung.", "liver", "heart"],
    }[prompt.turns[-1].text.replace("<image>\n", "").split("\n")[0]][number]


def run(made, model):
    """The result, whose metrics come from what is on disk alone."""
    result = made.run(model)
    records, protocol = json.loads(json.dumps([result.records, result.protocol]))
    assert str(NO_INTERVALS.measure(measures(records, protocol))) == str(result.metrics)
    return result


def test_self_consistency_by_hand(tmp_path):
    model = Told(samples=says)
    result = run(task(tmp_path, ASKED, samples=4, temperature=0.7, seed=3), model)
    organ, large, number, where = result.records
    assert (organ["prediction"], organ["votes"]) == ("The answer is B", {"b": 2, "c": 1})
    assert organ["samples"][1] == "I cannot tell."
    assert (large["prediction"], large["votes"]) == ("", {"yes": 2, "no": 2})  # a tie is no guess
    assert (large["scores"]["closed_accuracy"], large["scores"]["unparsed"]) == (0, 1)
    assert number["votes"] == {"5": 2, "7": 2}
    assert (where["prediction"], where["score"]) == ("the left lung", 1)
    scores = values(result)
    assert scores["generated_accuracy"] == 1
    assert scores["generated_accuracy/one_sample"] == 2 / 4
    assert scores["generated_accuracy/minus_one_sample"] == 1 / 2
    assert scores["closed_accuracy/one_sample"] == 2 / 4
    assert scores["closed_accuracy/minus_one_sample"] == -1 / 2
    assert scores["number_accuracy/one_sample"] == 2 / 4
    assert [(n, s.temperature, s.seed) for _, n, s in model.sampled[:4]] == [(n, 0.7, 3) for n in range(4)]
    assert (
        result.protocol["decoding"]
        == "4 samples at temperature 0.7, seed 3; their majority, ties are no answer, at most 64 tokens"
    )
    assert result.protocol["prompting"] == {"samples": 4, "temperature": 0.7, "top_p": 1.0, "seed": 3}
    assert result.protocol["parameters"]["temperature"] == 0.7
    assert "one_sample" in result.protocol["controls"]


def test_the_usual_protocol_leaves_no_mark(tmp_path):
    model = Told()
    result = task(tmp_path, ASKED).run(model)
    assert "prompting" not in result.protocol
    assert not {"examples", "samples", "votes"} & set(result.records[0])
    assert result.protocol["decoding"] == "greedy, at most 64 tokens"
    assert model.sampled == []


def test_reasons_are_asked_for_where_a_text_is_generated(tmp_path):
    train = [sample(10, [choice("Which organ?", "C", rationale="It makes bile."), choice("And this?", "A")])]
    model = Told(lambda prompt: "It breathes.\nThe answer is B. lung", likes=lambda prompt, text: -1.0)
    made = task(tmp_path, ASKED[:1], train, shots=2, chain_of_thought=True, chain_of_thought_prompt="Reasons first.")
    result = run(made, model)
    generated = next(prompt for prompt in model.prompts if prompt.scorer == "generated")
    options = "A. heart\nB. lung\nC. liver"
    assert generated.turns == (
        Turn("user", f"<image>\nWhich organ?\n{options}\nReasons first."),
        Turn("assistant", "It makes bile.\nThe answer is C. liver"),
        Turn("user", f"<image>\nAnd this?\n{options}\nReasons first."),
        Turn("assistant", "The answer is A. heart"),
        Turn("user", f"<image>\nOrgan?\n{options}\nReasons first."),
    )
    assert not any("Reasons" in turn.text for p in model.prompts if "likelihood" in p.scorer for turn in p.turns)
    assert not any("bile" in turn.text for p in model.prompts if "likelihood" in p.scorer for turn in p.turns)
    assert values(result)["generated_accuracy"] == 1
    assert result.protocol["prompting"]["chain_of_thought"] == "Reasons first."
    assert result.protocol["first_prompt"].endswith("Organ?\nA. heart\nB. lung\nC. liver\nReasons first.")


REFINING = {"samples": 3, "temperature": 0.7, "refinements": 5, "chain_of_thought": True}


class Refiner(Told):
    """First samples say B, C, C; refined ones B as often as they see "attempt B", else C. Takes at most so many attempts."""

    attempts = 3

    def sample(self, prompts, numbers, sampling, max_new_tokens):
        for prompt in prompts:
            count = prompt.turns[-1].text.count("\nAttempt ")
            if count > self.attempts:
                raise PromptTooLong("too long")
            if "<|im_end|>" in prompt.turns[-1].text:
                raise BadSample("special_token_in_text")
        self.sampled += list(zip(prompts, numbers, strict=True))
        return [
            ("B" if number < 3 else "C")
            if "Attempt" in prompt.turns[-1].text
            else f"try {number} <image>: {'BCC'[number]}"
            for prompt, number in zip(prompts, numbers, strict=True)
        ]


def test_ensemble_refinement_answers_behind_all_first_samples(tmp_path):
    model = Refiner()
    result = run(task(tmp_path, [sample(0, [choice("Organ?", "B")])], **REFINING), model)
    [record] = result.records
    assert record["reasonings"] == ["try 0 <image>: B", "try 1 <image>: C", "try 2 <image>: C"]
    assert (record["samples"], record["votes"]) == (["B", "B", "B", "C", "C"], {"b": 3, "c": 2})
    assert (record["prediction"], record["score"], record["reasonings_used"]) == ("B", 1, 3)
    assert len(model.sampled) == 3 + 5
    text = model.sampled[-1][0].turns[-1].text
    assert text.startswith("<image>\nOrgan?\nA. heart")
    assert text.count("<image>") == 1  # a response shows no image
    assert "Attempt 1:\ntry 0 : B\n\nAttempt 2:\ntry 1 : C" in text
    assert result.protocol["prompting"]["refinements"] == 5
    assert "5 refinements given these" in result.protocol["decoding"]


@pytest.mark.parametrize(("attempts", "used", "votes"), [(2, 2, {"b": 3, "c": 2}), (0, 0, {"c": 2, "b": 1})])
def test_attempts_that_do_not_fit_are_left_out_and_counted(tmp_path, attempts, used, votes):
    model = Refiner()
    model.attempts = attempts
    result = run(task(tmp_path, [sample(0, [choice("Organ?", "B")])], **REFINING), model)
    assert (result.records[0]["reasonings_used"], result.records[0]["votes"]) == (used, votes)
    assert result.protocol["reasonings_used"] == {str(used): 1}


class Killed(Exception):
    """The process ends."""


def test_a_killed_run_asks_for_no_sample_twice(tmp_path):
    """The log keeps samples by number and seed: what was answered before the end is not asked for again."""
    log = tmp_path / "log"
    made = task(tmp_path, ASKED, samples=4, temperature=0.7)
    whole = made.run(KeptModel(Told(samples=says), ResponseLog(None, {})))
    calls = []

    def dying(prompt, number):
        calls.append((prompt.turns[-1].text, number))
        if len(calls) == 11:
            raise Killed
        return says(prompt, number)

    with pytest.raises(Killed):
        replace(made, batch_size=2).run(KeptModel(Told(samples=dying), ResponseLog(log, {})))
    rest = Told(samples=says)
    resumed = replace(made, batch_size=2).run(KeptModel(rest, ResponseLog(log, {})))
    assert repr(resumed) == repr(whole)
    assert len(rest.sampled) == 16 - 10
    again = Told(samples=says)
    replace(made, batch_size=2).run(KeptModel(again, ResponseLog(log, {})))
    assert again.sampled == []
    other = replace(made, prompting=replace(made.prompting, config=replace(made.prompting.config, seed=1)))
    other.run(KeptModel(again, ResponseLog(log, {})))
    assert len(again.sampled) == 16  # another seed, other samples
