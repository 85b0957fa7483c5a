"""Boxes as models write them: values worked out by hand."""

import pytest

from medvlp.boxes.forms import FORMS, NoPixels, written_boxes
from medvlp.boxes.views import View

VIEW = View(width=448, height=224)
BOX = (0.1, 0.25, 0.5, 1.0)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("shares", "[0.100, 0.250, 0.500, 1.000]"),
        ("thousandths", "[100, 250, 500, 1000]"),
        ("pixels", "[45, 56, 224, 224]"),
        ("qwen2_vl", "<|box_start|>(100,250),(500,1000)<|box_end|>"),
        ("qwen2_5_vl", '[{"bbox_2d": [45, 56, 224, 224]}]'),
        ("qwen3_vl", '[{"bbox_2d": [100, 250, 500, 1000]}]'),
        ("gemini", '[{"box_2d": [250, 100, 1000, 500]}]'),
        ("internvl", "<box>[[100, 250, 500, 1000]]</box>"),
        ("paligemma", "<loc0256><loc0102><loc1023><loc0512>"),
        ("florence2", "<loc_100><loc_250><loc_500><loc_999>"),
        ("kosmos2", "<object><patch_index_0259><patch_index_1007></object>"),
        ("minigpt_v2", "{<10><25><50><100>}"),
        ("maira2", "<box><x10><y25><x50><y99></box>"),
    ],
)
def test_a_box_in_every_form(form, text):
    assert written_boxes([BOX], FORMS[form], VIEW) == text
    assert written_boxes([], FORMS[form], VIEW) == ""


def test_every_form_is_written_above():
    forms = test_a_box_in_every_form.pytestmark[0].args[1]
    assert {form for form, _ in forms} == {*FORMS}


def test_several_boxes_are_one_answer():
    second = (0.0, 0.0, 0.25, 0.5)
    assert (
        written_boxes([BOX, second], FORMS["internvl"], VIEW) == "<box>[[100, 250, 500, 1000], [0, 0, 250, 500]]</box>"
    )
    assert (
        written_boxes([BOX, second], FORMS["gemini"], VIEW)
        == '[{"box_2d": [250, 100, 1000, 500]}, {"box_2d": [0, 0, 500, 250]}]'
    )


def test_pixels_of_a_view_that_nobody_knows_are_refused():
    with pytest.raises(NoPixels, match="not known"):
        written_boxes([BOX], FORMS["qwen2_5_vl"], View())
