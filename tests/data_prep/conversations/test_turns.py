"""Conversations, images and options in the forms in which people write them: read, or refused with a reason."""

import json

import pytest

from data_prep.conversations.multiple_choice import choice_of, inline_options, letter_of, options_of
from data_prep.conversations.turns import read_turns
from data_prep.errors import BadRow, PrepError
from data_prep.pipeline import prepare
from data_prep.readers.fields import Entry
from data_prep.readers.image_fields import image_names, located
from data_prep.source import Dropped
from data_prep.sources import open_source
from tests.data_prep.folders import jpeg
from tests.data_prep.sources.questions.test_llava_json import items_of, write

HUMAN, GPT = {"from": "human", "value": "Which plane?"}, {"from": "gpt", "value": "Coronal."}
TURNS = {"conversations": [HUMAN, GPT]}
USER, ASSISTANT = {"role": "user", "content": "Which plane?"}, {"role": "assistant", "content": "Coronal."}


def parts(*items):
    return {"messages": [{"role": "user", "content": list(items)}, ASSISTANT]}


TEXT = {"type": "text", "text": "Which plane?"}
FORMS = [
    ({"images": ["a.jpg"], **TURNS}, ["image_key", "placeholders"], "images"),
    ({"image_path": "a.jpg", **TURNS}, ["image_key", "placeholders"], "image_path"),
    ({"img": "a.jpg", **TURNS}, ["image_key", "placeholders"], "img"),
    ({"image_url": {"url": "a.jpg"}, **TURNS}, ["image_key", "placeholders"], "image_url"),
    ({"images": [{"path": "a.jpg", "bytes": None}], **TURNS}, ["image_key", "placeholders"], "images"),
    ({"xray_front": "a.jpg", "view": "front", **TURNS}, ["image_key", "placeholders"], "xray_front"),
    ({"image": "a.jpg", "image_url": "https://example.org/a.jpg", **TURNS}, ["placeholders"], None),
    ({"image": "a.jpg", "path": "a.jpg", **TURNS}, ["placeholders"], None),
    ({"image": "./a.jpg", "messages": [USER, ASSISTANT]}, ["placeholders"], None),
    ({"image": "a.jpg", "conversations": [USER, ASSISTANT]}, ["placeholders"], None),
    (parts({"type": "image", "image": "a.jpg"}, TEXT), [], None),
    (parts({"type": "image_url", "image_url": {"url": "file://a.jpg"}}, TEXT), [], None),
    ({"images": ["a.jpg"], **parts({"type": "image"}, TEXT)}, ["image_key"], "images"),
    ({"image": "a.jpg", "question": "Which plane?", "answer": "Coronal."}, ["placeholders"], None),
    ({"images": ["a.jpg"], "query": "<image>\nWhich plane?", "response": "Coronal."}, ["image_key"], "images"),
    ({"image": "a.jpg", "instruction": "Which plane?", "input": "", "output": "Coronal."}, ["placeholders"], None),
    ({"conversations": [{**HUMAN, "value": "<img>a.jpg</img>\nWhich plane?"}, GPT]}, [], None),
    ({"conversations": [{**HUMAN, "value": "![the scan](a.jpg)\nWhich plane?"}, GPT]}, [], None),
    ({"image": "a.jpg", "conversations": [{**HUMAN, "value": "<image_1>\nWhich plane?"}, GPT]}, ["placeholders"], None),
    (
        {"image": "a.jpg", "conversations": [{**HUMAN, "value": "<ImageHere>\nWhich plane?"}, GPT]},
        ["placeholders"],
        None,
    ),
]


@pytest.mark.parametrize(("entry", "mended", "key"), FORMS)
def test_every_form_gives_the_same_sample(tmp_path, entry, mended, key):
    (sample,) = items_of(write(tmp_path / "train.json", [entry], ["a.jpg"]))
    (conversation,) = sample.conversations
    assert sample.images == {"jpg": jpeg(0)}
    assert sample.metadata["original_name"] == "a.jpg"
    assert [(t.role, t.text) for t in conversation.turns] == [
        ("user", "<image>\nWhich plane?"),
        ("assistant", "Coronal."),
    ]
    assert (conversation.metadata.get("mended", []), conversation.metadata.get("image_key")) == (mended, key)


@pytest.mark.parametrize(
    ("entry", "reason", "detail"),
    [
        ({"images": "a.jpg", "image_path": "b.jpg"}, "unclear_image", "images 'a.jpg', image_path 'b.jpg'; keep one"),
        ({"front": "a.jpg", "side": "b.jpg"}, "unclear_image", "front 'a.jpg', side 'b.jpg'"),
        ({"images": 3}, "bad_image", "images is '3', expected the name of a file"),
        ({"image_url": "https://example.org/a.jpg"}, "remote_image", "nothing is fetched; download it"),
        ({"image": "data:image/png;base64,iVBOR"}, "embedded_image", "write it to a file, and name that"),
        ({"image": {"bytes": "iVBOR", "path": None}}, "embedded_image", "image holds the image itself"),
        ({"image": "../a.jpg"}, "bad_path", "is not a relative path that stays in the image folder"),
        (
            {"conversations": [{**HUMAN, "value": "<image_1> Which plane?"}, GPT]},
            "placeholder_count",
            "<image_1> stands for an image in the conversation, but the entry names none",
        ),
        (
            {"image": "a.jpg", **parts({"type": "image", "image": "b.jpg"}, TEXT)},
            "unclear_image",
            "image names 'a.jpg', the turns name 'b.jpg'",
        ),
        (parts({"type": "video", "video": "a.mp4"}, TEXT), "bad_value", "is of type 'video', expected text or image"),
        (parts({"type": "text"}), "bad_value", "content[0].text is a NoneType, expected a text"),
        ({"messages": [{"role": "user", "content": None}, ASSISTANT]}, "missing_value", "messages[0].content is null"),
        ({"messages": [{"content": "x"}, ASSISTANT]}, "missing_role", "messages[0].role is missing"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "unknown_role", "messages[0].role is 'tool'"),
    ],
)
def test_no_form_becomes_text_without_a_word(tmp_path, entry, reason, detail):
    turns = {} if entry.keys() & {"messages", "conversations"} else TURNS
    (drop,) = items_of(write(tmp_path / "train.json", [{**entry, **turns}], ["a.jpg", "b.jpg"]))
    assert isinstance(drop, Dropped)
    assert drop.reason == reason
    assert detail in drop.detail


def test_an_entry_without_images_stays_one():
    entry = Entry({"id": "a.b", "source": "chapter 3", "note": "see fig.jpg and text", **TURNS})
    assert image_names(entry, ("conversations", "id")) == ("", [])
    assert read_turns(entry).images == []


def test_names_below_the_image_folder(tmp_path):
    images = tmp_path / "in" / "images"
    images.mkdir(parents=True)
    (images / "a.jpg").write_bytes(jpeg(1))
    assert located("images/a.jpg", images, tmp_path / "in") == "a.jpg"
    assert located(f"{images}/a.jpg", images, tmp_path / "in") == "a.jpg"
    assert located(f"file://{images}/sub/../a.jpg", images, tmp_path / "in") == "a.jpg"
    assert located("images/b.jpg", images, tmp_path / "in") == "images/b.jpg"
    assert located("/etc/passwd", images, tmp_path / "in") == "/etc/passwd"
    with pytest.raises(BadRow, match="remote_image"):
        located("s3://bucket/a.jpg", images, tmp_path)


OPTIONS = {"A": "Effusion", "B": "Nodule"}


@pytest.mark.parametrize(
    "value",
    [
        OPTIONS,
        ["Effusion", "Nodule"],
        ["A. Effusion", "B. Nodule"],
        ["(A) Effusion", "(B) Nodule"],
        "A: Effusion\nB: Nodule\n",
    ],
)
def test_options_in_any_form(value):
    assert options_of(value) == OPTIONS


def test_a_letter_in_front_that_is_no_label():
    assert options_of(["A small nodule", "B cells"]) == {"A": "A small nodule", "B": "B cells"}
    assert options_of({"1": "yes", "2": "no"}) == {"1": "yes", "2": "no"}
    assert options_of(["yes", None]) == options_of(7) == options_of({"A": ["x"]}) == {}


@pytest.mark.parametrize(
    ("said", "letter"),
    [("B", "B"), ("(b)", "B"), ("B.", "B"), ("nodule.", "B"), ("B. Nodule", "B"), ("A. Nodule", ""), ("Both", "")],
)
def test_the_option_that_an_answer_names(said, letter):
    assert letter_of(said, OPTIONS) == letter


def test_options_make_a_question_of_multiple_choice():
    known = {"answer_type": "multiple_choice", "options": OPTIONS, "answer_letter": "B"}
    assert choice_of(Entry({"options": OPTIONS, "answer_letter": "B"}), "It is a nodule, since ...") == (known, [])
    assert choice_of(Entry({"choices": ["Effusion", "Nodule"]}), "Nodule") == (known, [])
    assert choice_of(Entry({"options": OPTIONS, "answer": "Nodule"}), "I see a nodule.") == (known, [])
    assert choice_of(Entry({"options": OPTIONS, "answer_idx": "B"}), "B") == (known, [])
    assert choice_of(Entry({"options": OPTIONS}), "<think>\nIt is round.\n</think>\n\nB") == (known, [])
    assert choice_of(Entry({}), "Nodule") == ({}, [])
    with pytest.raises(BadRow, match="answer_mismatch"):
        choice_of(Entry({"options": OPTIONS, "answer_letter": "A"}), "Nodule")


def test_options_of_which_none_is_right_are_counted_as_ignored():
    assert choice_of(Entry({"options": OPTIONS}), "Something else.") == ({}, ["options"])
    assert choice_of(Entry({"options": "free text", "answer_letter": "B"}), "B") == ({}, ["options", "answer_letter"])


def test_fields_of_turns_and_of_entries_that_are_not_read_are_counted(tmp_path):
    entry = {"images": "a.jpg", "split_id": 3, "conversations": [{**HUMAN, "time": 3}, {**GPT, "weight": 1}]}
    choice = {"images": "a.jpg", "options": ["x", "y"], **TURNS}
    source = open_source("llava_json", str(write(tmp_path / "train.json", [entry, choice], ["a.jpg"])))
    for unit in source.units():
        list(source.read(unit))
    assert {name: count for (_, name), count in source.counts.items()} == {
        "fields ignored: split_id": 1,
        "fields ignored: conversations.time": 1,
        "fields ignored: conversations.weight": 1,
        "fields ignored: options": 1,
        "mended: images under the key images": 2,
        "mended: <image> put where it was missing": 2,
    }


def test_a_folder_holds_all_splits(tmp_path):
    for name, image in (
        ("train_60k.json", "a.jpg"),
        ("more.jsonl", "a.jpg"),
        ("val.json", "b.jpg"),
        ("test.json", "c.jpg"),
    ):
        write(tmp_path / "in" / name, [{"id": name, "image": image, **TURNS}], [image])
    (tmp_path / "in" / "._train_60k.json").write_bytes(b"mac")
    result = prepare("llava_json", tmp_path / "in", tmp_path / "out")
    assert {split: page["out"] for split, page in result.ledger["splits"].items()} == {
        "train": 1,
        "valid": 1,
        "test": 1,
    }
    source = open_source("llava_json", str(tmp_path / "in"))
    samples = [item for unit in source.units() for item in source.read(unit)]
    assert [c.id for c in samples[0].conversations] == ["more.jsonl", "train_60k.json"]
    some = open_source("llava_json", str(tmp_path / "in"), options={"files": ["val.json", "train_60k.json"]})
    assert [path.name for path in some.tables()] == ["train_60k.json", "val.json"]
    assert some.splits == ("train", "valid")


def test_a_folder_for_each_split(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split / "data.json", [{"id": 1, "image": f"{split}/a.jpg", **TURNS}])
        (tmp_path / split / "a.jpg").write_bytes(jpeg(1))
    source = open_source("llava_json", str(tmp_path))
    images_of_splits = [(unit.split, item.images) for unit in source.units() for item in source.read(unit)]
    assert images_of_splits == [("train", {"jpg": jpeg(1)}), ("valid", {"jpg": jpeg(1)})]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"files": ["no.json"]}, r"options\.files: no\.json is not a \.json or \.jsonl file below"),
        ({"files": ["../train.json"]}, r"is not a \.json or \.jsonl file below"),
        ({"images": "elsewhere"}, r"options.images=elsewhere is not a folder below"),
    ],
)
def test_files_that_are_not_there(tmp_path, options, complaint):
    write(tmp_path / "in" / "train.json", [])
    write(tmp_path / "train.json", [])
    with pytest.raises(PrepError, match=complaint):
        open_source("llava_json", str(tmp_path / "in"), options=options)
    with pytest.raises(PrepError, match="chooses among the files of a folder"):
        open_source("llava_json", str(tmp_path / "train.json"), options={"files": ["train.json"]})


def test_json_of_other_kinds_in_the_folder_says_which_file(tmp_path):
    write(tmp_path / "train.json", [{"id": 1, **TURNS}])
    (tmp_path / "dataset_info.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(
        PrepError, match=r"dataset_info\.json holds a dict, expected a list of entries; .* options\.files="
    ):
        open_source("llava_json", str(tmp_path)).units()


def test_images_in_the_usual_folder_are_found_and_it_is_said(tmp_path):
    entries = [{"id": n, "image": name, **TURNS} for n, name in enumerate(("a.jpg", "b.jpg", "no.jpg"))]
    file = write(tmp_path / "train.json", entries, ["a.jpg", "images/a.jpg", "images/b.jpg"])
    beside, inside, lost = items_of(file)
    assert beside.metadata["original_name"] == "a.jpg"
    assert beside.images == {"jpg": jpeg(0)}
    assert inside.images == {"jpg": jpeg(2)}
    assert inside.conversations[0].metadata["mended"] == ["image_folder", "placeholders"]
    assert (lost.reason, lost.detail) == ("missing_image", f"no.jpg is not in the image folder {tmp_path.name}/")
    assert items_of(file, flag="images")[1].images == {"jpg": jpeg(2)}


def test_several_right_options_and_letters_that_name_none():
    options = {"A": "Effusion", "B": "Nodule", "C": "Mass"}
    several = {"answer_type": "multiple_choice", "options": options, "answer_letters": ["A", "C"]}
    for letters in (["C", "A"], "AC", "A, C"):
        assert choice_of(Entry({"options": options, "answer_letters": letters}), "A, C") == (several, [])
    with pytest.raises(BadRow, match="unknown_option"):
        choice_of(Entry({"options": options, "answer_letters": ["Z"]}), "A")
    choice, ignored = choice_of(Entry({"options": options, "answer_idx": 1}), "Nodule")
    assert (choice["answer_letter"], ignored) == ("B", ["answer_idx"])


@pytest.mark.parametrize(
    ("text", "stem", "texts"),
    [
        ("Which?\nA. x\nB. y", "Which?", ["x", "y"]),
        ("Is vitamin A. good? (A) one (B) two (C) E. coli", "Is vitamin A. good?", ["one", "two", "E. coli"]),
        ("A) x B) y C) z", "", ["x", "y", "z"]),
        ("問。A．甲 B．乙", "問。", None),
        ("問。 A．甲 B．乙", "問。", ["甲", "乙"]),
        ("no options: A. alone", "no options: A. alone", None),
        ("A. x C. z", "A. x C. z", None),
        ("A. B. y", "A. B. y", None),
        ("", "", None),
    ],
)
def test_options_inside_a_question(text, stem, texts):
    expected = (stem, dict(zip("ABCDE", texts, strict=False))) if texts else (text, {})
    assert inline_options(text) == expected
