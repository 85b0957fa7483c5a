"""Boxes drawn on thumbnails: where they lie, and what a page says of them."""

import re

import pytest

from medvlp.report import write_run_report
from medvlp.report.run.boxes_svg import box_picture, box_words
from medvlp.report.run.details import EXAMPLES
from medvlp.report.thumbnails import Thumbnail
from medvlp.shards import Conversation, Sample, ShardDataset, Turn
from tests.report.dataset.small_folders import HOSTILE, jpeg, jsonl, write_split
from tests.report.html_page import assert_safe
from tests.report.run.test_questions import record

THUMBNAIL = Thumbnail("a1", "data:image/jpeg;base64,AA==", "", width=200, height=100)
WEST, EAST = [0.0, 0.0, 0.5, 1.0], [0.5, 0.25, 1.0, 0.75]


def boxed(boxes, predicted, iou=0.25, **more):
    return record("a1", 1, 0.0, boxes=boxes, predicted_boxes=predicted, box_image=0) | {
        "scores": {"box_iou": iou},
        **more,
    }


def drawn(picture, side):
    return re.findall(rf'<path class="{side}" d="([^"]*)">', picture.svg)


def test_boxes_lie_where_their_shares_say():
    picture = box_picture(boxed([WEST], [WEST, EAST]), THUMBNAIL)
    assert 'viewBox="0 0 200 100"' in picture.svg
    assert drawn(picture, "expected") == ["M0.0 0.0H100.0V100.0H0.0Z"]
    assert drawn(picture, "answered") == ["M0.0 0.0H100.0V100.0H0.0Z", "M100.0 25.0H200.0V75.0H100.0Z"]
    assert drawn(picture, "answered below") == drawn(picture, "answered")
    assert 'aria-label="a1: 1 expected boxes, 2 answered"' in picture.svg


def test_what_leaves_the_image_is_cut_or_counted():
    picture = box_picture(
        boxed([WEST], [[-0.1, 0.5, 0.5, 1e300], [1.0, 0.0, 1.1, 1.0], [0.5, 0.5, 0.2, 0.9]]), THUMBNAIL
    )
    assert drawn(picture, "answered") == ["M0.0 50.0H100.0V100.0H0.0Z"]
    assert picture.skipped == 2


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (boxed([WEST], [EAST]), [("IoU", "0.25")]),
        (boxed([], [], None), []),
        (boxed([WEST], None, extraction={"rule": "box of another scale"}), [("Read as", "no answer: box of another scale")]),
        (boxed([WEST], None), [("Read as", "no answer")]),
        (record("a1", 1, 1.0), []),
    ],
)  # fmt: skip
def test_the_words_next_to_a_picture(row, words):
    assert box_words(row) == words


def test_nothing_is_drawn_without_an_image_or_without_boxes():
    assert box_picture(record("a1", 1, 1.0), THUMBNAIL) is None
    assert box_picture(boxed([WEST], [WEST]), Thumbnail("a1", "", "", "no image")) is None


def evaluation(folder, data, rows, **protocol):
    (folder / "samples").mkdir(parents=True)
    jsonl(folder / "samples/made.jsonl", rows)
    card = {"kind": "vqa", "data": str(data), "split_hash": ShardDataset(data).manifest_hash, "split": data.name,
            "n": len(rows), "records": "samples/made.jsonl", **protocol}  # fmt: skip
    row = {"checkpoint": "a.ckpt", "task": "made", "n": len(rows), "protocol": card, "metric": "box_iou", "value": 0.5}
    jsonl(folder / "results.jsonl", [{**row, "ci_low": None, "ci_high": None}])
    return folder


def test_the_page_draws_boxes_of_the_image_that_is_meant_and_folds_examples_and_samples(tmp_path, prepared):
    turns = [Turn("user", "<image>\nIs it large?"), Turn("assistant", "yes, it is")]
    write_split(prepared, "shots", [Sample("shots__1", {}, {}, conversations=[Conversation(turns, "q")])])
    write_split(prepared, "two", [Sample("two__1", {"0.jpg": jpeg(9), "1.jpg": jpeg(99)}, {"caption": "x"})])
    voted = {"samples": [HOSTILE, "yes"], "votes": {"yes": 1}, "reasonings": ["a reason"], "reasonings_used": 0}
    rows = [
        boxed([WEST], [EAST], id="two__1#1", box_image=1, prediction=HOSTILE),
        record("two__1", 2, 1.0, examples=["shots__1#q", "gone#1"], **voted),
    ]
    prompting = {"split": "shots", "examples_hash": ShardDataset(prepared / "shots").manifest_hash}
    folder = evaluation(tmp_path / "boxes", prepared / "two", rows, prompting=prompting)
    page = assert_safe(write_run_report(folder))
    assert page.tags.count("svg") == 1
    pictures = {value for tag, name, value in page.attributes if (tag, name) in (("img", "src"), ("image", "href"))}
    assert len(pictures) == 2  # the second image of the sample with boxes, the first one of the other question
    for words in (
        "expected answered", "IoU 0.25", HOSTILE, "2 examples in the prompt shots__1#q Is it large? yes, it is gone#1",
        "Votes yes: 1", "2 samples", "1 first attempt, 0 of them shown to the refining a reason",
    ):  # fmt: skip
        assert words in page.text, words
    (prepared / "shots/manifest.json").unlink()
    assert "2 examples in the prompt shots__1#q gone#1" in assert_safe(write_run_report(folder)).text


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("boxes", [[0, 0, 1]], "expected a list of a list of a finite number"),
        ("predicted_boxes", ["x"], "expected a list of a list of a finite number or null"),
        ("box_image", -1, "expected a whole number that is not negative"),
        ("votes", {"yes": "many"}, "expected an object of a whole number that is not negative"),
    ],
)
def test_a_record_of_another_shape_is_named(field, value, expected):
    assert EXAMPLES["vqa"].problem_of(boxed([WEST], None)) == ""
    problem = EXAMPLES["vqa"].problem_of(boxed([WEST], [WEST]) | {field: value})
    assert problem.startswith(f"{field} is ")
    assert problem.endswith(expected)
