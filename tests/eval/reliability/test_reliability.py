"""Other orders of the options, none of the above, and pairs: by what fake models say, worked out by hand."""

import re
from dataclasses import replace

import pytest

from medvlp.eval.reliability.errors import NotVaried
from medvlp.eval.reliability.options import none_of_the_above, rotated
from medvlp.eval.reliability.pairs import pair_columns, pair_notes
from medvlp.eval.vqa.questions import QuestionFilter, QuestionGroup, question_of, with_prompts
from medvlp.eval.vqa.responses import responses_to
from medvlp.shards import BadSample, Conversation, Turn
from medvlp.wording.questions import ChoicePrompts
from tests.eval.prompting.worlds import Told
from tests.eval.vqa.test_exams import LUNGS, exam, run
from tests.eval.vqa.test_task import encoder, sample, values  # noqa: F401

CONTROLS = ("rotated_options", "none_of_the_above")


def choice(letters, options=LUNGS):
    """The question as a task has it."""
    text, target, kind, metadata = exam(letters, options)
    turns = [Turn("user", f"<image>\n{text}"), Turn("assistant", target)]
    return question_of("x", Conversation(turns, "1", {"answer_type": kind, **metadata}), QuestionFilter())


def letter_of(prompt, text):
    """The letter that a prompt gives a text."""
    match = re.search(rf"^(\w)\. {re.escape(text)}$", prompt, re.MULTILINE)
    return match[1] if match else "A"


@pytest.mark.parametrize("shift", range(4))
def test_texts_move_and_the_right_one_with_them(shift):
    question = choice("B")
    turned = with_prompts(rotated(question, shift), QuestionFilter())
    assert list(turned.options) == ["A", "B", "C"]
    assert sorted(turned.options.values()) == sorted(LUNGS.values())
    assert [turned.options[letter] for letter in turned.letters] == ["Fracture"]
    assert turned.options["ABC"[shift % 3]] == "Normal"
    listed = "\n".join(f"{letter}. {text}" for letter, text in turned.options.items())
    assert turned.turns[-1].text == f"<image>\nWhat is seen?\n{listed}"
    several = rotated(choice(["A", "C"]), shift)
    assert {several.options[letter] for letter in several.letters} == {"Normal", "Bronchiectasis"}
    assert list(several.letters) == sorted(several.letters)


def test_all_orders_ask_the_same_of_a_prompt_that_shows_no_options():
    """So that the likelihoods are computed, and kept, once."""
    question_filter = QuestionFilter(choice=ChoicePrompts(("text_likelihood",), {"text_likelihood": "{question}"}))
    model = Told(likes=lambda prompt, text: -float(len(text)))
    asked = []
    model.loglikelihood = lambda prompts, answers: (
        asked.append((prompts, answers)) or Told.loglikelihood(model, prompts, answers)
    )
    for shift in range(3):
        turned = with_prompts(rotated(choice("B"), shift), question_filter)
        group = QuestionGroup(0, "x", "x", "", 1, (turned,), {}, 0)
        (response,) = responses_to(model, [(group, ["pixels"])], 8)
        assert response.options == {letter: (-len(text), len(text)) for letter, text in turned.options.items()}
    asked_about = [(prompts[0].turns[-1].text, list(answers[0])) for prompts, answers in asked]
    assert asked_about == [("<image>\nWhat is seen?", sorted(LUNGS.values()))] * 3


def test_none_of_the_above_is_right_then():
    question = with_prompts(none_of_the_above(choice("B")), QuestionFilter())
    assert question.options == {"A": "Normal", "B": "None of the above", "C": "Bronchiectasis"}
    assert (question.letters, question.target) == (("B",), "None of the above")
    assert "B. None of the above" in question.turns[-1].text
    with pytest.raises(NotVaried, match="several options are right"):
        none_of_the_above(choice(["A", "B"]))


@pytest.mark.parametrize(
    ("text", "speaks", "names"),
    [
        ("All of the above", True, False),
        ("none of these.", True, False),
        ("None", True, False),
        ("Both A and B", True, True),
        ("(A), (C)", True, True),
        ("A and C only", True, True),
        ("only B", True, True),
        ("以上都不是", True, False),
        ("모두 정답", True, False),
        ("Ninguna de las anteriores", True, False),
        ("Hepatitis A and hepatitis B", False, False),
        ("Both lungs", False, False),
        ("B", False, False),
        ("Type A", False, False),
        ("Bullous disease", False, False),
    ],
)
def test_options_that_speak_of_the_others(text, speaks, names):
    question = choice("A", {"A": "x", "B": "y", "C": text})
    if speaks:
        with pytest.raises(NotVaried, match="speaks of the others"):
            none_of_the_above(question)
    else:
        assert none_of_the_above(question).options["C"] == text
    if names:
        with pytest.raises(NotVaried, match="by their labels"):
            rotated(question, 1)
    else:
        assert rotated(question, 1).options["A"] == text


def test_none_of_the_above_is_english():
    question = replace(choice("B"), language="zh")
    with pytest.raises(NotVaried, match="not in English"):
        none_of_the_above(question)


def test_what_is_not_asked_in_every_order_is_counted(tmp_path, encoder, monkeypatch):  # noqa: F811
    naming = {"A": "Normal", "B": "Fracture", "C": "Both A and B"}
    samples = [sample(0, [exam("A")]), sample(1, [exam("A", naming)]), sample(2, [exam("B", {"A": "x", "B": "lost"})])]

    def refuse(question, images, question_filter, model):
        if question.options.get("A") == "lost":
            raise BadSample("too_long")

    monkeypatch.setattr("medvlp.eval.reliability.variants.check_prompt", refuse)
    result, _ = run(tmp_path, encoder, samples, lambda *_: "A", lambda *_: -1.0, controls=("rotated_options",))
    notes = result.protocol["controls"]["questions"]["rotated_options"]
    not_asked = {"an option names others by their labels": 1, "an order could not be asked": 1}
    assert notes == {"asked": 1, "not_asked": not_asked}
    counts = {metric.name: metric.n for metric in result.metrics}
    assert (counts["generated_accuracy"], counts["generated_accuracy/rotated_options"]) == (3, 1)
    assert counts["generated_consistency"] == 1


def test_a_model_that_likes_a_letter_is_found_out(tmp_path, encoder):  # noqa: F811
    samples = [sample(number, [exam("A")]) for number in range(3)]
    result, model = run(
        tmp_path, encoder, samples, lambda *_: "A", lambda _, text, __: -float(text != "A"), controls=CONTROLS
    )
    scores = values(result)
    assert scores["generated_accuracy"] == scores["letter_likelihood_accuracy"] == 1
    assert scores["generated_accuracy/rotated_options"] == pytest.approx(1 / 3)
    assert scores["generated_accuracy/minus_rotated_options"] == pytest.approx(2 / 3)
    assert scores["letter_likelihood_accuracy/rotated_options"] == pytest.approx(1 / 3)
    assert (scores["generated_consistency"], scores["letter_likelihood_consistency"]) == (0, 0)
    assert scores["generated_accuracy/none_of_the_above"] == 1  # the letter is still the right one
    assert len(model.generator.asked) == 3 * (1 + 2 + 1)
    assert {number for _, number in model.generator.asked} == {1, 2, 3}  # each with its own image
    assert set(result.protocol["controls"]) >= set(CONTROLS)


def test_a_model_that_reads_the_options_is_consistent(tmp_path, encoder):  # noqa: F811
    two = {"A": "yes", "B": "no"}
    samples = [sample(0, [exam("C")]), sample(1, [exam("B", two)]), sample(2, [("Is it?", "yes", "closed", {})])]

    def says(question, number):
        return "yes" if number == 3 else letter_of(question, "Bronchiectasis" if number == 1 else "no")

    result, _ = run(tmp_path, encoder, samples, says, lambda *_: -1.0, controls=CONTROLS)
    scores, counts = values(result), {metric.name: metric.n for metric in result.metrics}
    assert (scores["generated_accuracy/rotated_options"], scores["generated_consistency"]) == (1, 1)
    assert scores["generated_accuracy/none_of_the_above"] == 0  # it says A where its text is not listed
    assert counts["generated_accuracy/none_of_the_above"] == counts["generated_consistency"] == 2
    assert scores["letter_likelihood_consistency"] == 0  # ties pick nothing
    assert "closed_accuracy/rotated_options" not in scores


def item(pair, score, pick=None, options=None):
    """A record of one item of a pair."""
    fields = {} if pair is None else {"pair_id": pair}
    choice_fields = {"options": options, "picks": {"letter_likelihood": "X", "generated": pick}} if options else {}
    return {"fields": fields, "score": score, **choice_fields}


def test_pairs_by_hand():
    records = [
        item("p", 1), item("q", 1), item("p", 1), item("q", 0), item(None, 1), item("alone", 1),
        item(3, 1, "A", LUNGS), item(3, 0, "A", LUNGS), item("4", 0, None, LUNGS), item("4", 0, None, LUNGS),
        item("5", 1, "A", LUNGS), item("5", 1, "B", LUNGS), item("6", 1, "A", LUNGS), item("6", 1, "A", {"A": "x", "B": "y"}),
    ]  # fmt: skip
    columns = pair_columns(records)
    nothing = None
    assert columns["pair_accuracy"] == [1, 0, *[nothing] * 4, 0, nothing, 0, nothing, 1, nothing, 1, nothing]
    assert columns["pair_confusion"] == [*[nothing] * 6, 1, nothing, nothing, nothing, 0, nothing, nothing, nothing]
    assert pair_columns([item(None, 1), item("a", 1)]) == {}


def test_pairs_of_a_task(tmp_path, encoder):  # noqa: F811
    pairs = [("Is it large?", "yes", {"pair_id": "1"}), ("Is it small?", "no", {"pair_id": "1"})]
    samples = [sample(n, [(text, answer, "closed", more) for text, answer, more in pairs]) for n in range(2)]
    for number, of_sample in enumerate(samples):
        for conversation in of_sample.conversations:
            conversation.metadata["pair_id"] = f"pair {number}"
    result, _ = run(tmp_path, encoder, samples, lambda question, n: "no" if n == 2 or "small" in question else "yes")
    assert values(result)["pair_accuracy"] == 1 / 2
    assert {metric.name: metric.n for metric in result.metrics}["pair_accuracy"] == 2
    assert result.protocol["pairs"] == {"pairs": 2, "items_without_partner": 0}
    assert pair_notes([item("p", 1), item("p", 1), item("q", 1), item(None, 1)]) == {
        "pairs": {"pairs": 1, "items_without_partner": 1}
    }


def test_a_group_that_has_lost_an_item_is_no_pair(tmp_path, encoder):  # noqa: F811
    """Of three items of one sample one has no answer that can be scored; of three of another all have."""
    samples = [
        sample(
            n,
            [
                (text, "yes", kind, {"pair_id": f"set {n}"})
                for text, kind in [("Is it?", "closed"), ("Was it?", "closed"), ("Will it?", third)]
            ],
        )
        for n, third in enumerate(["closed", "number"])
    ]
    result, _ = run(tmp_path, encoder, samples, lambda question, n: "yes")
    assert result.protocol["pairs"] == {"pairs": 1, "items_without_partner": 0, "pairs_with_lost_items": 1}
    assert {metric.name: metric.n for metric in result.metrics}["pair_accuracy"] == 1
    assert [record.get("partner_lost", False) for record in result.records] == [False] * 3 + [True] * 2
