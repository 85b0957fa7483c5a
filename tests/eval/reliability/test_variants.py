"""Questions in another way: names of drugs, framings, noise; what they ask by hand, and what a model that gives way scores."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from medvlp.config.evaluation.controls import BIAS_CONTROLS, CONTROLS, VARIANT_CONTROLS
from medvlp.eval.reliability.drug_names import DrugNames, drug_names
from medvlp.eval.reliability.errors import NotVaried
from medvlp.eval.reliability.framings import FRAMINGS, framed, suggestion
from medvlp.eval.reliability.variants import VARIANT_NOTES, VARIANTS
from medvlp.eval.vqa.controls import CELLS, noise
from medvlp.eval.vqa.questions import QuestionFilter, question_of, with_prompts
from medvlp.eval.vqa.task import NOTES
from medvlp.shards import Conversation, Turn
from tests.eval.vqa.test_exams import LUNGS, exam, run
from tests.eval.vqa.test_task import encoder, sample, values  # noqa: F401

DRUGS = {"A": "Warfarin", "B": "Aspirin", "C": "apixaban and WARFARIN"}


def asked(text, target, kind="open", name="x", **metadata):
    """A question as a task has it, with an instruction."""
    turns = [Turn("user", f"<image>\n{text}"), Turn("assistant", target)]
    conversation = Conversation(turns, "1", {"answer_type": kind, **metadata})
    return question_of(name, conversation, QuestionFilter("Be brief."))


def test_every_control_has_words_and_a_way():
    assert set(NOTES) == set(CONTROLS)
    assert set(VARIANT_NOTES) == set(VARIANT_CONTROLS) == {*VARIANTS, "rotated_options"}


def test_the_list_of_drugs_goes_both_ways():
    brands, generics = drug_names()
    assert len(brands.names) > 200
    assert not brands.names.keys() & generics.names.keys()
    for generic, brand in brands.names.items():
        assert generics.names[brand.lower()] == generic
        assert brands.replace_in(generic) == brand.lower()
        assert generics.replace_in(brands.replace_in(generic)) == generic
    assert {generics.names[name] for name in generics.names} == set(brands.names)


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("Warfarin, warfarin and WARFARIN.", "Coumadin, coumadin and COUMADIN."),
        ("He takes warfarin's successor (apixaban).", "He takes coumadin's successor (eliquis)."),
        ("S-warfarin, warfarin-induced, warfarin/aspirin, warfarins", None),  # compounds and parts of words stay
        ("Coumadin, a brand", None),
        ("METOPROLOL", "LOPRESSOR"),
    ],
)
def test_names_in_texts(text, replaced):
    assert drug_names()[0].replace_in(text) == (replaced or text)


def test_the_longest_name_is_replaced():
    names = DrugNames({"metoprolol": "short", "metoprolol succinate": "long", "warfarin": "w"})
    assert names.replace_in("Metoprolol succinate, metoprolol") == "Long, short"


def test_questions_about_drugs():
    brands = drug_names()[0]
    question = with_prompts(
        brands.put(asked("Stop warfarin?", DRUGS["A"], "multiple_choice", options=DRUGS, answer_letter="A")),
        QuestionFilter("Be brief."),
    )
    assert question.options == {"A": "Coumadin", "B": "Aspirin", "C": "eliquis and COUMADIN"}
    assert (question.letters, question.target, question.text) == (("A",), "Coumadin", "Stop coumadin?")
    assert question.prompts["generated"][-1].text == (
        "<image>\nStop coumadin?\nA. Coumadin\nB. Aspirin\nC. eliquis and COUMADIN\nBe brief."
    )
    free = with_prompts(
        brands.put(asked("Instead of warfarin?", "Apixaban", answers=["a DOAC"])), QuestionFilter("Be brief.")
    )
    assert free.turns[-1].text == "<image>\nInstead of coumadin?\nBe brief."
    assert free.answers == ("Eliquis", "a DOAC", "Apixaban")
    for text, target, kind, more, reason in [
        ("Which drug?", "Warfarin", "open", {}, "no drug of the list"),  # the answer alone is no question
        ("Warfarin?", "x", "multiple_choice", {"options": {"A": "Warfarin", "B": "Coumadin"}, "answer_letter": "A"}, "equal"),
        ("Other than warfarin?", "digoxin", "set", {"answer_set": ["digoxin"]}, "items are drugs"),
    ]:  # fmt: skip
        with pytest.raises(NotVaried, match=reason):
            brands.put(asked(text, target, kind, **more))


@pytest.mark.parametrize("control", BIAS_CONTROLS)
def test_framings_suggest_a_wrong_answer(control):
    sentence = FRAMINGS[control]
    assert sentence.count("{suggestion}") == 1
    closed = with_prompts(framed(control, asked("Is it?", "Yes", "closed")), QuestionFilter("Be brief."))
    assert closed.turns[-1].text == f"<image>\nIs it?\n{sentence.replace('{suggestion}', 'no')}\nBe brief."
    assert (closed.text, closed.target) == ("Is it?", "Yes")
    several = asked("What?", "Normal, Fracture", "multiple_choice", options=LUNGS, answer_letters=["A", "B"])
    put = with_prompts(framed(control, several), QuestionFilter())
    assert put.prompts["letter_likelihood"][-1].text.startswith(f"<image>\nWhat?\n{sentence[:20]}")
    assert '"Bronchiectasis"' in put.prompts["text_likelihood"][-1].text
    assert put.options == LUNGS
    for question, reason in [
        (asked("Where?", "left"), "no wrong answer"),
        (asked("左か右か", "左", "closed"), "no wrong answer"),
        (asked("¿Sí?", "yes", "closed", language="es"), "not in English"),
    ]:
        with pytest.raises(NotVaried, match=reason):
            framed(control, question)


def test_suggestions_are_spread_and_stay():
    questions = [
        asked("?", "Normal", "multiple_choice", name=f"q{n}", options=LUNGS, answer_letter="A") for n in range(60)
    ]
    letters = [suggestion(question) for question in questions]
    assert letters == [suggestion(question) for question in questions]
    assert set(letters) == {"B", "C"}
    assert 15 < letters.count("B") < 45


def test_a_model_that_gives_way_is_found_out(tmp_path, encoder):  # noqa: F811
    closed = ("Is it large?", "yes", "closed", {})
    samples = [sample(0, [exam("A"), closed]), sample(1, [exam("B"), ("Where?", "left", "open", {})])]

    def says(prompt, number):
        hint = re.search(r'colleagues are convinced that the answer is "(.*)"', prompt)
        if hint and "A. Normal" in prompt:
            return next(letter for letter, text in LUNGS.items() if text == hint[1])
        return hint[1] if hint else {"What": "AB"[number - 1], "Is i": "yes", "Wher": "left"}[prompt[:4]]

    controls = ("recency_bias", "false_consensus_bias")
    result, model = run(tmp_path, encoder, samples, says, lambda *_: -1.0, controls=controls)
    scores, counts = values(result), {metric.name: metric.n for metric in result.metrics}
    assert (scores["generated_accuracy"], scores["generated_accuracy/recency_bias"]) == (1, 1)
    assert scores["generated_accuracy/minus_false_consensus_bias"] == 1
    assert scores["closed_accuracy/minus_false_consensus_bias"] == 1
    assert (scores["generated_suggested"], scores["closed_suggested"]) == (0, 0)
    assert scores["generated_suggested/false_consensus_bias"] == scores["closed_suggested/false_consensus_bias"] == 1
    assert counts["generated_accuracy/recency_bias"] == 2
    assert "open_token_recall/recency_bias" not in scores
    assert result.protocol["controls"]["questions"]["recency_bias"] == {
        "asked": 3, "not_asked": {"no wrong answer is known": 1},
    }  # fmt: skip
    for record in result.records:
        assert ("suggested" in record) == (record["answer_type"] != "open")
        assert record["controls"].get("false_consensus_bias") == record.get("suggested")
        assert "suggested" not in record or record["suggested"] not in (record["target"], record.get("letter"))
    assert {number for _, number in model.generator.asked} == {1, 2}  # each with its own image


def test_drugs_of_a_task_are_scored_where_they_are_named(tmp_path, encoder):  # noqa: F811
    samples = [
        sample(0, [exam("A", {"A": "Warfarin", "B": "Aspirin"}), exam("A")]),
        sample(1, [("Is Coumadin safe?", "no", "closed", {}), ("Is it warfarin?", "no", "closed", {})]),
    ]

    def says(prompt, number):
        return "B" if "Coumadin" in prompt and "B. " in prompt else "A" if "A. " in prompt else "no"

    controls = ("brand_names", "generic_names")
    result, _ = run(tmp_path, encoder, samples, says, lambda *_: -1.0, controls=controls)
    scores, counts = values(result), {metric.name: metric.n for metric in result.metrics}
    assert (scores["generated_accuracy"], counts["generated_accuracy"]) == (1, 2)
    assert (scores["generated_accuracy/brand_names"], counts["generated_accuracy/brand_names"]) == (0, 1)
    assert (scores["generated_accuracy/minus_brand_names"], counts["closed_accuracy/minus_brand_names"]) == (1, 1)
    assert "generated_accuracy/generic_names" not in scores
    assert counts["closed_accuracy/generic_names"] == 1
    notes = result.protocol["controls"]
    assert notes["questions"]["brand_names"] == {"asked": 2, "not_asked": {"no drug of the list is named": 2}}
    assert notes["drug_names"]["brand_names"] == {"warfarin": 2}
    assert notes["drug_names"]["generic_names"] == {"coumadin": 1}


def test_refusals_are_counted_in_every_condition(tmp_path, encoder):  # noqa: F811
    samples = [sample(number, [("Is it large?", "yes", "closed", {})]) for number in range(2)]

    def says(prompt, number):
        return "yes" if number else "I cannot see any image."

    controls = ("blank_image", "shuffled_images", "no_image", "noise_image")
    result, model = run(tmp_path, encoder, samples, says, controls=controls)
    scores = values(result)
    assert scores["refused"] == scores["refused/shuffled_images"] == 0
    assert scores["refused/blank_image"] == 1
    assert scores["refused/minus_blank_image"] == -1
    assert scores["closed_accuracy/noise_image"] == scores["closed_accuracy"] == 1
    assert result.records[0]["controls"]["noise_image"] == "yes"
    assert len(model.generator.asked) == 2 * 5


def test_noise_is_of_the_images_size_and_drawn_by_name():
    data = noise((100, 50), "a")
    image = Image.open(io.BytesIO(data))
    assert (image.size, image.mode) == ((50, 100), "RGB")
    assert data == noise((100, 50), "a") != noise((100, 50), "b")
    large = np.array(Image.open(io.BytesIO(noise((CELLS * 3, CELLS * 3), "c"))))
    assert (large[::3, ::3] == large[2::3, 1::3]).all()  # cells of 3 × 3
    small = np.array(Image.open(io.BytesIO(noise((CELLS * 3, CELLS * 3), "c"))).resize((CELLS, CELLS), Image.BOX))
    assert small.std() > 60  # a tower that resizes still sees noise
