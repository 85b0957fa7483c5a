"""Questions for boxes from shards to metrics: asked in the model's form, read in it, scored on the whole image."""

import pytest

from medvlp.boxes.forms import BoxStyle
from medvlp.boxes.views import Geometry
from medvlp.config import VqaConfig
from medvlp.config.rules import ConfigError
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.templates import chat_template
from medvlp.eval.statistics.measures import measures
from medvlp.eval.vqa.questions import QuestionFilter
from medvlp.eval.vqa.task import Vqa
from tests.data.chat.tiny_tokenizer import tiny_tokenizer
from tests.eval.vqa.test_task import NO_INTERVALS, assistant_model, dataset, sample, values

HALF, REST = [0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]
SPLIT = [
    sample(0, [("Where is the nodule?", "<box>", "boxes", {"boxes": [HALF]})]),
    sample(1, [("Where are both?", "<box> <box>", "boxes", {"boxes": [HALF, REST]})]),
    sample(2, [("Where is the mass?", "none", "boxes", {"boxes": []})]),
    sample(3, [("What is in <box>?", "a rib", "open", {"boxes": [HALF]})]),
    sample(4, [("Where is it?", "<box>", "boxes", {"boxes": [[0.5, 0.0, 0.1, 1.0]]})]),
]


@pytest.fixture(scope="module")
def encoder():
    tokenizer = tiny_tokenizer("chatml")
    return ChatEncoder(tokenizer, chat_template(tokenizer)[1], tokenizer.convert_tokens_to_ids("<image>"), 2)


REPLIES = {1: "At (0,0),(500,600).", 2: "[0, 0, 500, 1000]", 3: "There is no mass.", 4: "A rib."}


def run(tmp_path, encoder, style=None, controls=(), **options):
    model = assistant_model(encoder, lambda question, number: REPLIES.get(number, "none"))
    if style:
        object.__setattr__(model, "box_style", style)
    task = Vqa("made", dataset(tmp_path, SPLIT), QuestionFilter(**options), controls=controls, bootstrap=NO_INTERVALS)
    return task.run(model), model.generator.asked


def test_boxes_are_asked_read_and_scored(tmp_path, encoder):
    result, asked = run(tmp_path, encoder, BoxStyle("thousandths"), ("best_constant",))
    scores = values(result)
    words = "Give each box as [left, top, right, bottom] with numbers from 0 to 1000."
    assert [question for question, _ in asked][:3] == [
        f"Where is the nodule?\n{words}",
        f"Where are both?\n{words}",
        f"Where is the mass?\n{words}",
    ]
    assert asked[3][0] == "What is in [0, 0, 500, 1000]?"
    assert scores["box_iou"] == pytest.approx((0.6 + 0.5) / 2)
    assert scores["box_union_iou"] == pytest.approx((0.6 + 0.5) / 2)
    assert scores["box_accuracy@0.5"] == pytest.approx(2 / 3)
    assert scores["box_accuracy@0.7"] == pytest.approx(1 / 3)
    assert scores["box_recall@0.5"] == pytest.approx((1 + 0.5) / 2)
    assert scores["box_precision@0.5"] == 1
    assert scores["box_iou/best_constant"] == pytest.approx((1 + 0.5) / 2)
    assert scores["open_exact_match"] == 1
    assert result.protocol["box_form"] == "thousandths"
    assert result.protocol["excluded"] == {"bad_boxes": 1}
    assert [record["score"] for record in result.records] == [1, 0, 1, 1]
    assert result.records[0]["boxes"] == [HALF]
    assert result.records[0]["box_image"] == 0
    assert result.records[0]["predicted_boxes"] == [pytest.approx([0, 0, 0.5, 0.6])]
    assert result.records[0]["target"] == "[0, 0, 500, 1000]"
    assert result.records[2]["predicted_boxes"] == []
    assert result.records[1]["extraction"]["rule"] == "list (thousandths)"
    again = NO_INTERVALS.measure(measures(result.records, result.protocol))
    assert {metric.name: metric.value for metric in again} == scores


def test_a_reply_in_another_scale_is_unread_and_wrong(tmp_path, encoder):
    result, asked = run(tmp_path, encoder, BoxStyle("thousandths"), box_form="shares", box_words=False)
    assert asked[0][0] == "Where is the nodule?"
    assert result.records[0]["extraction"]["rule"] == "box of another scale"
    assert result.records[0]["predicted_boxes"] is None
    assert values(result)["box_iou"] == 0


def test_a_reply_about_a_crop_is_scored_on_the_whole_image(tmp_path, encoder):
    """Images of 40 x 40 px become 80 x 80, of which the model sees the middle 40 x 40: the middle half of both sides."""
    style = BoxStyle("thousandths", Geometry("crop", 40, 40, 80))
    result, _ = run(tmp_path, encoder, style)
    assert result.records[0]["predicted_boxes"] == [pytest.approx([0.25, 0.25, 0.5, 0.55])]
    assert result.records[0]["scores"]["box_iou"] == pytest.approx(0.25 * 0.3 / 0.5)


def test_a_form_that_nobody_has_is_refused():
    config = VqaConfig(name="made", data="data/made", box_form="qwen3")
    with pytest.raises(ConfigError, match="box_form"):
        config.check()
