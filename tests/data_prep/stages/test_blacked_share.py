"""How much of a picture may be blacked out as text: bounds on boxes, on images, and what is said of it."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from data_prep.draft import Draft, Drop
from data_prep.ledger.balance import worst
from data_prep.stages import deidentify_pixels as stage
from data_prep.stages.deidentify_pixels import deidentify_pixels, mask_of
from medvlp.report.dataset.contents import Contents
from medvlp.report.dataset.page import blacked_pictures
from medvlp.shards import Sample, ShardDataset
from tests.data_prep.sources.own_files.phantoms import Burnt, Ink, anatomy, burn

pytest.importorskip("rapidocr_onnxruntime", reason="needs the OCR: pip install 'medvlp[deidentify]'")


def film(test_data, number: int, side: int) -> np.ndarray:
    """A child's chest film of PneumoniaMNIST, enlarged: lungs, ribs and spine, and no text."""
    images = np.load(test_data / "medmnist" / "pneumoniamnist_3882.npz")["test_images"]
    return np.asarray(Image.fromarray(images[number]).resize((side, side), Image.Resampling.BICUBIC))


def drafted(pixels: np.ndarray) -> Draft:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Draft(Sample("a", images={"png": buffer.getvalue()}))


def films_are_as_they_were(test_data, numbers, side) -> None:
    for number in numbers:
        draft = drafted(film(test_data, number, side))
        before = draft.sample.images["png"]
        assert deidentify_pixels(draft).sample.images["png"] is before, number
        assert not draft.counts


def only_text_goes(test_data, numbers, side) -> None:
    """Of films with a name and a date, these are black, and nothing beyond their surroundings is."""
    caught = []
    for number in numbers:
        image = Burnt(film(test_data, number, side))
        burn(image, "ZORBINK, QUEL", (side // 40, side // 40), Ink(side // 28))
        burn(image, "15.03.2021 10:22", (side // 2, side - side // 12), Ink(side // 32))
        draft = deidentify_pixels(drafted(image.pixels))
        after = np.asarray(draft.pictures["png"])
        caught += [bool((after[glyphs] == 0).all()) for _, glyphs in image.lines]
        rows = np.flatnonzero((after != image.pixels).any(1))
        assert ((rows < side // 8) | (rows > side - side // 6)).all(), number
        assert draft.sample.metadata["blacked"]["png"] <= 0.06
    assert np.mean(caught) >= 0.95


def test_films_without_and_with_text(test_data):
    films_are_as_they_were(test_data, (0, 5, 9), 512)
    only_text_goes(test_data, (0, 9), 512)


@pytest.mark.slow
@pytest.mark.parametrize("side", [512, 1024])
def test_forty_films_without_and_with_text(test_data, side):
    films_are_as_they_were(test_data, range(40), side)
    only_text_goes(test_data, range(40), side)


def box(x: float, y: float, width: float, height: float) -> np.ndarray:
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)


@pytest.mark.parametrize(
    ("detected", "said", "taken"),
    [
        (box(10, 10, 100, 14), ("", 0.0), True),  # a small line, read or not
        (box(10, 10, 100, 18), ("", 0.0), True),
        (box(10, 10, 130, 40), ("", 0.0), False),  # as high as letters that could be read
        (box(10, 10, 130, 40), ("PORTABLE", 0.9), True),
        (box(10, 10, 40, 130), ("", 0.0), False),  # a spine
        (box(10, 10, 230, 20), ("", 0.0), False),  # a large share of the image
        (box(10, 10, 230, 20), ("ZORBINK, QUEL 15.03.2021", 0.9), True),
        (box(10, 10, 30, 24), ("", 0.0), False),
        (box(10, 10, 30, 24), ("R", 0.9), True),
    ],
)
def test_what_of_the_detectors_boxes_is_text(monkeypatch, detected, said, taken):
    """In an image of 256 × 256, where the shape alone decides up to a bound, and reading beyond it."""

    def reader(pixels, use_det, use_cls, use_rec):
        return ([detected * 2], None) if use_det else ([[said[0], said[1]]], None)

    monkeypatch.setattr(stage, "_reader", lambda: reader)
    assert bool(stage._detect(np.zeros((256, 256, 3), np.uint8))) == taken


def test_an_image_that_would_lose_too_much_is_let_go(monkeypatch):
    monkeypatch.setattr(stage, "find_text", lambda pixels: [box(0, 0, 63, 12)])
    with pytest.raises(Drop) as dropped:
        deidentify_pixels(drafted(anatomy(1, 64)), most=0.1)
    assert (dropped.value.stage, dropped.value.reason) == ("deidentify_pixels", "too_much_text")
    assert dropped.value.detail.startswith("png: text covers 20.3% of it, max_blacked is 10.0%")
    draft = deidentify_pixels(drafted(anatomy(1, 64)), most=0.3)
    assert draft.sample.metadata["blacked"] == {"png": 0.2031}
    assert draft.counts["deidentify_pixels", "images that lost more than 10%"] == 1
    assert (np.asarray(draft.pictures["png"])[:13] == 0).all()


def test_boxes_that_overlap_count_once():
    assert mask_of([box(0, 0, 9, 9), box(0, 0, 9, 4), box(90, 0, 30, 9)], (100, 10)).mean() == pytest.approx(0.2)


def test_the_worst_are_named_first():
    images = [{"share": share, "key": key, "image": "png"} for share, key in [(0.01, "b"), (0.2, "c"), (0.01, "a")]]
    assert [image["key"] for image in worst(images)] == ["c", "a", "b"]
    assert len(worst(images * 9)) == 8


def test_the_report_shows_the_worst(tmp_path, monkeypatch):
    from data_prep.pipeline import prepare

    key = tmp_path / "deid.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(key))
    folder = tmp_path / "in" / "chest"
    folder.mkdir(parents=True)
    shares = iter([0, 3, 1])
    monkeypatch.setattr(stage, "find_text", lambda pixels: [box(0, 0, 63, n - 1) for n in [next(shares)] if n])
    for number in range(3):
        Image.fromarray(anatomy(number, 64)).save(folder / f"{number}.png")
    prepare("image_folder", tmp_path / "in", tmp_path / "out", workers=1, options={"private": True})
    ledger = json.loads((tmp_path / "out/ledger.json").read_text())
    assert [image["share"] for image in ledger["blacked"]] == [0.0469, 0.0156]
    contents = Contents(tmp_path / "out", ledger, [ShardDataset(tmp_path / "out/train")])
    pictures = blacked_pictures(contents)
    assert [(share, picture.key) for share, picture in pictures] == [
        (image["share"], image["key"]) for image in ledger["blacked"]
    ]
    assert all(picture.image.startswith("data:image/jpeg") for _, picture in pictures)
