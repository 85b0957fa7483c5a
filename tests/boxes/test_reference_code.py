"""Forms of boxes against the code of their families in transformers: written as they read, read as they write."""

import re

import pytest
import torch
from transformers.models.florence2.processing_florence2 import Florence2PostProcessor
from transformers.models.kosmos2.processing_kosmos2 import (
    clean_text_and_extract_entities_with_bboxes,
    coordinate_to_patch_index,
    patch_index_to_coordinate,
)
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize

from medvlp.boxes.forms import FORM_OF_FAMILY, FORMS, read_cells, written_boxes
from medvlp.boxes.views import View, geometry_of
from medvlp.eval.boxes.extraction import extract_boxes
from medvlp.models.hf.kinds import CHAT_FAMILIES

BOXES = [
    (0.1, 0.25, 0.5, 1.0),
    (0.0, 0.0, 0.02, 0.5),
    (0.4004, 0.4004, 0.4106, 0.4106),
    (0.3, 0.1, 0.35, 0.11),
    (0.3337, 0.0, 0.9999, 0.5004),
    (0.0, 0.0, 1.0, 1.0),
]
VIEW = View(width=640, height=480)


@pytest.fixture(scope="module")
def florence():
    """Without the tokenizer that its constructor takes: what it computes of boxes needs none."""
    processor = Florence2PostProcessor.__new__(Florence2PostProcessor)
    processor.quantize_bins = (1000, 1000)
    return processor


@pytest.mark.parametrize("box", BOXES)
def test_kosmos_cells(box):
    first, last = coordinate_to_patch_index(box, 32)
    text = written_boxes([box], FORMS["kosmos2"], VIEW)
    assert [int(number) for number in re.findall(r"\d{4}", text)] == [first, last]
    assert read_cells(first, last, 32) == pytest.approx(patch_index_to_coordinate(first, last, 32))


def test_an_answer_of_several_boxes_as_kosmos_reads_it():
    text = written_boxes(BOXES, FORMS["kosmos2"], VIEW)
    _, ((phrase, _, theirs),) = clean_text_and_extract_entities_with_bboxes(f"<phrase>nodules</phrase>{text}", 32)
    assert phrase == "nodules"
    assert extract_boxes(text, "kosmos2", VIEW).answer == tuple(pytest.approx(box) for box in theirs)


def test_florence_cells(florence):
    pixels = torch.tensor([[a * 640, b * 480, c * 640, d * 480] for a, b, c, d in BOXES], dtype=torch.float64)
    cells = [FORMS["florence2"].numbers(box, VIEW) for box in BOXES]
    assert florence.quantize(pixels, (640, 480)).tolist() == cells


def test_an_answer_of_several_boxes_as_florence_reads_it(florence):
    text = written_boxes(BOXES, FORMS["florence2"], VIEW)
    parts = florence.parse_description_with_bboxes_from_text_and_spans(f"nodules{text}", (640, 480), True)
    theirs = [part["bbox"] for part in parts]
    boxes = extract_boxes(text, "florence2", VIEW).answer
    pixels = [[int(a * 640), int(b * 480), int(c * 640), int(d * 480)] for a, b, c, d in boxes]  # it cuts decimals
    assert theirs == pixels


def test_paligemma_writes_tokens_that_its_tokenizer_has():
    tokens = re.findall("<[^>]*>", written_boxes(BOXES, FORMS["paligemma"], VIEW))
    assert len(tokens) == 4 * len(BOXES)
    assert set(tokens) <= set(EXTRA_TOKENS)
    assert sum(token.startswith("<loc") for token in EXTRA_TOKENS) == FORMS["paligemma"].bins


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1023, 77)])
def test_qwens_pixels_are_those_of_the_image_that_its_processor_makes(width, height):
    processor = Qwen2VLImageProcessor()
    view = geometry_of(processor).view(width, height)
    factor = processor.patch_size * processor.merge_size
    high, wide = smart_resize(height, width, factor, processor.size["shortest_edge"], processor.size["longest_edge"])
    x0, y0, x1, y1 = BOXES[0]
    expected = [round(x0 * wide), round(y0 * high), round(x1 * wide), round(y1 * high)]
    assert written_boxes(BOXES[:1], FORMS["qwen2_5_vl"], view) == f'[{{"bbox_2d": {expected}}}]'


def test_families_have_forms_that_there_are():
    assert set(FORM_OF_FAMILY.values()) <= set(FORMS)
    assert {"qwen2_vl", "qwen2_5_vl", "paligemma"} <= set(FORM_OF_FAMILY) & set(CHAT_FAMILIES)
