"""Answers read out of replies: a table of replies in the styles of many model families, and what a careful reader reads."""

from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.eval.answers import extract_choice, extract_number, extract_set, extract_text, extract_yes_no

FOLDER = Path(__file__).parent
TABLES = [
    yaml.safe_load(path.read_text("utf-8"))
    for path in [FOLDER / "replies.yaml", *sorted(FOLDER.glob("batches/*.yaml"))]
]
OPTIONS = {name: options for table in TABLES for name, options in table["options"].items()}
ROWS = [(*row, "")[:6] for table in TABLES for row in table["replies"]]
CHEST = OPTIONS["chest"]


def extraction_of(kind, context, reply, question=""):
    """The extraction, by the function of the kind. question: as it was asked, of multiple choice."""
    if kind in ("choice", "several"):
        return extract_choice(reply, OPTIONS[context], kind == "several", question)
    if kind == "yes_no":
        return extract_yes_no(reply, context)
    return {"text": extract_text, "set": extract_set}.get(kind, lambda text: extract_number(text, context))(reply)


def plain(kind, answer):
    """An answer as the table writes it."""
    if answer is None:
        return None
    if kind == "choice":
        [label] = answer
        return label
    if kind in ("several", "set"):
        return list(answer)
    return answer.isoformat() if isinstance(answer, date) else answer


READ = [
    (kind, context, question, reply, right, extraction_of(kind, context, reply, question))
    for _, kind, context, reply, right, question in ROWS
]


def test_the_table_is_wide():
    assert sum(len(table["options"]) for table in TABLES) == len(OPTIONS)
    for table in TABLES:
        assert len(table["replies"]) >= 150
        assert len({family for family, *_ in table["replies"]}) >= 10
        assert len({(context, reply) for _, _, context, reply, *_ in table["replies"]}) > 0.95 * len(table["replies"])


def test_what_is_read_is_what_a_careful_reader_reads():
    answered = [(kind, reply, right, read) for kind, _, _, reply, right, read in READ if read.answer is not None]
    wrong = [(reply, right, read) for kind, reply, right, read in answered if plain(kind, read.answer) != right]
    assert len(wrong) <= 0.01 * len(answered), wrong
    assert wrong == []


def test_what_is_left_unread_is_unclear():
    assert [(reply, right) for *_, reply, right, read in READ if read.answer is None and right is not None] == []


def test_a_reading_is_of_the_characters_that_it_names():
    """What these characters say alone is the same answer."""
    for kind, context, question, reply, _, read in READ:
        if read.answer is None:
            assert (read.start, read.end) == (0, 0)
            continue
        assert 0 <= read.start <= read.end <= len(reply)
        if read.rule != "question restated":
            piece = reply[read.start : read.end]
            alone = [extraction_of(kind, context, text, question).answer for text in (piece, f"Answer: {piece}")]
            assert read.answer in alone, (reply, read)


@pytest.mark.parametrize(
    ("reply", "rule", "piece"),
    [
        ("**B**", "whole reply", "**B**"),
        ("It has a meniscus.\n\\boxed{\\text{B}}", "box or tag", "B"),
        ('{"answer": "B"}', "json", '"B"'),
        ("Final answer: B", "final answer", "B"),
        ("Answer: (B)\nA is wrong.", "label", "(B)"),
        ("So the answer is B.", "sentence", "B."),
        ("B is the best answer.", "said to be right", "B"),
        ("I think it's B.", "declared", "B."),
        ("B) It has a meniscus.", "leading label", "B"),
        ("It has a meniscus.\n\nB", "last line", "B"),
        ("A or B", "contradiction", ""),
        ("I'm sorry, I can't help with that.", "refusal", ""),
        ("A chest film.", "nothing found", ""),
        ("  ", "blank", ""),
        ("<think>Maybe B", "unfinished thought", ""),
    ],
)
def test_the_trace_names_the_rule(reply, rule, piece):
    read = extract_choice(reply, CHEST)
    assert (read.rule, reply[read.start : read.end]) == (rule, piece)
    assert read.trace() == {"rule": rule, "span": [read.start, read.end]}
    assert (read.answer is None) == (piece == "")


def test_a_rationale_that_holds_a_no_is_not_the_answer():
    rationale = "There is no fracture and no effusion, no mass is seen."
    for reply in (
        f"{rationale} The answer: yes",
        f"Yes. {rationale}",
        f"<think>{rationale}</think> yes",
        f"{rationale}\n\nYes",
    ):
        assert extract_yes_no(reply, "Is the film normal?").answer == "yes"


FORMS = [
    "{}",
    "({})",
    "{}. {t}",
    "{t}",
    "The answer is {}.",
    "Answer: {}",
    "\\boxed{{{}}}",
    '{{"answer": "{}"}}',
    "It is so.\n\n{}",
]


@settings(max_examples=60, deadline=None)
@given(st.permutations(list(CHEST.values())), st.sampled_from("ABCD"), st.sampled_from(FORMS))
def test_readings_follow_the_order_of_the_options(texts, label, form):
    options = dict(zip("ABCD", texts, strict=True))
    assert extract_choice(form.format(label, t=options[label]), options).answer == (label,)


@settings(max_examples=60, deadline=None)
@given(st.text("ABCD.():\n \\{}<>answer/yesno\"'*|-", max_size=60))
def test_no_reply_is_too_odd(reply):
    for read in (
        extract_choice(reply, CHEST),
        extract_yes_no(reply, "Is it?"),
        extract_text(reply),
        extract_number(reply),
        extract_set(reply),
    ):
        assert 0 <= read.start <= read.end <= len(reply)


def test_replies_of_repeated_words_are_read_to_their_end():
    """Nothing of them is a statement with a place outside of the reply. Patterns that backtrack would never come back."""
    for piece in (
        "the answer ",
        "A ",
        "answer: ",
        "<answer>",
        '{"answer": ',
        "\\boxed{",
        "1.",
        "no ",
        "the most ",
        "because ",
        "A   ",
        "most  likely  ",
        "option  A  or  ",
    ):
        for function in (
            lambda text: extract_choice(text, CHEST),
            extract_yes_no,
            extract_text,
            extract_number,
            extract_set,
        ):
            extraction = function(piece * 400)
            assert 0 <= extraction.start <= extraction.end <= len(piece) * 400
            assert extraction.answer is not None or (extraction.start, extraction.end) == (0, 0)


@pytest.mark.parametrize("piece", [" ", "\n", ".", "- ", "(", '"', "is correct ", "</think>", "no "])
def test_a_reply_of_one_piece_is_read_in_one_pass(piece):
    """Of as many characters as are read at most; where each is looked at from each other, one such reply takes minutes."""
    reply = piece * (20_000 // len(piece)) + "B"
    extractions = [
        extract_choice(reply, CHEST, True),
        extract_yes_no(reply, "Is there an effusion?"),
        extract_number(reply),
    ]
    assert all(0 <= extraction.start <= extraction.end <= len(reply) for extraction in extractions)
    assert extractions[2].answer is None


def test_a_reply_that_ends_a_run_of_blanks_is_read():
    assert extract_choice(" " * 30_000 + "B", CHEST).answer == ("B",)
    read = extract_choice("It is seen.\n" + "-" * 500 + "\n\nAnswer:" + "\n" * 300 + "B", CHEST)
    assert (read.answer, read.start) == (("B",), len("It is seen.\n") + 500 + len("\n\nAnswer:") + 300)


@pytest.mark.parametrize("reply", ["The value is 1e400", "Loop 10 x 10^999", '{"answer": 1e999}'])
def test_a_number_that_no_float_holds_is_none(reply):
    assert extract_number(reply).answer is None


def test_options_are_needed():
    with pytest.raises(ValueError, match="no options"):
        extract_choice("A", {})
