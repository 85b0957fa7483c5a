"""Options that short replies pick: tables, and what several right options need."""

import pytest

from medvlp.eval.answers import extract_choice

OPTIONS = {"A": "pneumonia", "B": "no fracture", "C": "left lung", "D": "lung"}


def picked(reply, options):
    """The one label, or None."""
    answer = extract_choice(reply, options).answer
    return answer if answer is None else answer[0]


@pytest.mark.parametrize(
    ("generated", "expected"),
    [
        # a letter alone
        ("A", "A"),
        ("b", "B"),
        ("(B)", "B"),
        (" B.\n", "B"),
        ("**C**", "C"),
        ("Ｂ", "B"),
        ("E", None),
        # an option's text
        ("pneumonia", "A"),
        ("No fracture.", "B"),
        ("A pneumonia", "A"),
        ("the lung", "D"),
        # a letter set off
        ("B) no fracture", "B"),
        ("(B) no fracture", "B"),
        ("B: no fracture", "B"),
        ("B:no fracture", "B"),
        ("B：no fracture", "B"),
        ("**B** no", "B"),
        ("B - because the bone is whole", "B"),
        ("B. because the bone is whole", "B"),
        ("a.m. dose", None),
        ("B-cell lymphoma", None),
        # after a cue
        ("The answer is B", "B"),
        ("the answer is b.", "B"),
        ("Answer: (B)", "B"),
        ("**Answer:** B", "B"),
        ("The correct option is B.", "B"),
        ("I choose option B since", "B"),
        ("The answer is A because", "A"),
        ("The answer is B. A is wrong", "B"),
        ("the answer is a fracture", None),
        ("THE ANSWER IS A FRACTURE", None),
        ("The answer is B-cell lymphoma", None),
        # an option's text within
        ("it is in the left lung", "C"),  # and not D, whose "lung" is inside C's
        ("the left lung, or another lung", None),
        ("there is pneumonia here", "A"),
        ("pneumonias", None),
        # contradictions and nothing
        ("A or B", None),
        ("(A) or (B)", None),
        ("A, B", None),
        ("The answer is A or B", None),
        ("option B and option C", None),
        ("A. no fracture", None),
        ("A. pneumonia B. no fracture C. left lung D. lung", None),
        ("A. B. C. D.", None),
        ("pneumonia and left lung", None),
        ("I cannot tell", None),
        ("", None),
        ("...", None),
    ],
)
def test_short_replies(generated, expected):
    assert picked(generated, OPTIONS) == expected


@pytest.mark.parametrize(
    ("generated", "options", "expected"),
    [
        ("C. Hepatitis B.", {"A": "Hepatitis A", "B": "Hepatitis C", "C": "Hepatitis B"}, "C"),
        ("Hepatitis B", {"A": "Hepatitis A", "B": "Hepatitis C", "C": "Hepatitis B"}, "C"),
        ("B. cereus", {"A": "B. cereus", "B": "S. aureus"}, "A"),
        ("1.5 cm", {"A": "15 cm", "B": "1.5 cm"}, "B"),
        ("lung", {"A": "lung", "B": "Lung."}, None),  # two options of one text
        ("in the lung here", {"A": "lung", "B": "Lung."}, None),
        ("B. Lung", {"A": "lung", "B": "Lung."}, "B"),
        ("是左肺。", {"A": "左肺", "B": "右肺"}, "A"),
        ("", {"A": "", "B": "lung"}, None),
    ],
)
def test_awkward_options(generated, options, expected):
    assert picked(generated, options) == expected


LETTERS = {"A": "fever", "B": "cough", "C": "rash", "D": "headache"}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("B, D", ("B", "D")),
        ("D, B", ("B", "D")),  # in the order of the options
        ("BD", ("B", "D")),
        ("(B) and (D)", ("B", "D")),
        ("fever; rash", ("A", "C")),
        ("Answer: A, B, C, D", ("A", "B", "C", "D")),
        ("The correct options are B and D.", ("B", "D")),
        ("\\boxed{A}, \\boxed{C}", ("A", "C")),
        ('{"answer": ["A", "C"]}', ("A", "C")),
        ("A. fever\nC. rash", ("A", "C")),
        ("A", ("A",)),
        ("I'm sorry, I can't help.", None),
        ("", None),
    ],
)
def test_several_right_options(reply, expected):
    assert extract_choice(reply, LETTERS, multiple=True).answer == expected


@pytest.mark.parametrize(
    ("reply", "question", "expected"),
    [
        ("The least likely answer is B.", "", None),
        ("The least likely answer is B.", "Which is the most likely finding?", None),
        ("The least likely answer is B.", "Which is the LEAST likely finding?", "B"),
        ("B is false.", "Which statement is false?", "B"),
        ("B is false.", "Which statement is true?", None),
        ("All are seen except rash.", "All of the following are seen EXCEPT:", "C"),
        ("A: true\nB: true\nC: false\nD: true", "Which of these is not true?", "C"),
        ("A: true\nB: false\nC: false\nD: false", "Which of these is not true?", "A"),  # verdicts on the answers
        ("A: true\nB: false", "Which of these is not true?", None),
        ("C不是该病的表现。", "下列哪项不是该病的表现？", "C"),
        ("Fever is typical.", "Which of these is NOT typical?", None),
        ("The most likely is fever.", "Which is the least likely finding?", None),
        ("The answer is D.", "All of these are seen except:", "D"),
    ],
)
def test_questions_for_an_exception(reply, question, expected):
    answer = extract_choice(reply, LETTERS, question=question).answer
    assert answer == (None if expected is None else (expected,))


@pytest.mark.parametrize(
    "reply",
    [
        "If there were no fever, the answer would be B.",
        "Many would say that the answer is B.",
        "To say that the answer is B would be premature.",
        "B is the correct answer if the patient smokes.",
        "Is it a cough? Perhaps.",
        "It might be B.",
        "A: 10%, B: 90%",
    ],
)
def test_what_is_supposed_or_open_is_no_answer(reply):
    assert extract_choice(reply, LETTERS).answer is None


def test_a_last_list_of_options_is_several_right_ones():
    reply = "The signs are:\n\nA. fever\nC. rash"
    assert extract_choice(reply, LETTERS, multiple=True).answer == ("A", "C")
    assert extract_choice(reply, LETTERS).answer is None
    assert extract_choice("All except D are correct.", LETTERS, multiple=True).answer == ("A", "B", "C")
    assert extract_choice("A or B", LETTERS, multiple=True).answer is None
