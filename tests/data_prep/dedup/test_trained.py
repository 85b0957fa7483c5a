"""Which samples of a split a model was trained on, prepared together or apart."""

import hashlib
import json
from dataclasses import replace

import pytest

from data_prep.dedup.trained import image_hashes, trained_on
from data_prep.pipeline import prepare
from medvlp.shards import ShardDataset, ShardError
from tests.data_prep.dedup.fingerprinted import sample_of, scene
from tests.data_prep.planted import encoded, plant
from tests.shards.folders import write_folder

WHOLE = [encoded(scene(number), 95) for number in range(4)]


def split(folder, *samples):
    write_folder(folder, samples)
    return ShardDataset(folder)


def test_hashes_of_all_images_of_a_split(tmp_path):
    dataset = split(
        tmp_path / "test", sample_of("a", WHOLE[0]), sample_of("b", caption="none"), sample_of("c", *WHOLE[1:])
    )
    expected = [(WHOLE[0], "a"), *((data, "c") for data in WHOLE[1:])]
    assert set(image_hashes(dataset)) == {(hashlib.sha256(data).hexdigest(), key) for data, key in expected}


@pytest.fixture
def apart(tmp_path):
    """Two preparations: the other's test has one picture of train's by its bytes, one by its look and one that it has not."""
    for split_name, picture in (("train", 0), ("train", 1)):
        write(tmp_path / "one" / split_name / "x" / f"{picture}.jpg", WHOLE[picture])
    for name, data in (("same", WHOLE[0]), ("near", plant(WHOLE[1], "half")), ("other", WHOLE[2])):
        write(tmp_path / "two" / "test" / "x" / f"{name}.jpg", data)
    for name in ("one", "two"):
        prepare("image_folder", tmp_path / name, tmp_path / f"{name}-made", workers=1)
    return ShardDataset(tmp_path / "one-made/train"), ShardDataset(tmp_path / "two-made/test")


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_sets_that_were_prepared_apart(apart):
    train, test = apart
    matches = {
        test.read(test.keys.index(key)).metadata["original_name"]: match
        for key, match in trained_on([train], test).items()
    }
    assert matches == {"test/x/same.jpg": "bytes", "test/x/near.jpg": "picture"}
    assert trained_on([], test) == {}
    assert trained_on([test], train) == dict(zip(train.keys, ["bytes", "picture"], strict=True))


@pytest.fixture
def together(tmp_path):
    for name, data in (
        ("train/x/0", WHOLE[0]),
        ("train/x/1", WHOLE[1]),
        ("test/x/2", WHOLE[2]),
        ("test/x/3", WHOLE[1]),
    ):
        write(tmp_path / "in" / f"{name}.jpg", data)
    prepare("image_folder", tmp_path / "in", tmp_path / "made", workers=1)
    return tmp_path / "made"


def test_splits_of_one_preparation_are_told_by_what_it_found(together):
    train, test = (ShardDataset(together / name) for name in ("train", "test"))
    matches = trained_on([train], test)
    assert list(matches.values()) == ["bytes"]
    # What it wrote is believed as long as both splits are those that it wrote it of.
    row = {"split": "test", "key": test.keys[0], "match": "picture", "train_key": "k"}
    (together / "leakage.jsonl").write_text(json.dumps(row) + "\n")
    assert trained_on([train], test) == {test.keys[0]: "picture"}
    ledger = json.loads((together / "ledger.json").read_text())
    ledger["splits"]["train"]["manifest_sha256"] = "0" * 64
    (together / "ledger.json").write_text(json.dumps(ledger))
    assert trained_on([train], test) == matches


def test_a_list_of_leaks_that_is_gone_is_not_taken_for_none(together):
    (together / "leakage.jsonl").unlink()
    with pytest.raises(ShardError, match=r"leakage\.jsonl is gone"):
        trained_on([ShardDataset(together / "train")], ShardDataset(together / "test"))


def published(folder, source, *samples):
    """A split of a publisher's samples: (key, group)."""
    write_folder(folder, [replace(sample_of(key, caption="c"), metadata={"group": group}) for key, group in samples])
    publication = {"publication": {"title": "t"}} if source != "csv" else {}
    (folder.parent / "ledger.json").write_text(json.dumps({"source": {"name": source, **publication}}))
    return ShardDataset(folder)


def test_ids_and_groups_of_publishers_are_compared(tmp_path):
    train = published(
        tmp_path / "one/train", "pmc_oa", ("pmc_oa__PMC1__1__0", "PMC1"), ("pmc_oa__PMC2__1__0", "PMC2"),
        ("pmc_oa__x__1__0", "x"),
    )  # fmt: skip
    test = published(
        tmp_path / "two/test", "roco", ("pmc_oa__PMC1__1__0", "PMC1"), ("roco__PMC2__9__0", "PMC2"),
        ("roco__x__1__0", "x"), ("pmc_oa__x__2__0", "x"), ("roco__PMC3__1__0", "PMC3"),
    )  # fmt: skip
    assert trained_on([train], test) == {
        "pmc_oa__PMC1__1__0": "id",
        "roco__PMC2__9__0": "group",  # an article is the same in every source
        "pmc_oa__x__2__0": "group",  # a group of any other kind only in its own
    }


def test_names_of_anyone_s_own_files_say_nothing(tmp_path):
    train = published(tmp_path / "one/train", "csv", ("csv__1__0__0", "p1"))
    test = published(tmp_path / "two/test", "csv", ("csv__1__0__0", "p1"))
    assert trained_on([train], test) == {}
    published(tmp_path / "one/test", "csv", ("csv__1__0__0", "p1"), ("csv__2__0__0", "p1"))
    together = trained_on([train], ShardDataset(tmp_path / "one/test"))
    assert together == {"csv__1__0__0": "id", "csv__2__0__0": "group"}


def test_the_strongest_match_counts(tmp_path):
    sample = sample_of("pmc_oa__PMC1__1__0", WHOLE[0])
    for name in ("one", "two"):
        write_folder(tmp_path / name / "train", [sample])
        (tmp_path / name / "ledger.json").write_text('{"source": {"publication": {"title": "t"}}}')
    train, test = (ShardDataset(tmp_path / name / "train") for name in ("one", "two"))
    assert trained_on([train], test) == {"pmc_oa__PMC1__1__0": "bytes"}
    write_folder(tmp_path / "three/train", [sample_of("pmc_oa__PMC1__1__0", WHOLE[2])])
    assert trained_on([ShardDataset(tmp_path / "three/train"), train], test) == {"pmc_oa__PMC1__1__0": "bytes"}
