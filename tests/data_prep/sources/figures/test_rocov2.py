import os
from collections import Counter

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.readers import image_files
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.vocabulary.modalities import modality_of_concepts
from medvlp.shards import ShardDataset, verify


def test_the_published_files(test_data, tmp_path):
    folder = test_data / "rocov2"
    result = prepare("rocov2", str(folder), tmp_path / "out")
    splits = {split: ShardDataset(tmp_path / "out" / split) for split in ("train", "valid", "test")}
    assert {split: len(data) for split, data in splits.items()} == {"train": 600, "valid": 100, "test": 100}
    assert (result.ledger["in"], result.ledger["out"], result.ledger["drops"]) == (800, 800, {})
    samples = [data.read(i) for data in splits.values() for i in range(len(data))]
    by_concept = {"CT": 283, "X-ray": 225, "MRI": 111, "ultrasound": 108, "angiography": 59, "unknown": 9, "PET": 5}
    assert Counter(sample.labels["modality"] for sample in samples) == by_concept
    origins = Counter(sample.metadata["modality_from"] for sample in samples if "modality_from" in sample.metadata)
    assert origins == {"caption name": 8}
    for split, data in splits.items():
        for i in range(len(data)):
            sample = data.read(i)
            assert sample.images["jpg"] == (folder / split / sample.metadata["original_name"]).read_bytes()
    assert verify(tmp_path / "out") == []
    first = splits["train"].read(0)
    assert first.key == "rocov2__ROCOv2_2023_train_017334__0__0"
    assert first.texts["caption"] == "The measurement method of the vertebral height (VH) and the Cobb angle (CA)"
    assert first.labels == {
        "modality": "X-ray",
        "concepts": ["C1306645", "C0037949", "C0205129", "C1299991"],
        "concepts_manual": ["C1306645", "C0037949", "C0205129"],
    }
    assert first.metadata["licence"] == "CC-BY-NC-SA-4.0"
    assert first.metadata["group"] == "ROCOv2_2023_train_017334"


@pytest.mark.parametrize(
    ("cuis", "modality"),
    [([], "unknown"), (["C0817096"], "unknown"), (["C0024485", "C9"], "MRI"), (["C0032743", "C0040405"], "CT+PET")],
)
def test_modality(cuis, modality):
    assert modality_of_concepts(cuis) == modality


def drops_of(folder):
    source = open_source("rocov2", str(folder))
    items = [item for unit in source.units() for item in source.read(unit)]
    return len(items), {item.name: item.reason for item in items if isinstance(item, Dropped)}


def test_rows_that_cannot_become_samples(rocov2):
    (rocov2 / "train" / "ROCOv2_2023_train_000003.jpg").unlink()
    (rocov2 / "train" / "extra.jpg").write_bytes(b"x")
    with open(rocov2 / "train_captions.csv", "ab") as file:
        file.write(b"../../secret,a way out\r\nlatin,caf\xe9\r\nshort\r\n")
    count, drops = drops_of(rocov2)
    assert count == 18 + 4
    assert drops == {
        "ROCOv2_2023_train_000003": "missing_image",
        "../../secret": "bad_id",
        "latin": "not_utf8",
        "short": "bad_row",
        "extra.jpg": "no_caption_row",
    }


@pytest.mark.parametrize("lost", ["valid_captions.csv", "test_concepts_manual.csv"])
def test_a_folder_that_lacks_a_file(rocov2, lost):
    (rocov2 / lost).unlink()
    with pytest.raises(PrepError, match=f"lacks {lost};"):
        open_source("rocov2", str(rocov2))


def test_a_table_with_another_header(rocov2):
    (rocov2 / "train_captions.csv").write_text("name,text\n")
    with pytest.raises(PrepError, match="has the columns name, text; it lacks ID, Caption"):
        open_source("rocov2", str(rocov2)).units()


def test_unknown_sources_and_flags(rocov2):
    with pytest.raises(PrepError, match="did you mean 'rocov2'"):
        open_source("rocov", str(rocov2))
    with pytest.raises(PrepError, match="has no flags"):
        open_source("rocov2", str(rocov2), flag="breastmnist")
    with pytest.raises(PrepError, match="samples_per_shard is 0"):
        open_source("rocov2", str(rocov2), samples_per_shard=0)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("ROCOv2_2023_train_000099", "line 14: 1 fields, expected 2"),
        ("ROCOv2_2023_train_000099,C1,C2", "line 14: 3 fields, expected 2"),
        ("ROCOv2_2023_train_000003,C1", "line 14: ROCOv2_2023_train_000003 has a row already"),
    ],
)
@pytest.mark.parametrize("table", ["train_concepts.csv", "train_concepts_manual.csv"])
def test_concept_rows_that_are_refused(rocov2, table, row, complaint):
    with open(rocov2 / table, "a") as file:
        file.write(row + "\n")
    with pytest.raises(PrepError, match=f"{table} {complaint}"):
        drops_of(rocov2)


def test_blanks_around_concepts(rocov2):
    path = rocov2 / "valid_concepts_manual.csv"
    path.write_text(path.read_text().replace("C0040405;C0817096", " C0040405 ; C0817096;"))
    source = open_source("rocov2", str(rocov2))
    sample = [item for unit in source.units() if unit.split == "valid" for item in source.read(unit)][1]
    assert sample.labels["concepts_manual"] == ["C0040405", "C0817096"]
    assert sample.labels["modality"] == "CT"
    assert sample.metadata["group_kind"] == "figure"


def test_images_of_other_extensions(rocov2):
    for name in ("a.jpeg", "b.JPG", "c.png", "notes.txt"):
        (rocov2 / "test" / name).write_bytes(b"x")
    assert drops_of(rocov2) == (21, dict.fromkeys(["a.jpeg", "b.JPG", "c.png"], "no_caption_row"))


def test_what_is_no_image_file_of_the_folder(rocov2, tmp_path, monkeypatch):
    """Links that leave, devices, pipes, folders and files beyond all measure are drops by name, and nothing hangs."""
    names = [f"ROCOv2_2023_train_{number:06d}" for number in range(12)]
    leaves, zero, pipe, folder, nowhere, inside, circle = paths = [rocov2 / "train" / f"{n}.jpg" for n in names[:7]]
    for path in paths:
        path.unlink()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    leaves.symlink_to(tmp_path / "secret.jpg")
    zero.symlink_to("/dev/zero")
    os.mkfifo(pipe)
    folder.mkdir()
    nowhere.symlink_to("nothing.jpg")
    inside.symlink_to(f"{names[9]}.jpg")
    circle.symlink_to(circle.name)
    (rocov2 / "train" / f"{names[8]}.jpg").write_bytes(bytes(10_001))
    monkeypatch.setattr(image_files, "MAX_IMAGE_BYTES", 10_000)
    count, drops = drops_of(rocov2)
    bad = dict.fromkeys([*names[:4], names[6]], "bad_path")
    assert (count, drops) == (18, {**bad, names[4]: "missing_image", names[8]: "image_too_large"})
    source = open_source("rocov2", str(rocov2))
    before = source.fingerprint()
    assert before == source.fingerprint()
    nowhere.unlink()
    assert before != source.fingerprint()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_table_that_is_no_file(rocov2, make):
    table = rocov2 / "train_captions.csv"
    table.unlink()
    make(table)
    with pytest.raises(PrepError, match=r"train_captions\.csv is not a regular file but a folder, a pipe or a device"):
        open_source("rocov2", str(rocov2)).fingerprint()
    with pytest.raises(PrepError, match=r"train_captions\.csv is not a regular file"):
        open_source("rocov2", str(rocov2)).units()


def test_what_a_system_left_among_the_images_is_named_as_such(rocov2):
    for name in ("._ROCOv2_2023_train_000001.jpg", "Thumbs.db", ".DS_Store"):
        (rocov2 / "train" / name).write_bytes(b"mac")
    assert drops_of(rocov2)[1] == dict.fromkeys(
        ["._ROCOv2_2023_train_000001.jpg", "Thumbs.db", ".DS_Store"], "hidden_file"
    )
