import json
import os

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.readers import guarded, image_files
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.questions.llava_json import LlavaJson, split_of
from medvlp.boxes.placeholders import box_faults
from medvlp.shards import Sample, ShardDataset, verify
from tests.data_prep.folders import jpeg

LLAVA_MED = [  # instruction data: dialogues, the placeholder before or after the first question
    {
        "id": "27470530",
        "image": "27470530_F1.jpg",
        "domain": {"chest_xray": False, "mri": False, "histology": "no", "gross": False, "ct_scan": True},
        "conversations": [
            {"from": "human", "value": "What does the scan show?\n<image>"},
            {"from": "gpt", "value": "An axial slice of the abdomen."},
            {"from": "human", "value": "Is there a mass?"},
            {"from": "gpt", "value": "Yes, in the left kidney."},
        ],
    },
    {
        "id": "29344246",
        "image": "29344246_F2.jpg",
        "domain": {"chest_xray": True, "mri": False, "histology": False, "gross": False, "ct_scan": False},
        "conversations": [
            {"from": "human", "value": "<image>\nDescribe the image."},
            {"from": "gpt", "value": "A chest radiograph."},
        ],
    },
]
LLAVA_MED_QUESTIONS = [  # its question files: another spelling, numbers among the answers
    {
        "id": 12,
        "image": "synpic1.jpg",
        "answer_type": "OPEN ",
        "conversatons": [{"from": "human", "value": "How many nodules?\n<image>"}, {"from": "gpt", "value": 4}],
    },
    {
        "id": 13,
        "image": "synpic1.jpg",
        "answer_type": "CLOSED",
        "conversatons": [{"from": "human", "value": "<image>\nIs it a CT?"}, {"from": "gpt", "value": "yes"}],
    },
]
QUILT = [
    {
        "id": "0Jmqj5nNT7I_roi_5c3a",
        "image": "quilt/0Jmqj5nNT7I_1.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat pattern is seen?"},
            {"from": "gpt", "value": "A cribriform pattern."},
        ],
    }
]
PUBMEDVISION = [
    {
        "id": "identity_1",
        "image": ["images/a_0.jpg", "images/a_1.jpg"],
        "conversations": [
            {"from": "human", "value": "Compare them."},
            {"from": "gpt", "value": "The second is later."},
        ],
        "modality": "Computed Tomography",
        "body_part": "Chest",
    }
]


def write(path, entries, images=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    for n, name in enumerate(images):
        image = path.parent / name
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(jpeg(n))
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    else:
        path.write_text(json.dumps(entries))
    return path


def items_of(file, flag=""):
    source = open_source("llava_json", str(file), flag=flag)
    return [item for unit in source.units() for item in source.read(unit)]


def said(conversation):
    return [(turn.role, turn.text) for turn in conversation.turns]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_llava_med(tmp_path, suffix):
    file = write(tmp_path / f"instruct_60k{suffix}", LLAVA_MED, ["27470530_F1.jpg", "29344246_F2.jpg"])
    first, second = items_of(file)
    (dialogue,) = first.conversations
    assert said(dialogue) == [
        ("user", "What does the scan show?\n<image>"),
        ("assistant", "An axial slice of the abdomen."),
        ("user", "Is there a mass?"),
        ("assistant", "Yes, in the left kidney."),
    ]
    assert (dialogue.id, dialogue.metadata) == ("27470530", {})
    assert first.images == {"jpg": jpeg(0)}
    assert first.metadata == {
        "group": "27470530_F1.jpg",
        "group_kind": "image",
        "image_id": "27470530_F1.jpg",
        "licence": "unknown",
        "modality": "ct_scan",
        "original_name": "27470530_F1.jpg",
        "source": "llava_json",
    }
    assert second.metadata["modality"] == "chest_xray"
    assert said(second.conversations[0])[0] == ("user", "<image>\nDescribe the image.")


def test_question_files_of_llava_med(tmp_path):
    (sample,) = items_of(write(tmp_path / "vqa_rad_test.json", LLAVA_MED_QUESTIONS, ["synpic1.jpg"]))
    number, text = sample.conversations
    assert said(number) == [("user", "How many nodules?\n<image>"), ("assistant", "4")]
    assert (number.id, number.metadata) == ("12", {"answer_type": "open", "mended": ["conversatons", "numbers"]})
    assert (text.id, text.metadata) == ("13", {"answer_type": "closed", "mended": ["conversatons"]})


def test_quilt_instruct(tmp_path):
    file = write(tmp_path / "quilt_instruct_107k.json", QUILT, ["media/quilt/0Jmqj5nNT7I_1.jpg"])
    (lost,) = items_of(file)
    assert lost == Dropped(
        "quilt_instruct_107k.json entry 1 (id 0Jmqj5nNT7I_roi_5c3a)",
        "missing_image",
        f"quilt/0Jmqj5nNT7I_1.jpg is not in the image folder {file.parent.name}/, but in media/: give options.images=media",
    )
    for flag in ("media", str(tmp_path / "media")):
        (sample,) = items_of(file, flag=flag)
        assert sample.images == {"jpg": jpeg(0)}
        assert sample.metadata["original_name"] == "quilt/0Jmqj5nNT7I_1.jpg"
        assert sample.key.startswith("llava_json__quilt_instruct_107k__quilt-0Jmqj5nNT7I_1-jpg__train-")


def test_pubmedvision(tmp_path):
    file = write(tmp_path / "PubMedVision.json", PUBMEDVISION, ["images/a_0.jpg", "images/a_1.jpg"])
    (sample,) = items_of(file)
    assert sample.images == {"0.jpg": jpeg(0), "1.jpg": jpeg(1)}
    (conversation,) = sample.conversations
    assert said(conversation) == [("user", "<image>\n<image>\nCompare them."), ("assistant", "The second is later.")]
    assert conversation.metadata == {"mended": ["placeholders"]}
    assert sample.metadata["original_names"] == ["images/a_0.jpg", "images/a_1.jpg"]
    assert (sample.metadata["modality"], sample.metadata["organ"]) == ("Computed Tomography", "Chest")


def entry(images="a.jpg", question="<image>\nWhat?", id="x", **changes):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "An answer."}]
    return {"id": id, "image": images, "conversations": turns, **changes}


def test_many_images_keep_their_order(tmp_path):
    names = [f"{n}.jpg" for n in range(12)]
    (sample,) = items_of(write(tmp_path / "x.json", [entry(names[::-1], "What?")], names))
    assert sorted(sample.images)[:3] == ["00.jpg", "01.jpg", "02.jpg"]
    assert [sample.images[name] for name in sorted(sample.images)] == [jpeg(n) for n in range(11, -1, -1)]
    assert sample.conversations[0].turns[0].text.count("<image>") == 12


def test_the_longest_turn_and_the_most_images(tmp_path):
    turns = [{"from": "human", "value": "<image>" * 64}, {"from": "gpt", "value": "x" * 100_000}]
    (sample,) = items_of(write(tmp_path / "x.json", [entry(["a.jpg"] * 64, conversations=turns)], ["a.jpg"]))
    assert len(sample.images) == 64
    assert len(sample.conversations[0].turns[1].text) == 100_000


def test_rows_are_gathered_by_their_images(tmp_path):
    entries = [
        entry("a.jpg", id="1"),
        entry("b.jpg", id="2"),
        entry(None, "Text only?", id="3"),
        entry(["a.jpg", "b.jpg"], "<image> and <image>?", id="4"),
        entry(["a.jpg"], id="5"),
        {"id": "6", "conversations": entry(question="Text only?")["conversations"]},
        entry([], "Text only?", id="7"),
    ]
    file = write(tmp_path / "x.jsonl", entries, ["a.jpg", "b.jpg"])
    samples = items_of(file)
    assert [[c.id for c in s.conversations] for s in samples] == [["1", "5"], ["2"], ["3"], ["4"], ["6"], ["7"]]
    assert [len(s.images) for s in samples] == [1, 1, 0, 2, 0, 0]
    assert len({s.key for s in samples}) == 6
    assert samples[2].metadata == {
        "group": "x.jsonl line 3 (id 3)",
        "group_kind": "entry",
        "licence": "unknown",
        "original_name": "x.jsonl line 3 (id 3)",
        "source": "llava_json",
    }
    result = prepare("llava_json", str(file), tmp_path / "out")
    assert (result.ledger["out"], verify(tmp_path / "out")) == (6, [])
    read = ShardDataset(tmp_path / "out" / "train").read(3)
    assert read.conversations[0].turns[0].text == "<image> and <image>?"


def test_a_system_turn(tmp_path):
    spoken = entry()
    spoken["conversations"].insert(0, {"from": "system", "value": "Be brief."})
    (sample,) = items_of(write(tmp_path / "x.json", [spoken], ["a.jpg"]))
    assert said(sample.conversations[0])[:2] == [("system", "Be brief."), ("user", "<image>\nWhat?")]


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("llava_med_instruct_60k", "train"),
        ("train", "train"),
        ("slake_test", "test"),
        ("pvqa-val-2", "valid"),
        ("validation", "valid"),
        ("latest_contest", "train"),
        ("VQA.Test", "test"),
    ],
)
def test_the_split_that_a_name_tells(stem, split):
    assert split_of(stem) == split


HUMAN, GPT = {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        ("text", "bad_row", "the entry is a str, expected an object"),
        ({"image": "a.jpg"}, "missing_conversations", "conversations is missing"),
        (entry(conversations=None), "missing_conversations", "conversations is null"),
        (entry(conversations={}), "bad_conversations", "conversations is a dict, expected a list of turns"),
        (entry(conversations=[]), "empty_conversations", "conversations is an empty list"),
        (entry(conversations=["hi"]), "bad_conversations", "conversations[0] is a str, expected an object"),
        (entry(conversations=[HUMAN, {"value": "x"}]), "missing_role", "conversations[1].from is missing"),
        (
            entry(conversations=[HUMAN, {"from": "bot", "value": "x"}]),
            "unknown_role",
            "[1].from is 'bot', expected one",
        ),
        (entry(conversations=[HUMAN, {"from": ["gpt"], "value": "x"}]), "unknown_role", "[1].from is \"['gpt']\""),
        (entry(conversations=[HUMAN, {"from": "gpt"}]), "missing_value", "conversations[1].value is missing"),
        (entry(conversations=[HUMAN, {"from": "gpt", "value": []}]), "bad_value", "conversations[1].value is a list"),
        (entry(conversations=[HUMAN, {"from": "gpt", "value": True}]), "bad_value", "[1].value is a bool"),
        (entry(conversations=[HUMAN, {"from": "gpt", "value": float("nan")}]), "bad_value", "[1].value is nan"),
        (
            entry(conversations=[HUMAN, {"from": "gpt", "value": " \n"}]),
            "empty_value",
            "conversations[1].value is empty",
        ),
        (entry(conversations=[HUMAN, {"from": "gpt", "value": "\ud800"}]), "not_utf8", "conversations[1].value cannot"),
        (entry(conversations=[HUMAN, HUMAN, GPT]), "turn_order", "[1] is from the user, expected the assistant"),
        (entry(conversations=[GPT, HUMAN]), "turn_order", "[0] is from the assistant, expected the user"),
        (entry(conversations=[HUMAN]), "turn_order", "ends with the user, expected an answer"),
        (
            entry(question="<image><image> Which?"),
            "placeholder_count",
            "2 <image> in the conversation, but image names 1",
        ),
        (entry(["a.jpg", "a.jpg"]), "placeholder_count", "1 <image> in the conversation, but image names 2"),
        (entry(None), "placeholder_count", "1 <image> in the conversation, but image names 0"),
        (
            entry(conversations=[HUMAN, {"from": "gpt", "value": "<image> it is"}]),
            "placeholder_count",
            "conversations[1].value holds <image>, which only turns from human may",
        ),
        (
            entry(conversations=[HUMAN, {"from": "gpt", "value": "x" * 100_001}]),
            "long_value",
            "conversations[1].value has 100001 characters, at most 100000 are read",
        ),
        (
            entry(["a.jpg"] * 65, "<image>" * 65),
            "too_many_images",
            "image names 65, at most 64 become one sample",
        ),
        (entry(7), "bad_image", "image is '7', expected the name of a file"),
        (entry(["a.jpg", None]), "bad_image", "image[1] is 'None', expected the name of a file"),
        (entry(""), "bad_image", "image is '', expected the name of a file"),
        (entry("no.jpg"), "missing_image", "no.jpg is not in the image folder"),
        (entry("../secret.jpg"), "bad_path", "'../secret.jpg' is not a relative path that stays in the image folder"),
        (entry("/etc/passwd"), "bad_path", "'/etc/passwd' is not a relative path"),
        (entry("link.jpg"), "bad_path", "link.jpg is a link that leaves the image folder"),
        (entry("linked/secret.jpg"), "bad_path", "linked/secret.jpg is a link that leaves the image folder"),
        (entry("pipe.jpg"), "bad_path", "pipe.jpg is not a regular file"),
        (entry("folder"), "bad_path", "folder is not a regular file"),
        (entry("n" * 300), "bad_path", "is not a regular file"),
        (entry("a.jpg/b.jpg"), "bad_path", "a.jpg/b.jpg is not a regular file"),
        (entry("a\0.jpg"), "bad_path", "is not a relative path"),
        (entry("scan.jpg"), "image_format", "scan.jpg begins with b'GIF89a'"),
        (entry("large.jpg"), "image_too_large", "large.jpg has 5001 bytes, at most 5000 are read"),
        (entry(id=[1]), "bad_id", "id is a list, expected a text or a number"),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_entries_that_cannot_become_samples(tmp_path, monkeypatch, bad, reason, detail, suffix):
    monkeypatch.setattr(image_files, "MAX_IMAGE_BYTES", 5000)
    folder = tmp_path / "in"
    file = write(folder / f"x{suffix}", [entry(id="good"), bad], ["a.jpg"])
    (tmp_path / "secret.jpg").write_bytes(jpeg(5))
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "scan.jpg").write_bytes(b"GIF89a")
    (folder / "large.jpg").write_bytes(jpeg(5).ljust(5001, b"\0"))
    sample, drop = items_of(file)
    assert [c.id for c in sample.conversations] == ["good"]
    assert isinstance(drop, Dropped)
    assert (drop.reason, drop.name.partition(" (")[0]) == (
        reason,
        f"x{suffix} {'entry' if suffix == '.json' else 'line'} 2",
    )
    assert detail in drop.detail
    open_source("llava_json", str(file)).fingerprint()  # must not stumble over the same rows


def test_lines_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "MAX_LINE_BYTES", 20_000)
    good = json.dumps(entry(None, "What?")).encode()
    lines = [
        b"\xef\xbb\xbf" + good,
        b"",
        b'{"id": "caf\xe9"}',
        b'{"id": "unfinished", ',
        b'{"id": "' + b"x" * 50_000 + b'"}',
        b'{"id": ' + b"1" * 5000 + b"}",
        b"[" * 19_000,
        good,
    ]
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\r\n".join(lines) + b"\n\n")
    items = items_of(file)
    drops = {item.name: (item.reason, item.detail) for item in items if isinstance(item, Dropped)}
    assert drops["x.jsonl line 3"] == ("not_utf8", "byte 0xe9 at offset 11 of the line is not UTF-8")
    assert drops["x.jsonl line 4"] == (
        "bad_json",
        "column 21: Expecting property name enclosed in double quotes",
    )
    assert drops["x.jsonl line 5"] == ("line_too_long", "the line has more than 20000 bytes")
    assert (drops["x.jsonl line 6"][0], drops["x.jsonl line 7"][0]) == ("bad_json", "bad_json")
    assert len(drops) == 5
    assert [item.metadata["original_name"] for item in items if not isinstance(item, Dropped)] == [
        "x.jsonl line 1 (id x)",
        "x.jsonl line 8 (id x)",
    ]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'[{"id": "caf\xe9"}]', r"x\.json is not UTF-8: byte 0xe9 at offset 12;"),
        (
            b'{"id": 1}\n{"id": 2}\n',
            r"line 2 column 1 is not JSON: Extra data; call it \.jsonl if each line is an entry",
        ),
        (b"[" + b"1" * 5000 + b"]", r"x\.json holds an integer of more than 4300 digits"),
        (b"", r"line 1 column 1 is not JSON"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, content, complaint):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(PrepError, match=complaint):
        open_source("llava_json", str(tmp_path / "x.json")).units()


def test_inputs_that_are_no_file_of_conversations(tmp_path):
    with pytest.raises(PrepError, match=r"holds no \.json or \.jsonl file"):
        open_source("llava_json", str(tmp_path))
    for wrong in ("", str(tmp_path / "no.json")):
        with pytest.raises(PrepError, match=r"is not a \.json or \.jsonl file"):
            open_source("llava_json", wrong)
    file = write(tmp_path / "x.json", [])
    for flag in ("nowhere", "../elsewhere", ".."):
        with pytest.raises(PrepError, match=r"is not a folder below"):
            open_source("llava_json", str(file), flag=flag)


def test_a_rationale_stays_with_its_question(tmp_path):
    rows = [entry(id="r", rationale="The costophrenic angle is blunted.")]
    (sample,) = items_of(write(tmp_path / "train.json", rows, ["a.jpg"]))
    assert sample.conversations[0].metadata == {"rationale": "The costophrenic angle is blunted."}


def test_boxes_stand_where_the_turns_say_and_a_region_in_the_first_question(tmp_path):
    asked = {"from": "human", "value": "<image>\nWhere?"}
    answer, first, second = {"from": "gpt", "value": "<box> <box>"}, [0, 0.25, 0.5, 1], [0.5, 0, 1, 1]
    rows = [
        entry(id="region", box=first),
        entry(
            id="placed",
            box=first,
            conversations=[{**asked, "value": "<image>\nWhat is <box>?"}, {**answer, "value": "A."}],
        ),
        entry(id="answer", boxes=[first, second], answer_type="boxes", conversations=[asked, answer]),
        entry(id="text", conversations=[asked, answer]),
        entry(id="pixels", box=[10, 20, 200, 300]),
        entry(id="short", boxes=[[0.1, 0.2]]),
        entry(id="both", box=first, boxes=[first]),
        entry(id="one", boxes=[first], conversations=[asked, answer]),
        {**entry(id="none", box=first, conversations=[{**asked, "value": "Where?"}, answer]), "image": None},
    ]
    path = write(tmp_path / "train.json", rows, ["a.jpg"])
    *samples, pixels, short, both, uneven, bare = items_of(path)
    conversations = {c.id: c for sample in samples for c in sample.conversations}
    texts = {name: [turn.text for turn in c.turns] for name, c in conversations.items()}
    assert texts["region"][0].endswith("? Region: <box>")
    assert texts["region"][0].count("<image>") == 1
    assert texts["placed"][0] == "<image>\nWhat is <box>?"
    assert {name: c.metadata.get("boxes") for name, c in conversations.items()} == {
        "region": [[0, 0.25, 0.5, 1]], "placed": [[0, 0.25, 0.5, 1]], "answer": [first, second], "text": None
    }  # fmt: skip
    assert not [fault for sample in samples for c in sample.conversations for fault in box_faults(c, 1)]
    assert [drop.reason for drop in (pixels, short, both, uneven, bare)] == ["bad_boxes"] * 3 + [
        "box_count",
        "bad_boxes",
    ]
    assert "(id pixels)" in pixels.name
    source = LlavaJson(str(path), region="In <box>: {question}")
    first_sample = next(item for item in source.read(source.units()[0]) if isinstance(item, Sample))
    assert first_sample.conversations[0].turns[0].text.startswith("<image>\nIn <box>: ")
    with pytest.raises(PrepError, match=r"options.region=Here has to have \{question\} and <box>"):
        LlavaJson(str(path), region="Here")


def test_options_stay_and_what_cannot_be_used_is_counted(tmp_path):
    """A field that is asked for, but holds nothing that a sample can have, is counted like one that nobody asks for."""
    turns = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "Nodule"}]
    entry = {"id": 1, "conversations": turns, "options": ["Mass", "Nodule"], "answer_letter": "B"}
    lost = {"rationale": {"steps": []}, "question_type": ["size"], "modality": ["CT"], "domain": "ct", "answer_idx": 1}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text(json.dumps([entry, {**entry, "id": 2, **lost}]))
    result = prepare("llava_json", str(tmp_path / "in"), tmp_path / "out")
    dataset = ShardDataset(tmp_path / "out" / "train")
    for row in range(2):
        metadata = dataset.read(row).conversations[0].metadata
        assert metadata["options"] == {"A": "Mass", "B": "Nodule"}
        assert metadata["answer_letter"] == "B"
    counts = result.ledger["counts"]["read"]
    assert {name: counts.get(f"fields ignored: {name}") for name in lost} == dict.fromkeys(lost, 1)
