"""Boxes that publishers drew: to the form of shards, each fault by its name; SLAKE's, and those of mapped tables."""

import io
import json

import pytest
from PIL import Image

from data_prep.conversations.boxes import PublishedBox, box_questions
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from medvlp.data.audit.rules import Rules, audit_sample
from medvlp.data.images.decode import ORIENTATION
from medvlp.data.texts import FieldTexts
from medvlp.shards import ShardDataset
from tests.data_prep.folders import jpeg
from tests.data_prep.sources.questions.records.miniatures import MINIATURES
from tests.data_prep.sources.questions.records.test_records import items_of as items_of_records
from tests.data_prep.sources.questions.test_slake import CHINESE, ROW, write


def picture(width=100, height=50, orientation=1):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def test_a_label_is_asked_for_once_with_all_of_its_boxes():
    published = [
        PublishedBox("nodule", (10, 10, 50, 25)),
        PublishedBox("mass", (0, 0, 100.5, 50)),
        PublishedBox("nodule", (0.5, 0, 0.5, 0.5), "xywh", 1, 1),
        PublishedBox("nodule", (10, 10, 50, 25)),
    ]
    questions = box_questions(published, [picture()])
    asked = questions.conversations
    assert [(c.id, c.turns[0].text, c.turns[1].text) for c in asked] == [
        ("boxes of nodule", "<image>\nWhere is the nodule?", "<box> <box>"),
        ("boxes of mass", "<image>\nWhere is the mass?", "<box>"),
    ]
    assert [c.metadata["boxes"] for c in asked] == [[[0.1, 0.2, 0.5, 0.5], [0.5, 0, 1, 0.5]], [[0, 0, 1, 1]]]
    assert (questions.faults, questions.cuts) == ([], 1)


def test_a_label_with_a_box_that_is_none_is_not_asked_for():
    published = [PublishedBox("a", (0, 0, 10, 10)), PublishedBox("a", (0, 0, 400, 10)), PublishedBox("b", (5, 5, 1, 9))]
    questions = box_questions([*published, PublishedBox("c", (0, 0, float("nan"), 1))], [picture()])
    assert questions.conversations == []
    assert [bad.reason for bad in questions.faults] == ["box_outside_image", "box_negative_size", "box_not_numbers"]


@pytest.mark.parametrize(("is_encoded", "box"), [(True, [0.0, 0.1, 1.0, 0.5]), (False, [0.2, 0.0, 1.0, 0.5])])
def test_boxes_of_a_picture_that_exif_turns(is_encoded, box):
    """100 x 50 px are encoded, 50 x 100 are shown; the numbers count in the one or in the other."""
    numbers = (10, 0, 50, 50)
    (asked,) = box_questions(
        [PublishedBox("x", numbers, is_encoded=is_encoded)], [picture(orientation=6)]
    ).conversations
    assert asked.metadata["boxes"] == [pytest.approx(box)]


def test_slakes_detections_become_questions(tmp_path):
    folder = write(tmp_path / "in", [ROW, CHINESE], [], [{**ROW, "img_id": 0, "img_name": "xmlab0/source.jpg"}])
    size = Image.open(folder / "imgs/xmlab102/source.jpg").size[0]
    detections = [{"Liver": [0.0, 0.0, size / 2, size / 4]}, {"Spleen": [0.0, 0.0, size * 2, 1.0]}]
    (folder / "imgs/xmlab102/detection.json").write_text(json.dumps(detections))
    result = prepare("slake", str(folder), tmp_path / "out", options={"boxes": True})
    assert result.ledger["drops"] == {"read": {"box_outside_image": 1}}
    sample = ShardDataset(tmp_path / "out/train").read(0)
    assert len(sample.conversations) == 3
    asked = sample.conversations[-1]
    assert asked.metadata == {
        "answer_type": "boxes",
        "boxes": [[0, 0, 0.5, 0.25]],
        "label": "Liver",
        "language": "en",
        "question_type": "boxes",
    }
    assert audit_sample(sample, Rules("conversations", FieldTexts(()), False, 10**7)).problems == []
    without = [
        item
        for unit in open_source("slake", str(folder)).units()
        for item in open_source("slake", str(folder)).read(unit)
    ]
    assert [len(item.conversations) for item in without] == [2, 1]
    with pytest.raises(PrepError, match="asks in English"):
        open_source("slake", str(folder), options={"boxes": True, "language": "zh"})


def test_a_detection_file_that_is_none_is_a_drop_and_the_questions_stay(tmp_path):
    folder = write(tmp_path / "in", [ROW])
    for content in ("{", "[1]", '[{"Liver": "0 0 1 1"}]'):
        (folder / "imgs/xmlab102/detection.json").write_text(content)
        source = open_source("slake", str(folder), options={"boxes": True})
        (unit, *_) = source.units()
        drop, sample = source.read(unit)
        assert (drop.reason, len(sample.conversations)) == ("bad_detection", 1)


TABLE = "images: file\nboxes: {columns: [x, y, w, h], layout: xywh, size: [200, 100], label: finding}\n"


def rows(*cells):
    names = ("x", "y", "w", "h", "finding")
    return [{"file": "a.jpg", **dict(zip(names, row, strict=True))} for row in cells]


def test_boxes_of_a_table(tmp_path):
    """The numbers count in 200 x 100 px, the image has half of that."""
    (tmp_path / "a.jpg").write_bytes(picture())
    cells = [(20, 20, 80, 30, "nodule"), ("100", "0", "100", "100", "nodule"), (None, None, None, None, "none")]
    (sample,) = items_of_records(tmp_path, TABLE, rows(*cells))
    (asked,) = sample.conversations
    assert asked.metadata["boxes"] == [[0.1, 0.2, 0.5, 0.5], [0.5, 0.0, 1.0, 1.0]]
    drop = items_of_records(tmp_path, TABLE, rows((20, 20, 80, "thirty", "nodule")))
    assert [item.reason for item in drop if isinstance(item, Dropped)] == ["box_not_numbers"]


def test_boxes_of_a_cell_and_a_phrase_as_the_label(tmp_path):
    (tmp_path / "a.jpg").write_bytes(picture())
    mapping = 'images: file\nboxes: {column: bbox, scale: "1", layout: yxyx, label: phrase, question: \'Where is "{label}"?\'}\n'
    entry = {"file": "a.jpg", "bbox": [[0.2, 0.1, 0.5, 0.5], [0.0, 0.5, 1.0, 1.0]], "phrase": "small left effusion"}
    (sample,) = items_of_records(tmp_path, mapping, [entry])
    (asked,) = sample.conversations
    assert asked.turns[0].text == '<image>\nWhere is "small left effusion"?'
    assert asked.metadata["boxes"] == [[0.1, 0.2, 0.5, 0.5], [0.5, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ("{column: b}", "boxes.label is missing"),
        ("{label: x}", "one of column and four columns"),
        ("{columns: [a, b], label: x}", "four columns"),
        ("{column: b, label: x, layout: xyhw}", "xyxy, xywh"),
        ("{column: b, label: x, scale: 10}", "pixels, 1, 100, 1000"),
        ("{column: b, label: x, question: Where}", "it has to say"),
        ("{column: b, label: x, size: [1]}", "width and height"),
    ],
)
def test_a_mapping_that_says_no_boxes_is_refused(tmp_path, boxes, message):
    with pytest.raises(PrepError, match=message):
        items_of_records(tmp_path, f"images: file\nboxes: {boxes}\n", [{"file": "a.jpg", "b": [0, 0, 1, 1]}])


def test_what_readers_do_not_agree_on_is_dropped_and_counted(tmp_path):
    """VinDr-CXR's train: three readers an image."""
    folder = MINIATURES["vindr_cxr"](tmp_path / "in")
    table = folder / "annotations" / "annotations_train.csv"
    lines = [
        "0007d316,R8,No finding,,,,",
        "000a1f1b,R8,ILD,0,0,5,5",
        "000a1f1b,R9,ILD,9,9,15,15",
        "000b2c2d,R9,ILD,9,9,4,4",
    ]
    table.write_text(table.read_text() + "".join(f"{line}\n" for line in lines))
    for name in ("0007d316", "000a1f1b", "000b2c2d"):
        (folder / "train" / f"{name}.png").write_bytes(jpeg(1))
    ledger = prepare("records", folder, tmp_path / "out", options={"mapping": "vindr_cxr"}).ledger
    train = ledger["splits"]["train"]
    assert (train["in"], train["out"]) == (4, 1)
    assert train["drops"]["read"] == {"box_negative_size": 1, "no_agreement": 1, "no_box": 1}
    (sample,) = [ShardDataset(tmp_path / "out" / "train").read(0)]
    (conversation,) = sample.conversations  # of one label; a reader's other is not asked for
    assert conversation.metadata["boxes"] == [pytest.approx([2 / 48, 2 / 48, 10 / 48, 9 / 48])]
    counts = json.dumps(ledger)
    assert '"boxes that too few readers drew": 3' in counts
    assert '"labels without a box that readers agree on": 2' in counts
    assert '"rows without a box": 1' in counts


def test_each_finding_of_a_study_is_a_row(tmp_path):
    folder = MINIATURES["padchest_gr"](tmp_path)
    file = folder / "grounded_reports_20240819.json"
    (study,) = json.loads(file.read_text())
    others = [{**study, "findings": findings} for findings in ([], [{"sentence_en": "Normal."}], "none")]
    file.write_text(json.dumps([study, *others]))
    source = open_source("records", str(folder), options={"mapping": "padchest_gr"})
    items = [item for unit in source.units() for item in source.read(unit)]
    assert [item.reason for item in items if isinstance(item, Dropped)] == ["bad_findings"]
    (sample,) = [item for item in items if not isinstance(item, Dropped)]
    assert [c.metadata["label"] for c in sample.conversations] == ["Right pleural effusion."]
    assert sample.metadata["group"] == "p1"
    assert source.input_counts["rows without a box"] == 3


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        ("{iou: 0.5}", "boxes.readers.column is missing"),
        ("{column: r, iou: 5}", "boxes.readers.iou is 5"),
        ("{column: r, least: 0}", "boxes.readers.least is 0"),
    ],
)
def test_readers_of_a_mapping_are_checked(tmp_path, readers, message):
    boxes = f"boxes: {{column: b, label: c, readers: {readers}}}"
    (tmp_path / "mine.yaml").write_text(f"files: {{train: a.csv}}\nimages: a\n{boxes}\n")
    with pytest.raises(PrepError, match=message):
        open_source("records", str(tmp_path), options={"mapping": str(tmp_path / "mine.yaml")})
