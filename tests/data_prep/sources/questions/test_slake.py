import json
from collections import Counter

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from medvlp.shards import ShardDataset, verify
from tests.data_prep.folders import jpeg

ROW = {
    "img_id": 102,
    "img_name": "xmlab102/source.jpg",
    "question": "Does the picture contain liver?",
    "answer": "No",
    "q_lang": "en",
    "location": "Lung",
    "modality": "CT",
    "answer_type": "CLOSED",
    "base_type": "vqa",
    "triple": ["vhead", "_", "_"],
    "qid": 11938,
    "content_type": "Organ",
}
CHINESE = {**ROW, "qid": 11939, "q_lang": "zh", "question": "图片中包含肝脏吗?", "answer": "不包含", "triple": "none"}


def write(folder, train, valid=(), test=()):
    for number in (0, 102):
        (folder / "imgs" / f"xmlab{number}").mkdir(parents=True)
        (folder / "imgs" / f"xmlab{number}" / "source.jpg").write_bytes(jpeg(number))
    for name, rows in (("train", train), ("validate", valid), ("test", test)):
        (folder / f"{name}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return folder


def items_of(folder, flag=""):
    source = open_source("slake", str(folder), flag=flag)
    return {unit.split: list(source.read(unit)) for unit in source.units()}


def samples_of(folder, flag=""):
    return {
        split: [i for i in samples if not isinstance(i, Dropped)] for split, samples in items_of(folder, flag).items()
    }


def shared_images(items):
    return len({i.metadata["image_id"] for i in items["train"]} & {i.metadata["image_id"] for i in items["test"]})


def test_both_languages_of_an_image(tmp_path):
    other = {**ROW, "img_id": 0, "img_name": "xmlab0/source.jpg", "qid": 5}
    folder = write(tmp_path / "in", [ROW, other, CHINESE], [other], [ROW])
    items = items_of(folder)
    assert {split: [item.key for item in samples] for split, samples in items.items()} == {
        "train": ["slake__102__train__0", "slake__0__train__0"],
        "valid": ["slake__0__valid__0"],
        "test": ["slake__102__test__0"],
    }
    sample = items["train"][0]
    assert sample.images == {"jpg": jpeg(102)}
    assert sample.metadata == {
        "group": "102",
        "group_kind": "image",
        "image_id": "102",
        "licence": "CC-BY-4.0",
        "modality": "CT",
        "organ": "Lung",
        "original_name": "xmlab102/source.jpg",
        "source": "slake",
    }
    english, chinese = sample.conversations
    assert english.metadata == {
        "question_type": "Organ",
        "answer_type": "closed",
        "language": "en",
        "base_type": "vqa",
        "triple": ["vhead", "_", "_"],
    }
    assert (chinese.id, chinese.metadata["language"], "triple" in chinese.metadata) == ("11939", "zh", False)
    assert [turn.text for turn in chinese.turns] == ["<image>\n图片中包含肝脏吗?", "不包含"]


def test_prepared_and_verified(tmp_path):
    folder = write(tmp_path / "in", [ROW, CHINESE, {**ROW, "qid": 1622, "answer": ""}], [], [ROW])
    result = prepare("slake", str(folder), tmp_path / "out")
    assert result.ledger["drops"] == {"read": {"empty_answer": 1}}
    sample = ShardDataset(tmp_path / "out" / "train").read(0)
    assert [c.turns[1].text for c in sample.conversations] == ["No", "不包含"]
    assert verify(tmp_path / "out") == []


def test_the_published_questions_without_images(test_data):
    """Every row is a drop of its own: the images are missing, but for one question of train that has no answer."""
    items = items_of(test_data / "slake_text")
    assert all(isinstance(item, Dropped) for samples in items.values() for item in samples)
    assert {split: Counter(item.reason for item in samples) for split, samples in items.items()} == {
        "train": {"missing_image": 9834, "empty_answer": 1},
        "valid": {"missing_image": 2099},
        "test": {"missing_image": 2094},
    }
    (unanswered,) = [item for item in items["train"] if item.reason == "empty_answer"]
    assert unanswered.name.endswith("(qid 1622)")


def test_the_published_questions_with_stand_ins(test_data, tmp_path):
    """All questions arrive, by split and language; a language's splits share no image, the two together do."""
    for name in ("train", "validate", "test"):
        (tmp_path / f"{name}.json").symlink_to(test_data / "slake_text" / f"{name}.json")
        for row in json.loads((tmp_path / f"{name}.json").read_text()):
            image = tmp_path / "imgs" / row["img_name"]
            if not image.exists():
                image.parent.mkdir(parents=True)
                image.write_bytes(jpeg(0))
    items = samples_of(tmp_path)
    assert {split: len(samples) for split, samples in items.items()} == {"train": 586, "valid": 174, "test": 180}
    languages = {
        split: Counter(c.metadata["language"] for i in samples for c in i.conversations)
        for split, samples in items.items()
    }
    assert languages == {
        "train": {"en": 4918, "zh": 4916},
        "valid": {"en": 1053, "zh": 1046},
        "test": {"en": 1061, "zh": 1033},
    }
    assert shared_images(items) == 142
    for language in ("en", "zh"):
        items = samples_of(tmp_path, flag=language)
        assert {split: len(samples) for split, samples in items.items()} == {"train": 450, "valid": 96, "test": 96}
        assert {c.metadata["language"] for samples in items.values() for i in samples for c in i.conversations} == {
            language
        }
        assert shared_images(items) == 0


def test_a_folder_that_lacks_a_set(tmp_path):
    folder = write(tmp_path / "in", [ROW])
    (folder / "validate.json").unlink()
    with pytest.raises(PrepError, match=r"is not a SLAKE folder: it lacks validate\.json;"):
        open_source("slake", str(folder))


def test_languages_that_are_not_slakes(tmp_path):
    folder = write(tmp_path / "in", [ROW, {**ROW, "qid": 2, "q_lang": "fr"}])
    with pytest.raises(PrepError, match=r"options\.language=fr is not a language of SLAKE; give en or zh"):
        open_source("slake", str(folder), flag="fr")
    assert [type(item).__name__ for item in items_of(folder, flag="zh")["train"]] == ["Dropped"]
    assert open_source("slake", str(folder), flag="zh").options() == {"samples_per_shard": 1000, "languages": ["zh"]}
