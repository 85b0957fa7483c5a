import io

import numpy as np
import pytest
from PIL import Image

from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.labels.medmnist import ImageStream, find_npz, infer_set
from data_prep.sources.labels.medmnist_tables import FLAVOURS


def write_npz(path, labels, shape=(28, 28), compressed=True, dtype=np.uint8):
    arrays = {}
    for n, split in enumerate(("train", "val", "test")):
        count = len(labels)
        images = np.random.default_rng(n).integers(0, 256, (count, *shape)).astype(dtype)
        arrays |= {f"{split}_images": images, f"{split}_labels": np.array(labels)}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return arrays


def read_all(source):
    return {
        split: [i for u in source.units() if u.split == split for i in source.read(u)]
        for split in ("train", "valid", "test")
    }


def pixels(sample):
    return np.asarray(Image.open(io.BytesIO(sample.images["png"])))


@pytest.mark.parametrize("labels", [[0, 1, 1, 0, 1], [[0], [1], [1], [0], [1]]])
@pytest.mark.parametrize(("shape", "compressed"), [((28, 28), True), ((28, 28, 3), False)])
def test_single_labels(tmp_path, labels, shape, compressed):
    arrays = write_npz(tmp_path / "breastmnist.npz", labels, shape, compressed)
    samples = read_all(open_source("medmnist", str(tmp_path), samples_per_shard=2))
    assert [s.labels["label"] for s in samples["valid"]] == [0, 1, 1, 0, 1]
    assert samples["valid"][0].labels["label_name"] == "malignant"
    assert samples["valid"][1].labels["label_name"] == "normal, benign"
    for split, theirs in (("train", "train"), ("valid", "val"), ("test", "test")):
        for sample, image in zip(samples[split], arrays[f"{theirs}_images"], strict=True):
            assert np.array_equal(pixels(sample), image)


def test_multi_labels(tmp_path):
    rows = np.zeros((3, 14), int)
    rows[1, 4], rows[2, [0, 6, 13]] = 1, 1
    write_npz(tmp_path / "chestmnist.npz", rows)
    none, single, three = read_all(open_source("medmnist", str(tmp_path)))["train"]
    assert none.labels == {"label": [0] * 14, "label_name": []}
    assert "none of the fourteen labelled findings" in none.texts["caption"]
    assert single.labels["label_name"] == ["mass"]
    assert "a mass" in single.texts["caption"]
    assert three.labels["label_name"] == ["atelectasis", "pneumonia", "hernia"]
    assert "atelectasis, pneumonia and a hernia" in three.texts["caption"]


@pytest.mark.parametrize(
    ("name", "counts", "classes", "licence"),
    [
        (
            "breastmnist.npz",
            (546, 78, 156),
            {"malignant": 147 + 21 + 42, "normal, benign": 399 + 57 + 114},
            "CC-BY-4.0",
        ),
        ("pneumoniamnist_3882.npz", (3882, 524, 624), None, "CC-BY-4.0"),
    ],
)
def test_the_published_files(test_data, name, counts, classes, licence):
    source = open_source("medmnist", str(test_data / "medmnist" / name))
    samples = read_all(source)
    assert tuple(map(len, samples.values())) == counts
    everything = [s for split in samples.values() for s in split]
    assert len({s.key for s in everything}) == sum(counts)
    assert {s.metadata["licence"] for s in everything} == {licence}
    if classes:
        assert {n: sum(s.labels["label_name"] == n for s in everything) for n in classes} == classes
    with np.load(test_data / "medmnist" / name, allow_pickle=False) as arrays:
        assert np.array_equal(pixels(samples["test"][17]), arrays["test_images"][17])


def test_captions_are_varied_and_say_the_label(test_data):
    train = read_all(open_source("medmnist", str(test_data / "medmnist" / "breastmnist.npz")))["train"]
    captions = {(s.labels["label"], s.texts["caption"]) for s in train}
    assert len(captions) == 8  # two labels, four templates
    assert all(("malignant tumor" in text) == (label == 0) for label, text in captions)


def test_an_unknown_label_is_a_drop(tmp_path):
    write_npz(tmp_path / "breastmnist.npz", [0, 7])
    good, bad = read_all(open_source("medmnist", str(tmp_path)))["train"]
    assert good.labels["label"] == 0
    assert bad == Dropped("train_000001", "unknown_label", "label 7 is none of the 2 of breastmnist")


def test_rows_in_any_order(tmp_path):
    arrays = write_npz(tmp_path / "a.npz", range(9), (3, 2))
    stream = ImageStream(tmp_path / "a.npz", "train_images.npy")
    for start, stop in [(2, 4), (4, 5), (7, 9), (0, 9), (8, 9)]:
        assert np.array_equal(list(stream.rows(start, stop)), arrays["train_images"][start:stop].reshape(-1, 3, 2))


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (lambda p: write_npz(p, [[0, 1], [1, 0]]), r"expected integers of shape \(2, 1\) or \(2,\) for breastmnist"),
        (lambda p: write_npz(p, [0.0, 1.0]), "labels are float64"),
        (lambda p: write_npz(p, [0, 1], (28, 28, 28)), "the 3D sets are not 2D images"),
        (lambda p: write_npz(p, [0, 1], dtype=np.float32), "is float32"),
        (lambda p: np.savez(p, train_images=np.zeros(1)), "lacks the arrays train_labels, val_images"),
        (lambda p: p.write_bytes(b"PK\x03\x04 cut off"), r"cannot be read \(BadZipFile: .*a MedMNIST npz is expected"),
        (lambda p: write_npz(p, np.array([print, 1], dtype=object)), "allow_pickle=False"),
    ],
)
def test_files_that_are_not_medmnist(tmp_path, write, complaint):
    write(tmp_path / "breastmnist.npz")
    with pytest.raises(PrepError, match=complaint):
        open_source("medmnist", str(tmp_path / "breastmnist.npz"))


def test_which_file_is_meant(tmp_path):
    for name in ("breastmnist.npz", "pathmnist.npz", "pathmnist_224.npz"):
        (tmp_path / name).touch()
    assert find_npz(str(tmp_path), "breastmnist").name == "breastmnist.npz"
    assert infer_set(tmp_path / "pathmnist_224.npz") == "pathmnist"
    for flag, complaint in [
        ("", "it holds breastmnist.npz, pathmnist.npz"),
        ("pathmnist", "pathmnist_224"),
        ("brestmnist", "did you mean 'breastmnist'"),
        ("octmnist", "it holds none"),
    ]:
        with pytest.raises(PrepError, match=complaint):
            find_npz(str(tmp_path), flag)
    with pytest.raises(PrepError, match="does not begin with the name of a set"):
        infer_set(tmp_path / "scans.npz")


def test_tables_are_complete():
    for name, flavour in FLAVOURS.items():
        assert len(flavour.phrases or flavour.labels) == len(flavour.labels), name
    sizes = {"pathmnist": 9, "chestmnist": 14, "dermamnist": 7, "octmnist": 4, "pneumoniamnist": 2, "retinamnist": 5}
    sizes |= {"breastmnist": 2, "bloodmnist": 8, "tissuemnist": 8}
    sizes |= {"organamnist": 11, "organcmnist": 11, "organsmnist": 11}
    assert {name: len(flavour.labels) for name, flavour in FLAVOURS.items()} == sizes
    assert FLAVOURS["organamnist"].phrase(4) == "the left kidney"


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_anywhere_is_named(tmp_path, compressed):
    """Whatever zip, zlib and NumPy make of flipped bytes, the person reads which file it is."""
    path = tmp_path / "breastmnist.npz"
    write_npz(path, [0, 1, 1], compressed=compressed)
    data = path.read_bytes()

    def outcome(at):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x11]) + data[at + 1 :])
        try:
            return [len(items) for items in read_all(open_source("medmnist", str(path))).values()]
        except PrepError as error:
            return str(path) in str(error)

    outcomes = [outcome(at) for at in [*range(0, 300, 3), *range(300, len(data), 41)]]
    assert all(result in (True, [3, 3, 3]) for result in outcomes)
    assert outcomes.count(True) > 20


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "breastmnist.npz"
    write_npz(path, [0, 1, 1])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(PrepError, match=r"breastmnist.npz cannot be read \(BadZipFile: .*download it again"):
        open_source("medmnist", str(path))


def test_the_kind_of_group(tmp_path):
    write_npz(tmp_path / "breastmnist.npz", [0, 1, 1])
    sample = read_all(open_source("medmnist", str(tmp_path)))["valid"][2]
    assert (sample.metadata["group"], sample.metadata["group_kind"]) == ("valid_000002", "row")
