import io
import json
import os
import re

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, TiffImagePlugin

from data_prep.deidentify.pseudonym import key_id, pseudonym
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources.own_files.image_folder import ImageFolder
from medvlp.shards import ShardDataset, verify
from tests.data_prep.folders import jpeg

SECRET = b"0123456789abcdef0123456789abcdef"


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Three splits with two labels, as Kaggle's chest X-ray set is laid out."""
    names = {
        "train": ("NORMAL/IM-0001.jpeg", "NORMAL/IM-0002.jpeg", "PNEUMONIA/person1_bacteria_2.jpeg"),
        "val": ("NORMAL/IM-0001.jpeg",),
        "test": ("PNEUMONIA/person2_virus_6.jpeg",),
    }
    paths = [f"{split}/{name}" for split, those in names.items() for name in those]
    return write(tmp_path / "images", {path: jpeg(n) for n, path in enumerate(paths)})


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    path = tmp_path / "deid.key"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(path))
    return path


def items(source):
    return [(unit.split, item) for unit in source.units() for item in source.read(unit)]


def drops(source):
    return {item.name: item.reason for _, item in items(source) if isinstance(item, Dropped)}


def test_splits_and_labels_are_folders(folder):
    source = ImageFolder(str(folder), templates="chest_xray", licence="CC BY 4.0")
    rows = items(source)
    assert [(split, item.metadata["original_name"], item.labels) for split, item in rows] == [
        ("train", "train/NORMAL/IM-0001.jpeg", {"label_name": "NORMAL"}),
        ("train", "train/NORMAL/IM-0002.jpeg", {"label_name": "NORMAL"}),
        ("train", "train/PNEUMONIA/person1_bacteria_2.jpeg", {"label_name": "PNEUMONIA"}),
        ("valid", "val/NORMAL/IM-0001.jpeg", {"label_name": "NORMAL"}),
        ("test", "test/PNEUMONIA/person2_virus_6.jpeg", {"label_name": "PNEUMONIA"}),
    ]
    last = rows[-1][1]
    assert last.images == {"jpg": (folder / "test/PNEUMONIA/person2_virus_6.jpeg").read_bytes()}
    assert last.metadata == {
        "group": "test/PNEUMONIA/person2_virus_6.jpeg",
        "group_kind": "image",
        "licence": "CC-BY-4.0",
        "source": "image_folder",
        "original_name": "test/PNEUMONIA/person2_virus_6.jpeg",
        "templated": ["caption", "caption_1", "caption_2", "caption_3", "caption_4"],
        "modality": "X-ray",
        "published_split": "test",
    }
    assert list(last.texts) == ["caption", "caption_1", "caption_2", "caption_3", "caption_4"]
    assert {re.sub("pneumonia|an infection of the lung", "X", text) for text in last.texts.values()} == {
        "a chest X-ray showing X",
        "X on a chest X-ray",
        "this chest X-ray shows X",
        "a chest X-ray of a patient with X",
        "chest radiograph; findings: X",
    }
    assert rows[0][1].texts["caption"] == "a chest X-ray without an abnormal finding"
    assert len({item.key for _, item in rows}) == 5  # train and val share a name


def test_without_splits_all_is_train(tmp_path):
    folder = write(tmp_path / "f", {"mass/a.jpg": jpeg(1), "cyst/deep/er/a.jpg": jpeg(2)})
    rows = items(ImageFolder(str(folder)))
    assert [(split, item.labels["label_name"], item.key) for split, item in rows] == [
        ("train", "cyst", rows[0][1].key),
        ("train", "mass", "image_folder__mass__a__jpg"),
    ]
    assert rows[0][1].key.startswith("image_folder__cyst-deep-er__a__jpg-")
    assert "published_split" not in rows[0][1].metadata
    assert rows[0][1].metadata["modality"] == "unknown"
    assert rows[0][1].metadata["licence"] == "unknown"
    assert items(ImageFolder(str(folder), modality="ultrasound"))[0][1].metadata["modality"] == "ultrasound"


def test_names_that_share_a_stem_or_mend_alike_have_keys_of_their_own(tmp_path):
    names = ("a/x.jpg", "a/x.jpeg", "a/x-jpg", "a/b/x.jpg", "a-b/x.jpg", "a.b/x.jpg", "A/x.jpg", "a/x..jpg")
    folder = write(tmp_path / "f", {name: jpeg(n) for n, name in enumerate(names)})
    keys = [item.key for _, item in items(ImageFolder(str(folder))) if not isinstance(item, Dropped)]
    assert len(set(keys)) == len(keys) == 7


def test_every_other_file_is_a_drop_by_name(folder, tmp_path):
    write(
        folder,
        {
            ".DS_Store": b"x",
            "train/NORMAL/.DS_Store": b"x",
            "train/NORMAL/._IM-0001.jpeg": b"x",
            "train/NORMAL/Thumbs.db": b"x",
            "train/NORMAL/notes.txt": b"x",
            "train/loose.jpg": jpeg(8),
            "top.jpg": jpeg(8),
            "chest_xray/train/NORMAL/IM-0001.jpeg": jpeg(0),
            "__MACOSX/train/NORMAL/IM-0001.jpeg": b"x",
            "train/none/a.jpg": jpeg(9),
            "train/yes/a.jpg": jpeg(9),
            "train/NORMAL/fake.jpg": b"<html>",
            "train/NORMAL/empty.png": b"",
            "test/PNEUMONIA/dicom.jpg": b"\0" * 128 + b"DICM",
        },
    )
    (tmp_path / "outside.jpg").write_bytes(jpeg(3))
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (folder / "train/NORMAL/link.jpg").symlink_to(tmp_path / "outside.jpg")
    (folder / "train/NORMAL/inside.jpg").symlink_to("IM-0001.jpeg")
    (folder / "train/NORMAL/broken.jpg").symlink_to("nothing.jpg")
    (folder / "train/NORMAL/loop.jpg").symlink_to("loop.jpg")
    (folder / "val.jpg").symlink_to("val.jpg")
    (folder / "train/linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "train/NORMAL/pipe.jpg")
    rows = items(ImageFolder(str(folder)))
    assert len(rows) == 6 + 20
    assert {item.name: item.reason for _, item in rows if isinstance(item, Dropped)} == {
        ".DS_Store": "hidden_file",
        "train/NORMAL/.DS_Store": "hidden_file",
        "train/NORMAL/._IM-0001.jpeg": "hidden_file",
        "train/NORMAL/Thumbs.db": "hidden_file",
        "__MACOSX": "hidden_file",
        "train/NORMAL/notes.txt": "not_an_image",
        "train/loose.jpg": "no_label",
        "top.jpg": "outside_splits",
        "chest_xray/train/NORMAL/IM-0001.jpeg": "outside_splits",
        "train/yes/a.jpg": "unclear_label",
        "train/NORMAL/fake.jpg": "image_format",
        "train/NORMAL/empty.png": "empty_file",
        "test/PNEUMONIA/dicom.jpg": "image_format",
        "train/NORMAL/link.jpg": "bad_path",
        "train/NORMAL/broken.jpg": "missing_image",
        "train/NORMAL/loop.jpg": "bad_path",
        "val.jpg": "outside_splits",
        "train/linked": "linked_folder",
        "train/NORMAL/pipe.jpg": "bad_path",
    }


@pytest.mark.parametrize(
    ("mode", "ending", "png_mode"),
    [("RGB", "bmp", "RGB"), ("L", "tif", "L"), ("I;16", "tiff", "I;16"), ("P", "gif", "P"), ("1", "tif", "1")],
)
def test_other_formats_become_png_pixel_for_pixel(tmp_path, mode, ending, png_mode):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
    picture = deep if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, {"bmp": "BMP", "tif": "TIFF", "tiff": "TIFF", "gif": "GIF"}[ending])
    folder = write(tmp_path / "f", {f"mass/a.{ending}": buffer.getvalue()})
    ((_, sample),) = items(ImageFolder(str(folder)))
    assert list(sample.images) == ["png"]
    assert sample.metadata["reencoded_from"] == ending.replace("tiff", "tif")
    read = Image.open(io.BytesIO(sample.images["png"]))
    assert read.mode == png_mode
    expected, got = (p.convert("RGB") if mode == "P" else p for p in (Image.open(io.BytesIO(buffer.getvalue())), read))
    assert np.array_equal(np.asarray(got), np.asarray(expected))


@pytest.mark.parametrize("ending", ["tif", "gif"])
def test_of_several_frames_only_the_second_is_looked_for(tmp_path, monkeypatch, ending):
    def count(self):
        raise AssertionError("to count frames is to read them all")

    frames = [Image.new("L", (8, 8), 20 * n) for n in range(4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, {"tif": "TIFF", "gif": "GIF"}[ending], save_all=True, append_images=frames[1:])
    folder = write(tmp_path / "f", {f"mass/a.{ending}": buffer.getvalue()})
    for plugin in (GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile):
        monkeypatch.setattr(plugin, "n_frames", property(count))
    assert drops(ImageFolder(str(folder))) == {f"mass/a.{ending}": "image_format"}


def test_groups_by_a_pattern(folder):
    write(folder, {"train/PNEUMONIA/stray.jpeg": jpeg(7)})
    source = ImageFolder(str(folder), group=r"(?P<group>person\d+|IM-\d+)")
    rows = [item for _, item in items(source)]
    assert [(i.metadata["group"], i.metadata["group_kind"]) for i in rows if not isinstance(i, Dropped)] == [
        ("IM-0001", "patient"),
        ("IM-0002", "patient"),
        ("person1", "patient"),
        ("IM-0001", "patient"),
        ("person2", "patient"),
    ]
    assert drops(source) == {"train/PNEUMONIA/stray.jpeg": "no_group"}


def test_private_names_are_pseudonyms_everywhere(folder, key_file):
    write(folder, {"train/NORMAL/Doe^John.txt": b"x", "train/NORMAL/Doe^Jane.jpg": b"no image"})
    source = ImageFolder(str(folder), private=True, group=r"(?P<group>person\d+|IM-\d+|Doe)")
    rows = [item for _, item in items(source)]
    samples = [item for item in rows if not isinstance(item, Dropped)]
    group = pseudonym(SECRET, "group:IM-0001")
    original = pseudonym(SECRET, "file:train/NORMAL/IM-0001.jpeg")
    assert samples[0].metadata["group"] == samples[3].metadata["group"] == group
    assert samples[0].metadata["original_name"] == original
    assert samples[0].key == f"image_folder__{group}__{original}__0"
    assert samples[0].key != samples[3].key
    assert [item for item in rows if isinstance(item, Dropped)] == [
        Dropped(pseudonym(SECRET, "file:train/NORMAL/Doe^Jane.jpg"), "image_format", ""),
        Dropped(pseudonym(SECRET, "file:train/NORMAL/Doe^John.txt"), "not_an_image", ""),
    ]
    assert source.options()["key_id"] == key_id(SECRET)
    said = json.dumps([item.__dict__ for item in samples], default=lambda data: "") + json.dumps(source.fingerprint())
    assert not re.search(r"IM-0001|person\d|Doe", said + json.dumps([u.selection for u in source.units()]))
    assert source.private


def test_names_that_are_not_utf8(tmp_path):
    folder = write(tmp_path / "f", {"mass/a.jpg": jpeg(1)})
    with open(os.fsencode(folder / "mass") + b"/caf\xe9.jpg", "wb") as file:
        file.write(jpeg(2))
    assert drops(ImageFolder(str(folder))) == {"mass/caf\udce9.jpg": "not_utf8"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"templates": "chest_xrays"}, "options.templates='chest_xrays' is not known; did you mean 'chest_xray'?"),
        ({"templates": ""}, "options.templates is empty"),
        ({"group": "person["}, "options.group=person[ is not a regular expression"),
        ({"group": r"person\d+"}, "should say which part of a path names the patient"),
        ({"licence": "free as in beer"}, "options.licence=free as in beer is neither a column nor a licence"),
        ({"private": "yes"}, "options.private is 'yes', expected true or false"),
    ],
)
def test_options_that_are_refused(folder, options, complaint):
    with pytest.raises(PrepError, match=re.escape(complaint)):
        ImageFolder(str(folder), **options)


def test_folders_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrepError, match="holds nothing for source image_folder"):
        ImageFolder(str(tmp_path / "empty")).units()
    with pytest.raises(PrepError, match="should be a folder with a folder for each label"):
        ImageFolder(str(tmp_path / "none"))


def test_templates_of_ones_own_that_name_a_column_are_refused(folder, tmp_path):
    (tmp_path / "mine.yaml").write_text("templates: ['{label} at {age}']")
    with pytest.raises(PrepError, match=r"has the gap \{age\}, which nothing fills; there are label"):
        ImageFolder(str(folder), templates=str(tmp_path / "mine.yaml"))


def test_units_know_their_own_part_of_the_input(folder):
    before = ImageFolder(str(folder), samples_per_shard=1)
    marks = {(unit.split, unit.number): unit.fingerprint for unit in before.units()}
    whole = before.fingerprint()
    write(folder, {"train/PNEUMONIA/person9.jpeg": jpeg(99), "val/NORMAL/IM-0001.jpeg": jpeg(98, side=64)})
    after = ImageFolder(str(folder), samples_per_shard=1)
    changed = [(u.split, u.number) for u in after.units() if marks.get((u.split, u.number)) != u.fingerprint]
    assert changed == [("train", 3), ("valid", 0)]
    assert whole != after.fingerprint()


def test_prepared(folder, tmp_path):
    write(folder, {"train/NORMAL/.DS_Store": b"x"})
    options = {"templates": "chest_xray", "licence": "CC-BY-4.0", "group": r"(?P<group>person\d+|IM-\d+)"}
    result = prepare("image_folder", str(folder), tmp_path / "out", options=options)
    assert (result.ledger["in"], result.ledger["out"]) == (6, 5)
    assert result.ledger["drops"] == {"read": {"hidden_file": 1}}
    assert verify(tmp_path / "out") == []
    data = ShardDataset(tmp_path / "out" / "test")
    assert data.read(0).labels == {"label_name": "PNEUMONIA"}
    assert data.column("group") == ["person2"]
