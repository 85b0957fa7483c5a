"""Boxes of replies: in every form there and back, as people would read them, and refused where they cannot be read."""

import pytest

from medvlp.boxes.forms import FORMS, written_boxes
from medvlp.boxes.views import Geometry, View
from medvlp.eval.boxes.extraction import (
    EMPTY,
    FORM_MISMATCH,
    NEGATIVE,
    NO_BOX,
    NO_PIXELS,
    NOT_FOUR,
    SCALE_MISMATCH,
    extract_boxes,
)

VIEW = View(width=448, height=224)
BOX, SECOND = (0.1, 0.25, 0.5, 1.0), (0.625, 0.125, 0.875, 0.375)
RESOLUTION = {
    "shares": 0.001,
    "pixels": 1 / 224,
    "qwen2_5_vl": 1 / 224,
    "kosmos2": 1 / 32,
    "minigpt_v2": 0.01,
    "maira2": 0.01,
}


@pytest.mark.parametrize(
    "view", [VIEW, Geometry("pad", 336, 336).view(200, 100), Geometry("crop", 336, 336, 336).view(120, 100)]
)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sentence", ["{}", "The nodules are at {}.", "<think>At [0.9, 0.9, 1, 1]?</think>Answer: {}"])
def test_what_is_written_is_read_again(form, view, sentence):
    seen = [view.of_image(box) for box in (BOX, SECOND)]
    extraction = extract_boxes(sentence.format(written_boxes(seen, FORMS[form], view)), form, view)
    assert extraction.answer is not None, extraction
    error = 0.51 * RESOLUTION.get(form, 0.001) * 2.1  # a padded square is twice as large as the image's side
    if FORMS[form].bins and not FORMS[form].centred:
        error *= 2
    for box, expected in zip(extraction.answer, seen, strict=True):
        assert box == pytest.approx(view.to_image(expected), abs=error)


@pytest.mark.parametrize(
    ("reply", "form", "expected"),
    [
        ("[0.1, 0.25, 0.5, 1.0]", "shares", [BOX]),
        ("The mass is at (0.1, 0.25, 0.5, 1.0), upper left.", "shares", [BOX]),
        ("0.1, 0.25, 0.5, 1", "shares", [BOX]),
        ("Bounding box: 0.1 0.25 0.5 1.0", "shares", [BOX]),
        ("[[0.1, 0.25, 0.5, 1.0], [0.625, 0.125, 0.875, 0.375]]", "shares", [BOX, SECOND]),
        ("[0.1, 0.25, 0.5, 1.0] and again [0.1, 0.25, 0.5, 1.0]", "shares", [BOX]),
        ("(0.1, 0.25), (0.5, 1.0)", "shares", [BOX]),
        ("[10%, 25%, 50%, 100%]", "shares", [BOX]),
        ("[.1, .25, .5, 1.]", "shares", [BOX]),
        ('```json\n[{"bbox_2d": [100, 250, 500, 1000], "label": "mass"}]\n```', "qwen3_vl", [BOX]),
        ('{"box_2d": [250, 100, 1000, 500], "label": "mass"}', "gemini", [BOX]),
        ('{"box_2d": [250, 100, 1000, 500]}', "thousandths", [BOX]),
        ("[250, 100, 1000, 500]", "gemini", [BOX]),
        ('{"bbox_2d": [100, 250, 500, 1000]}', "gemini", [BOX]),
        ("<ref>mass</ref><box>[[100, 250, 500, 1000]]</box>", "internvl", [BOX]),
        ("<box>(100,250),(500,1000)</box>", "shares", [BOX]),
        ("mass<|box_start|>(100,250),(500,1000)<|box_end|><|im_end|>", "qwen2_vl", [BOX]),
        (
            "<loc0256><loc0128><loc0512><loc0256> nodule ; <loc0000><loc0000><loc0512><loc0512> mass",
            "paligemma",
            [(0.125, 0.25, 0.25, 0.5), (0, 0, 0.5, 0.5)],
        ),
        ("<loc0256><loc0128><loc0512><loc0256>", "shares", [(0.125, 0.25, 0.25, 0.5)]),
        ("x_min=0.1, y_min=0.25, x_max=0.5, y_max=1.0", "shares", [BOX]),
        ('{"x1": 100, "y1": 250, "x2": 500, "y2": 1000}', "thousandths", [BOX]),
        ('{"x0": 100, "y0": 250, "x1": 500, "y1": 1000}', "thousandths", [BOX]),
        ('{"x": 100, "y": 250, "width": 400, "height": 750}', "thousandths", [BOX]),
        ("left: 0.1, top: 0.25, right: 0.5, bottom: 1.0", "shares", [BOX]),
        ("First I saw [0.7, 0.7, 0.8, 0.8]. Final answer: [0.1, 0.25, 0.5, 1.0]", "shares", [BOX]),
        ("<answer>[0.1, 0.25, 0.5, 1.0]</answer>", "shares", [BOX]),
        ("The image is 512 x 512 (a point is [3, 4]); box [0.1, 0.25, 0.5, 1.0]", "shares", [BOX]),
        ("[45, 56, 224, 224]", "pixels", [(45 / 448, 0.25, 0.5, 1.0)]),
        ("none", "shares", []),
        ("No findings.", "shares", []),
        ("There is no nodule in this image.", "shares", []),
        ("[]", "shares", []),
    ],
)
def test_replies_as_people_read_them(reply, form, expected):
    extraction = extract_boxes(reply, form, VIEW)
    assert extraction.answer is not None, extraction
    assert [pytest.approx(box) for box in expected] == list(extraction.answer)
    assert (extraction.rule == NO_BOX) == (not expected)


@pytest.mark.parametrize(
    ("reply", "form", "rule"),
    [
        ("[100, 250, 500, 900]", "shares", SCALE_MISMATCH),
        ("[0.1, 0.25, 0.5, 0.9]", "thousandths", SCALE_MISMATCH),
        ("[0, 0, 1, 1]", "thousandths", SCALE_MISMATCH),
        ("[0.1, 0.25, 0.5, 0.9]", "pixels", SCALE_MISMATCH),
        ("[1200, 250, 1900, 900]", "thousandths", SCALE_MISMATCH),
        ("[-400, 250, 500, 900]", "thousandths", SCALE_MISMATCH),
        ("[100, 250, 500, 900]", "paligemma", FORM_MISMATCH),
        ("[0.5, 0.25, 0.1, 0.9]", "shares", NEGATIVE),
        ("[0.5, 0.25, 0.5, 0.9]", "shares", EMPTY),
        ("[0.1, 0.2, 0.3, 0.4] and [0.5, 0.25, 0.1, 0.9]", "shares", NEGATIVE),
        ("[0.1, 0.2, 0.3]", "shares", NOT_FOUR),
        ("[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]", "shares", NOT_FOUR),
        ("[0.1, 0.2, 0.3, 0.", "shares", "nothing found"),
        ('{"x": 0.1, "y": 0.2, "right": 0.3, "bottom": 0.4}', "shares", None),
        ('{"x": 0.1, "y": 0.2, "width": 0.3, "bottom": 0.4}', "shares", NOT_FOUR),
        ("<patch_index_0044><patch_index_2000>", "kosmos2", SCALE_MISMATCH),
        ("The lesion lies in the upper left lobe.", "shares", "nothing found"),
        ("I'm sorry, but I can't help with medical images.", "shares", "refusal"),
        ("", "shares", "blank"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(reply, form, rule):
    extraction = extract_boxes(reply, form, VIEW)
    if rule is None:
        assert extraction.answer == ((0.1, 0.2, 0.3, 0.4),)
    else:
        assert (extraction.answer, extraction.rule) == (None, rule)


def test_pixels_without_a_size_are_refused():
    assert extract_boxes('{"bbox_2d": [10, 20, 30, 40]}', "qwen2_5_vl", View()).rule == NO_PIXELS


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * 20_000,
        "0.1, " * 5_000,
        "[0.1, " * 4_000,
        "(1 " * 7_000,
        "x: 1 " * 4_000,
        "answer: " * 3_000,
        " " * 20_000 + "1",
    ],
)
def test_long_replies_come_to_an_end(hostile):
    """Where each piece is looked at from each other, one such reply takes minutes. Nothing in them is a whole box."""
    assert not extract_boxes(hostile, "shares", VIEW).answer
