"""Exams: the prompt of each scorer, several right options, numbers and sets, the image left out; by what a fake model says."""

import json

import pytest

from medvlp.config import ConfigError, load_task
from medvlp.config.tasks import VqaConfig
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.errors import TaskError
from medvlp.eval.statistics.cell import record_statistics
from medvlp.eval.statistics.measures import measures
from medvlp.eval.vqa.questions import QuestionFilter, question_of
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import BadSample, Conversation, Turn
from medvlp.wording.questions import ChoicePrompts
from tests.eval.vqa.test_task import NO_INTERVALS, assistant_model, dataset, encoder, sample, values  # noqa: F401

LUNGS = {"A": "Normal", "B": "Fracture", "C": "Bronchiectasis"}
ALL_SCORERS = ("letter_likelihood", "text_likelihood", "generated", "most_similar")
PROMPTS = {
    "letter_likelihood": "{question}\n{options}\nWhich letter?",
    "text_likelihood": "Question: {question} The answer is",
    "generated": "{question}\n{options}\nLetter.",
    "most_similar": "{question} {candidates} Text.",
}


def exam(letters, options=LUNGS):
    """A question of multiple choice. letters: the right one, or a list of them."""
    target = ", ".join(options[letter] for letter in ([letters] if isinstance(letters, str) else letters))
    key = "answer_letter" if isinstance(letters, str) else "answer_letters"
    return ("What is seen?", target, "multiple_choice", {"options": options, key: letters})


def run(tmp_path, encoder, samples, says, likes=None, question_filter=None, **settings):  # noqa: F811
    """The result, and the model."""
    model = assistant_model(encoder, says, likes)
    settings = {"controls": (), "bootstrap": NO_INTERVALS} | settings
    task = Vqa("exam", dataset(tmp_path, samples), question_filter or QuestionFilter(), **settings)
    result = task.run(model)
    records, protocol = json.loads(json.dumps([result.records, result.protocol]))
    assert str(NO_INTERVALS.measure(measures(records, protocol))) == str(result.metrics)  # from what is on disk alone
    return result, model


def test_every_scorer_asks_in_its_own_words(tmp_path, encoder):  # noqa: F811
    asked = set()

    def says(question, number):
        asked.add(question)
        return "B" if question.endswith("Letter.") else "bronchiectatic"

    def likes(question, text, number):
        asked.add(question)
        return -float(len(text)) if "The answer is" in question else {"A": -1.0, "B": -2.0, "C": -0.5}[text]

    choice = ChoicePrompts(ALL_SCORERS, PROMPTS, "({letter}) {text}")
    result, _ = run(tmp_path, encoder, [sample(0, [exam("C")])], says, likes, QuestionFilter(choice=choice))
    listed = "(A) Normal\n(B) Fracture\n(C) Bronchiectasis"
    assert asked == {
        f"What is seen?\n{listed}\nWhich letter?",
        "Question: What is seen? The answer is",
        f"What is seen?\n{listed}\nLetter.",
        "What is seen? Normal; Fracture; Bronchiectasis Text.",
    }
    [record] = result.records
    assert record["picks"]["letter_likelihood"] == "C"
    assert record["picks"]["generated"] == "B"
    assert record["picks"]["most_similar"] == "C"
    assert (record["prediction"], record["similar_prediction"]) == ("B", "bronchiectatic")
    assert values(result)["generated_accuracy"] == 0
    assert values(result)["most_similar_accuracy"] == 1
    assert (
        result.protocol["choice_prompts"]["most_similar"]
        == "<image>\nWhat is seen? Normal; Fracture; Bronchiectasis Text."
    )


def test_a_letter_is_not_compared_with_texts(tmp_path, encoder):  # noqa: F811
    choice = ChoicePrompts(("generated", "most_similar"), {"most_similar": PROMPTS["most_similar"]})
    result, model = run(
        tmp_path, encoder, [sample(0, [exam("B")])], lambda *_: "B", question_filter=QuestionFilter(choice=choice)
    )
    scores = values(result)
    assert (scores["generated_accuracy"], scores["most_similar_accuracy"]) == (1, 0)
    assert result.records[0]["picks"] == {"generated": "B", "most_similar": None}
    assert len(model.generator.asked) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scorers": ["most_similar"]}, "choice_prompts.most_similar is missing: the scorer compares texts"),
        (
            {
                "scorers": ["most_similar"],
                "choice_prompts": {"most_similar": "{question}\n{options}\nGive the letter."},
            },
            "asks for a letter .*'B' would resemble 'Bronchiectasis'",
        ),
        (
            {
                "instruction": "Answer with the letter of one option.",
                "scorers": ["generated", "most_similar"],
                "choice_prompts": {"most_similar": "{question}\n{candidates}\n{instruction}"},
            },
            "asks for a letter",
        ),
        ({"choice_prompts": {"most_similar": "{question} {candidates}"}}, "most_similar, which is not among scorers="),
        (
            {"choice_prompts": {"letter_likelihood": "{question}"}},
            "a letter means nothing where {options} are not listed",
        ),
        ({"choice_prompts": {"generated": "{questions}"}}, "has {questions}; expected only {question}, {options}"),
        ({"choice_prompts": {"generated": "Which?"}}, "expected {question} in it"),
        ({"option_line": "{text}"}, "expected {letter} and {text} in it"),
        ({"scorers": ["letters"]}, "scorers='letters' is not a choice"),
        ({"scorers": []}, r"scorers=\[\], expected some of"),
        (
            {"instructions": {"a": "x", "b": "y"}, "choice_prompts": {"generated": "{question}"}},
            "choice_prompts.generated has no {instruction} for them",
        ),
    ],
)
def test_prompts_that_do_not_fit_their_scorer_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        VqaConfig(name="exam", data="x", **options).check()


@pytest.mark.parametrize("name", ["omnimedvqa", "pmc_vqa"])
def test_the_shipped_exams_ask_each_scorer_for_what_it_reads(name):
    config = load_task(name)
    config.check()
    prompts = ChoicePrompts(tuple(config.scorers), config.choice_prompts, config.option_line).texts(
        "<image>\nQ?", LUNGS, ""
    )
    assert all(prompt.startswith("<image>\n") and "Q?" in prompt for prompt in prompts.values())
    assert "letter" in prompts["generated"]
    assert ("most_similar" in prompts) == (name == "omnimedvqa")
    assert not {"letter", "C."} & set(prompts.get("most_similar", "").split())
    assert prompts["text_likelihood"] == "<image>\nQuestion: Q? The answer is"


def test_several_right_options_by_hand(tmp_path, encoder):  # noqa: F811
    samples = [
        sample(0, [exam(["A", "C"])]),
        sample(1, [exam(["A", "B"])]),
        sample(2, [exam(["B", "C"])]),
        sample(3, [exam("B")]),
    ]
    says = {1: "A, C", 2: "A", 3: "A and C", 4: "B"}
    result, _ = run(
        tmp_path, encoder, samples, lambda _, number: says[number], lambda *_: -1.0, controls=("best_constant",)
    )
    scores, counts = values(result), {metric.name: metric.n for metric in result.metrics}
    assert scores["generated_accuracy"] == 2 / 4
    assert scores["generated_partial_credit"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert (counts["generated_accuracy"], counts["generated_partial_credit"]) == (4, 3)
    assert counts["letter_likelihood_accuracy"] == 1  # a likelihood picks one option
    assert scores["generated_partial_credit/best_constant"] == pytest.approx(
        (0 + 1 + 0) / 3
    )  # A, B: of equals the first
    assert [record["letter"] for record in result.records] == ["A, C", "A, B", "B, C", "B"]
    assert result.records[0]["picks"] == {"generated": "A, C"}
    assert result.protocol["several_right"].startswith("3 questions")


@pytest.mark.parametrize(
    "metadata",
    [
        {"options": LUNGS, "answer_letters": ["A", "Z"]},
        {"options": LUNGS, "answer_letters": []},
        {"options": {"A": "x"}, "answer_letter": "A"},
        {"options": {"A": "x", "B": " "}, "answer_letter": "A"},
    ],
)
def test_options_that_hold_no_right_one_are_excluded(metadata):
    turns = [Turn("user", "?"), Turn("assistant", "x")]
    with pytest.raises(BadSample, match="no_options"):
        question_of("x", Conversation(turns, "1", {"answer_type": "multiple_choice", **metadata}), QuestionFilter())


def test_any_number_of_options_and_no_image(tmp_path, encoder):  # noqa: F811
    many = {str(number): f"finding {number}" for number in range(1, 31)}
    samples = [sample(0, [exam("17", many)], images=0), sample(1, [exam("3", many)], images=2)]
    result, _ = run(tmp_path, encoder, samples, lambda *_: "The answer is 17.", lambda _, text, __: -float(text == "3"))
    assert values(result)["generated_accuracy"] == 1 / 2
    assert [record["images"] for record in result.records] == [0, 2]
    assert len(result.records[0]["letter_logprob"]) == 30


def test_the_image_left_out_is_a_condition_of_its_own(tmp_path, encoder):  # noqa: F811
    samples = [sample(number, [exam("B")]) for number in range(3)]

    def says(question, number):
        assert "<image>" not in question
        return "A" if number is None else "B"

    controls = ("best_constant", "no_image")
    result, model = run(
        tmp_path, encoder, samples, says, lambda _, text, n: -float(n is None and text == "B"), controls=controls
    )
    scores = values(result)
    assert (scores["generated_accuracy"], scores["generated_accuracy/no_image"]) == (1, 0)
    assert scores["generated_accuracy/minus_no_image"] == 1
    assert result.records[0]["controls"] == {"no_image": "A"}
    assert result.protocol["controls"]["no_image"].startswith("every image left out")

    def refuses(turns, option_turns, images, options, max_new_tokens):
        if not images:
            raise BadSample("no_image")
        return True

    object.__setattr__(model, "fits", refuses)
    task = Vqa("exam", dataset(tmp_path / "again", samples), controls=controls, bootstrap=NO_INTERVALS)
    skipped = task.run(model).protocol["controls"]["skipped"]
    assert skipped == "no_image: the model takes no prompt without an image (no_image)"


def test_likelihoods_alone_need_no_reply(tmp_path, encoder):  # noqa: F811
    choice = ChoicePrompts(("letter_likelihood",))
    config = VqaConfig(name="x", data="y", answer_types=["multiple_choice"], scorers=["letter_likelihood"])
    assert Vqa.needs(config) == ("loglikelihood",)
    assert Vqa.needs(VqaConfig(name="x", data="y", scorers=["letter_likelihood"])) == ("generate",)
    result, model = run(
        tmp_path,
        encoder,
        [sample(0, [exam("C")])],
        None,
        lambda _, text, __: -float(text != "C"),
        QuestionFilter(choice=choice),
    )
    assert model.generator.asked == []
    assert values(result) == {"letter_likelihood_accuracy": 1}
    [record] = result.records
    assert (record["prediction"], record["score"], "extraction" in record) == ("C. Bronchiectasis", 1, False)
    assert record_statistics(result.records, result.protocol, Bootstrap(resamples=0)).calibration


def test_numbers_and_sets_by_hand(tmp_path, encoder):  # noqa: F811
    number = {"number_type": "decimal", "lower": 24.0, "upper": 26.6}
    samples = [
        sample(0, [("BMI?", "25.3", "number", number)]),
        sample(1, [("BMI?", "25.3", "number", number)]),
        sample(2, [("When?", "03/14/2021", "number", {"number_type": "date"})]),
        sample(3, [("What is seen?", "effusion, nodule", "set", {"answer_set": ["effusion", "nodule"]})]),
        sample(4, [("What is seen?", "none", "set", {"answer_set": []})]),
        sample(5, [("What is seen?", "none", "set", {})]),
        sample(6, [("BMI?", "much", "number", {})]),
    ]
    says = {
        1: "BMI = 70 / 1.7² = 24.2 kg/m²",
        2: "It was not stated.",
        3: "March 14, 2021",
        4: "Nodule and mass",
        5: "None",
    }
    result, _ = run(tmp_path, encoder, samples, lambda _, n: says[n], controls=("best_constant",))
    scores, counts = values(result), {metric.name: metric.n for metric in result.metrics}
    assert scores["number_accuracy"] == pytest.approx(2 / 3)
    assert scores["number_accuracy/best_constant"] == pytest.approx(2 / 3)  # 24, of the two alike
    assert (scores["set_f1"], scores["set_exact_match"]) == (pytest.approx((1 / 2 + 1) / 2), 1 / 2)
    assert scores["unparsed"] == pytest.approx(1 / 5)
    assert (counts["number_accuracy"], counts["set_f1"], counts["unparsed"]) == (3, 2, 5)
    assert result.protocol["excluded"] == {"bad_number": 1, "bad_set": 1}
    records = {record["id"].split("__")[1]: record for record in result.records}
    assert (records["0"]["bounds"], records["0"]["score"]) == ([24.0, 26.6], 1)
    assert (records["3"]["items"], records["3"]["score"]) == (["effusion", "nodule"], 1 / 2)
    assert "open_bleu" not in scores


def test_a_rationale_with_a_no_scores_right_and_refusals_are_counted(tmp_path, encoder):  # noqa: F811
    samples = [sample(number, [("Is the film normal?", "yes", "closed", {})]) for number in range(3)]
    says = {
        1: "There is no effusion and no mass. The answer: yes",
        2: "Yes. There is no fracture.",
        3: "I'm sorry, I can't help with that.",
    }
    result, _ = run(tmp_path, encoder, samples, lambda _, number: says[number])
    scores = values(result)
    assert scores["closed_accuracy"] == pytest.approx(2 / 3)
    assert (scores["unparsed"], scores["refused"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert scores["llava_med/run_eval_batch/closed"] == pytest.approx(2 / 3)  # of the whole replies, as published
    assert [record["extraction"]["rule"] for record in result.records] == ["label", "leading word", "refusal"]
    span = result.records[0]["extraction"]["span"]
    assert result.records[0]["prediction"][slice(*span)] == "yes"


def test_nothing_left_to_ask_names_the_reason(tmp_path, encoder):  # noqa: F811
    with pytest.raises(TaskError, match="bad_number"):
        run(tmp_path, encoder, [sample(0, [("BMI?", "much", "number", {})])], lambda *_: "1")
