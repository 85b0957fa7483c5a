import json
from collections import Counter

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.vocabulary.text import tidy
from medvlp.shards import ShardDataset, verify
from tests.data_prep.folders import jpeg

ROW = {
    "qid": 7,
    "image_name": "synpic1.jpg",
    "image_organ": "HEAD",
    "answer": "Yes",
    "answer_type": "CLOSED ",
    "question_type": "PRES, ATTRIB",
    "question": " Is there a fracture?",
    "phrase_type": "freeform",
}


def write(folder, train, test, release=None):
    (folder / "images").mkdir(parents=True)
    for n in (1, 2):
        (folder / "images" / f"synpic{n}.jpg").write_bytes(jpeg(n))
    files = {"VQA_RAD_Dataset_Public.json": release} if release else {"trainset.json": train, "testset.json": test}
    for name, rows in files.items():
        (folder / name).write_text(json.dumps(rows))
    return folder


def items_of(folder, split):
    source = open_source("vqa_rad", str(folder))
    return [item for unit in source.units() if unit.split == split for item in source.read(unit)]


def test_the_published_files(test_data, tmp_path):
    folder = test_data / "vqa_rad"
    result = prepare("vqa_rad", str(folder), tmp_path / "out")
    assert (result.ledger["in"], result.ledger["out"], result.ledger["drops"]) == (517, 517, {})
    splits = {split: ShardDataset(tmp_path / "out" / split) for split in ("train", "test")}
    samples = {split: [data.read(i) for i in range(len(data))] for split, data in splits.items()}
    asked = {split: [c for sample in of_split for c in sample.conversations] for split, of_split in samples.items()}
    assert {split: (len(samples[split]), len(asked[split])) for split in splits} == {
        "train": (314, 3064),
        "test": (203, 451),
    }
    assert Counter(c.metadata["answer_type"] for c in asked["test"]) == {"closed": 272, "open": 179}
    assert Counter(c.metadata["answer_type"] for c in asked["train"]) == {"closed": 1823, "open": 1241}
    images = {split: {sample.metadata["image_id"] for sample in of_split} for split, of_split in samples.items()}
    assert len(images["train"] & images["test"]) == 203  # by design of the publisher
    published = json.loads((folder / "testset.json").read_text())
    shares = {
        c.id: (s.metadata["original_name"], *(t.text for t in c.turns))
        for s in samples["test"]
        for c in s.conversations
    }
    assert shares == {  # the shared stages turn tabs inside a text into blanks
        str(r["qid"]): (r["image_name"], "<image>\n" + tidy(r["question"]), tidy(r["answer"])) for r in published
    }
    for sample in samples["test"]:
        assert sample.images == {"jpg": (folder / "images" / sample.metadata["original_name"]).read_bytes()}
    assert verify(tmp_path / "out") == []


def test_the_published_release(test_data, tmp_path):
    """The file on OSF asks the same 451 test questions as testset.json."""
    for name in ("images", "VQA_RAD_Dataset_Public.json"):
        (tmp_path / name).symlink_to(test_data / "vqa_rad" / name)
    questions = Counter(c.turns[0].text for item in items_of(tmp_path, "test") for c in item.conversations)
    published = json.loads((test_data / "vqa_rad" / "testset.json").read_text())
    assert questions == Counter("<image>\n" + row["question"] for row in published)
    assert sum(len(item.conversations) for item in items_of(tmp_path, "train")) == 2248 - 451


def test_a_row_in_full(tmp_path):
    other = {**ROW, "qid": "8", "answer": 4, "answer_type": "OPEN", "question": "How many?"}
    folder = write(tmp_path / "in", [ROW, {**ROW, "image_name": "synpic2.jpg"}, other], [ROW])
    first, second = items_of(folder, "train")
    assert [c.id for c in first.conversations] == ["7", "8"]
    assert [t.text for c in first.conversations for t in c.turns] == [
        "<image>\nIs there a fracture?",
        "Yes",
        "<image>\nHow many?",
        "4",
    ]
    assert first.conversations[0].metadata == {
        "question_type": "PRES, ATTRIB",
        "answer_type": "closed",
        "language": "en",
        "phrase_type": "freeform",
    }
    assert first.metadata == {
        "group": "synpic1",
        "group_kind": "image",
        "image_id": "synpic1",
        "licence": "CC0-1.0",
        "organ": "HEAD",
        "original_name": "synpic1.jpg",
        "source": "vqa_rad",
    }
    assert second.images == {"jpg": jpeg(2)}
    keys = [item.key for split in ("train", "test") for item in items_of(folder, split)]
    assert keys == ["vqa_rad__synpic1__train__0", "vqa_rad__synpic2__train__0", "vqa_rad__synpic1__test__0"]


def test_the_release(tmp_path):
    rows = [ROW, {**ROW, "qid": "0", "phrase_type": "test_para"}, {**ROW, "qid": 9, "phrase_type": "para"}]
    folder = write(tmp_path / "in", None, None, release=rows)
    ids = {split: [c.id for item in items_of(folder, split) for c in item.conversations] for split in ("train", "test")}
    assert ids == {"train": ["7", "9"], "test": ["0"]}


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({"answer_type": "MAYBE"}, "bad_answer_type", "answer_type is 'maybe', expected OPEN or CLOSED"),
        ({"answer": None}, "missing_answer", "answer is null"),
        ({"answer": " "}, "empty_answer", "answer is empty"),
        ({"answer": ["Yes"]}, "bad_answer", "answer is a list, expected a text or a number"),
        ({"question": "<image> what?"}, "placeholder_count", "holds <image>"),
        ({"question": "\ud800"}, "not_utf8", "question cannot be written as UTF-8 (character 0)"),
        ({"image_name": "../trainset.json"}, "bad_path", "is not a relative path that stays in the image folder"),
        ({"image_name": "/etc/passwd"}, "bad_path", "is not a relative path that stays in the image folder"),
        ({"image_name": "synpic3.jpg"}, "missing_image", "synpic3.jpg is not in the image folder images/"),
    ],
)
def test_rows_that_cannot_become_samples(tmp_path, change, reason, detail):
    folder = write(tmp_path / "in", [ROW, {**ROW, "image_name": "synpic2.jpg", "qid": 8, **change}], [ROW])
    sample, drop = items_of(folder, "train")
    assert len(sample.conversations) == 1
    assert isinstance(drop, Dropped)
    assert (drop.name, drop.reason) == ("trainset.json entry 2 (qid 8)", reason)
    assert detail in drop.detail


def test_every_question_of_a_lost_image_is_named(tmp_path):
    folder = write(tmp_path / "in", [ROW, {**ROW, "qid": 8}, "noise"], [ROW])
    (folder / "images" / "synpic1.jpg").write_bytes(b"GIF89a")
    assert [(item.name, item.reason) for item in items_of(folder, "train")] == [
        ("trainset.json entry 1 (qid 7)", "image_format"),
        ("trainset.json entry 2 (qid 8)", "image_format"),
        ("trainset.json entry 3", "bad_row"),
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[1, 2", "line 1 column 6 is not JSON"),
        (b'["\xe9"]', "is not UTF-8: byte 0xe9 at offset 2"),
        (b"{}", "holds a dict, expected a list of entries"),
        (b"[" * 100_000, "holds brackets too deep in each other"),
    ],
)
def test_files_that_are_no_list(tmp_path, content, complaint):
    folder = write(tmp_path / "in", [ROW], [ROW])
    (folder / "trainset.json").write_bytes(content)
    with pytest.raises(PrepError, match=complaint):
        open_source("vqa_rad", str(folder)).units()


def test_a_folder_without_questions(tmp_path):
    folder = write(tmp_path / "in", [ROW], [ROW])
    (folder / "testset.json").unlink()
    with pytest.raises(PrepError, match=r"needs images/ and either .* found trainset.json"):
        open_source("vqa_rad", str(folder))


def test_another_image_changes_the_fingerprint(tmp_path):
    folder = write(tmp_path / "in", [ROW], [ROW])
    before = open_source("vqa_rad", str(folder)).fingerprint()
    assert open_source("vqa_rad", str(folder)).fingerprint() == before
    (folder / "images" / "synpic1.jpg").write_bytes(jpeg(1, side=64))
    after = open_source("vqa_rad", str(folder)).fingerprint()
    assert {name for name in before if before[name] != after[name]} == {"images of train", "images of test"}
