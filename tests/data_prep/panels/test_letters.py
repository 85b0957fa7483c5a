"""Letters on panels: what they say about the order, and whether they are read."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from data_prep.draft import Draft
from data_prep.panels.letters import Letter, order_by_letters, read_letters
from data_prep.stages.split_panels import split_panels
from medvlp.shards import Sample
from tests.data_prep.panels.compound import synthetic_picture

# Two rows of two: 0 1 / 2 3
BOXES = [(0, 0, 100, 100), (110, 0, 210, 100), (0, 110, 100, 210), (110, 110, 210, 210)]
CORNERS = [(10, 10), (120, 10), (10, 120), (120, 120)]


def at(letters, *spots):
    return [Letter(letter, *spot) for letter, spot in zip(letters, spots, strict=True)]


@pytest.mark.parametrize(
    ("letters", "order"),
    [
        ([], [0, 1, 2, 3]),
        (at("ABCD", *CORNERS), [0, 1, 2, 3]),
        (at("b", CORNERS[1]), [0, 1, 2, 3]),
        (at("ACBD", *CORNERS), [0, 2, 1, 3]),  # column by column
        (at("ACB", *CORNERS[:3]), [0, 2, 1, 3]),  # the fourth follows
        (at("C", CORNERS[1]), None),  # one letter out of place says that the order is wrong, and not what is right
        (at("AC", *CORNERS[:2]), None),
        (at("CX", (50, 50), CORNERS[0]), [0, 1, 2, 3]),  # a structure in the middle, a letter of no panel
        (at("BC", CORNERS[0], (90, 10)), [0, 1, 2, 3]),  # two letters on one panel
        (at("CC", CORNERS[0], CORNERS[1]), [0, 1, 2, 3]),  # one letter on two panels
    ],
)
def test_order_that_letters_set(letters, order):
    assert order_by_letters(BOXES, list("ABCD"), letters) == (order and [BOXES[number] for number in order])


def test_letters_below_panels_are_theirs():
    row = [(0, 0, 100, 100), (110, 0, 210, 100)]
    assert order_by_letters(row, ["a", "b"], at("ba", (50, 108), (160, 108))) == row[::-1]


def test_a_letter_in_a_gutter_is_the_nearest_panels():
    column = [(0, 0, 100, 100), (0, 120, 100, 220)]
    assert order_by_letters(column, ["a", "b"], at("ba", (50, 105), (50, 225))) == column[::-1]
    assert order_by_letters(column, ["a", "b"], at("b", (50, 115))) == column


def lettered(letters):
    """Two rows of two pictures, a letter in the corner of each; "." for none."""
    page = Image.new("L", (820, 820), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(30)
    for number, letter in enumerate(letters):
        x, y = 420 * (number % 2), 420 * (number // 2)
        page.paste(synthetic_picture(number, side=400, light=0.5), (x, y))
        if letter != ".":
            draw.rectangle((x + 8, y + 8, x + 48, y + 52), fill="white")
            draw.text((x + 18, y + 12), letter, 0, font)
    return page


def draft_of(letters):
    buffer = io.BytesIO()
    lettered(letters).save(buffer, "PNG")
    return Draft(Sample("k__0", {"png": buffer.getvalue()}, {"caption": "(A) One. (B) Two. (C) Three. (D) Four."}))


@pytest.fixture
def reader():
    pytest.importorskip("rapidocr_onnxruntime")


@pytest.mark.usefixtures("reader")
def test_letters_are_read_and_the_same_every_time():
    first, second = (read_letters(np.asarray(lettered("ACBD").convert("RGB"))) for _ in "12")
    assert first == second
    corner = {letter.letter: (round(letter.x / 420), round(letter.y / 420)) for letter in first}
    assert corner == {"A": (0, 0), "C": (1, 0), "B": (0, 1), "D": (1, 1)}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    ("letters", "order"), [("....", "ABCD"), ("ABCD", "ABCD"), ("ACBD", "ACBD"), ("ACB.", "ACBD"), ("C...", None)]
)
def test_the_stage_follows_the_letters(letters, order):
    draft = draft_of(letters)
    left = split_panels(draft, letters=True)
    if order is None:
        assert left is draft
        assert draft.counts == {("split_panels", "unsplit: letters differ"): 1}
        return
    assert [panel.sample.metadata["panel_label"] for panel in left] == list("ABCD")
    places = {panel.sample.metadata["panel_label"]: panel.sample.metadata["panel_box"][:2] for panel in left}
    assert [places[label] for label in order] == [[0, 0], [420, 0], [0, 420], [420, 420]]
    assert [panel.sample.texts["caption"] for panel in left] == ["One.", "Two.", "Three.", "Four."]


@pytest.mark.parametrize("letters", ["ACBD", "C..."])
def test_without_reading_them_the_order_is_row_by_row(letters):
    first, second, *_ = split_panels(draft_of(letters))
    assert (first.sample.metadata["panel_box"][:2], second.sample.metadata["panel_box"][:2]) == ([0, 0], [420, 0])
