"""Burnt-in text: what is caught, what is blacked for nothing, and that nothing of a person is in any output of a whole
preparation."""

import io
import json
import random
import struct
import tarfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from data_prep import cli
from data_prep.draft import Draft, Drop
from data_prep.stages import deidentify_pixels as stage
from data_prep.stages.deidentify_pixels import black_out, deidentify_pixels, find_text, grown, views
from data_prep.stages.images import check_images
from data_prep.stages.strip_metadata import strip_metadata
from medvlp.shards import Sample
from tests.data_prep.sources.own_files.phantoms import Burnt, Ink, Person, anatomy, burn, person, phantom, save, spelled

pytest.importorskip("rapidocr_onnxruntime", reason="needs the OCR: pip install 'medvlp[deidentify]'")

FACES = ("", "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf", "DejaVuSerif.ttf")
HEIGHTS = (9, 10, 12, 14, 18, 24, 32)
MIN_CONTRAST = 50
"""Grey levels between a text and what is around it, from which it counts: less cannot be read."""


def lines_of(who: Person) -> list[str]:
    birth = f"{who.birth[:4]}-{who.birth[4:6]}-{who.birth[6:]}"
    return [
        f"{who.family.upper()}, {who.given.upper()}",
        f"{who.family} {who.given}",
        who.number,
        f"DOB {birth}",
        spelled(who.date),
    ]


def surely(mask: np.ndarray, reach: int) -> np.ndarray:
    """The mask and what is within `reach` pixels of it."""
    near = mask.copy()
    for _ in range(reach):
        near[1:] |= near[:-1].copy()
        near[:-1] |= near[1:].copy()
        near[:, 1:] |= near[:, :-1].copy()
        near[:, :-1] |= near[:, 1:].copy()
    return near


def contrast(pixels: np.ndarray, glyphs: np.ndarray) -> float:
    around = surely(glyphs, 2) & ~glyphs
    return abs(float(np.median(pixels[glyphs])) - float(np.median(pixels[around])))


def annotated(seed: int, side: int) -> tuple[Burnt, list[Ink]]:
    """An image with up to five lines of text, apart from each other: upright, slightly turned, or running down or up."""
    chance = random.Random(seed)
    image, inks = Burnt(anatomy(seed, side)), []
    used = np.zeros((side, side), bool)
    for text in random.Random(seed).sample(lines_of(person(seed)), 5):
        grey = chance.choice((255, 255, 230, 200, 0))
        angle = chance.choice((0, 0, 0, 0, 0, 90, 270, 5, -8))
        height = chance.choice([height for height in HEIGHTS if height <= side / 12])
        ink = Ink(height, grey, chance.choice(FACES), angle, plate=220 if grey == 0 else None)
        trial = Burnt(image.pixels)
        try:
            burn(trial, text, (chance.choice((2, side, chance.randrange(side))), chance.randrange(side)), ink)
        except AssertionError:
            continue
        glyphs = trial.lines[0][1]
        if (surely(glyphs, 12) & used).any() or contrast(trial.pixels, glyphs) < MIN_CONTRAST:
            continue
        used |= surely(glyphs, 12)
        image = Burnt(trial.pixels, [*image.lines, *trial.lines])
        inks.append(ink)
    return image, inks


def drafted(pixels: np.ndarray, name: str = "png", **settings: object) -> Draft:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name], **settings)
    return Draft(Sample("a", images={name: buffer.getvalue()}))


def caught(image: Burnt) -> list[bool]:
    """Of each text, whether all its pixels and their neighbours are black after the stage."""
    draft = deidentify_pixels(drafted(image.pixels))
    after = np.asarray(draft.pictures["png"])
    return [bool((after[surely(glyphs, 1)] == 0).all()) for _, glyphs in image.lines]


def test_text_is_black_and_the_rest_is_as_it_was():
    image = Burnt(anatomy(1, 256))
    burn(image, "ZORBINK, QUEL", (5, 5), Ink(14))
    burn(image, "15.03.2021", (140, 235), Ink(12))
    draft = deidentify_pixels(drafted(image.pixels))
    after = np.asarray(draft.pictures["png"])
    assert all((after[surely(glyphs, 1)] == 0).all() for _, glyphs in image.lines)
    changed = after != image.pixels
    assert (after[changed] == 0).all()
    assert changed.mean() < 0.05
    assert draft.sample.metadata["blacked"]["png"] == pytest.approx(changed.mean(), abs=0.06)
    assert draft.counts == {
        ("deidentify_pixels", "images with text"): 1,
        ("deidentify_pixels", "boxes blacked out"): draft.counts["deidentify_pixels", "boxes blacked out"],
        ("deidentify_pixels", "images that lost 5% to 10%"): 1,
    }


def test_an_image_without_text_keeps_its_bytes():
    draft = drafted(anatomy(2, 256))
    before = draft.sample.images["png"]
    assert deidentify_pixels(draft).sample.images["png"] is before
    assert not draft.counts


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("png", lambda grey: np.repeat(grey[:, :, None], 3, axis=2)),
        ("png", lambda grey: grey.astype(np.uint16) * 257),
        ("png", lambda grey: np.dstack([grey, grey, grey, np.full_like(grey, 255)])),
        ("jpg", lambda grey: grey),
        ("webp", lambda grey: np.repeat(grey[:, :, None], 3, axis=2)),
    ],
)
def test_formats_and_depths(name, convert):
    image = Burnt(anatomy(3, 256))
    burn(image, "MRN 48151623", (20, 3), Ink(16))
    pixels = convert(image.pixels)
    draft = deidentify_pixels(drafted(pixels, name, **({"comment": b"Zorbink"} if name == "jpg" else {})))
    after = np.asarray(draft.pictures[name])
    assert after.shape == pixels.shape
    assert after.dtype == pixels.dtype
    black = after[image.lines[0][1]].reshape(int(image.lines[0][1].sum()), -1)
    assert int(black[:, :3].max()) <= (8 if name == "jpg" else 0)
    assert b"Zorbink" not in draft.sample.images[name]
    if name != "jpg":
        lower = slice(128, None)
        decoded = np.asarray(drafted(pixels, name).pictures[name])
        assert np.array_equal(after[lower], decoded[lower])


def test_palettes_become_colours():
    image = Burnt(anatomy(3, 256))
    burn(image, "MRN 48151623", (20, 3), Ink(16))
    buffer = io.BytesIO()
    Image.fromarray(image.pixels).convert("P").save(buffer, "PNG")
    draft = deidentify_pixels(Draft(Sample("a", images={"png": buffer.getvalue()})))
    assert draft.pictures["png"].mode == "RGB"
    assert (np.asarray(draft.pictures["png"])[image.lines[0][1]] == 0).all()


def test_text_in_the_lower_bits_is_found():
    """A PNG of 16 bits that holds values of 10: the upper 8 bits are all but black."""
    image = Burnt(anatomy(3, 256))
    burn(image, "MRN 48151623", (20, 3), Ink(16))
    pixels = image.pixels.astype(np.uint16) * 4
    after = np.asarray(deidentify_pixels(drafted(pixels)).pictures["png"])
    assert after.dtype == np.uint16
    assert (after[image.lines[0][1]] == 0).all()
    assert np.array_equal(after[128:], pixels[128:])


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def written(side: int = 256) -> np.ndarray:
    """Where a text is, bool (side, side)."""
    image = Burnt(np.zeros((side, side), np.uint8))
    burn(image, "ZORBINK, QUEL", (20, 20), Ink(18))
    return image.lines[0][1]


@pytest.mark.parametrize(
    ("form", "mode", "grey"),
    [("PNG", "RGBA", 0), ("PNG", "RGBA", 255), ("PNG", "RGBA", 128), ("PNG", "LA", 0), ("WEBP", "RGBA", 255)],
)
def test_text_that_only_the_opacity_shows(form, mode, grey):
    """One colour everywhere, opaque where the text is: black text on white paper, white text on black."""
    text = written()
    uniform = np.full(text.shape, grey, np.uint8)
    alpha = np.where(text, 255, 0).astype(np.uint8)
    pixels = np.dstack([uniform, alpha] if mode == "LA" else [uniform, uniform, uniform, alpha])
    name = form.lower()
    data = saved(Image.fromarray(pixels), form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    assert find_text(np.repeat(uniform[:, :, None], 3, axis=2)) == []
    draft = deidentify_pixels(Draft(Sample("a", images={name: data})))
    after = draft.pictures[name]
    assert after.mode == "RGBA"
    assert draft.counts["deidentify_pixels", "images with text"] == 1
    black = (np.asarray(after) == (0, 0, 0, 255)).all(axis=2)
    assert black[surely(text, 1)].all()
    assert np.asarray(after)[128:, :, 3].max() == 0


def test_text_in_colours_that_nothing_shows():
    text = written()
    pixels = np.dstack([np.where(text, 255, 20).astype(np.uint8)] * 3 + [np.zeros(text.shape, np.uint8)])
    draft = deidentify_pixels(Draft(Sample("a", images={"png": saved(Image.fromarray(pixels))})))
    assert (np.asarray(draft.pictures["png"])[surely(text, 1)] == (0, 0, 0, 255)).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1", "I;16", "RGB of 16 bits"])
def test_text_of_a_transparent_value(mode):
    """All but the text is of the one value that is transparent; as a colour, that is next to the text's."""
    text = written()
    ground, ink = (0, 1) if mode in ("P", "1") else (1000, 1001) if mode == "I;16" else (100, 101)
    values = np.where(text, ink, ground)
    transparent: object = ground
    if mode == "1":
        image = Image.fromarray(text)
    elif mode == "I;16":
        values[-1, -1] = 65535  # beside which the text is no colour of its own
        image = Image.fromarray(values.astype(np.uint16))
    elif mode.startswith("RGB"):
        image, transparent = Image.fromarray(np.dstack([values.astype(np.uint8)] * 3)), (ground, ground, ground)
    else:
        image = Image.fromarray(values.astype(np.uint8))
    if mode == "P":
        image.putpalette([100, 100, 100, 101, 101, 101])
    data = saved(image, transparency=transparent)
    if mode == "RGB of 16 bits":
        data = sixteen_bits(values.astype(np.uint16) * 257, ground * 257)
    draft = deidentify_pixels(Draft(Sample("a", images={"png": data})))
    after = draft.pictures["png"]
    assert draft.counts["deidentify_pixels", "images with text"] == 1
    if mode == "I;16":
        assert (np.asarray(after)[surely(text, 1)] == 0).all()
    else:
        assert (np.asarray(after.convert("RGBA"))[surely(text, 1)] == (0, 0, 0, 255)).all()
        assert np.asarray(after.convert("RGBA"))[128:, :, 3].max() == 0


def sixteen_bits(values: np.ndarray, transparent: int) -> bytes:
    """A PNG of 16-bit colours, three equal ones a pixel, of which one value is transparent."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape
    rows = np.repeat(values.astype(">u2")[:, :, None], 3, axis=2).reshape(height, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">HHH", *[transparent] * 3))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def test_opaque_pictures_are_looked_at_once():
    grey = anatomy(4, 64)
    assert len(views(Image.fromarray(grey))) == 1
    assert len(views(Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 255)])))) == 1
    colours, on_white, on_black = views(Image.fromarray(np.dstack([grey, grey, grey, np.full_like(grey, 51)])))
    assert np.array_equal(colours[:, :, 0], grey)
    assert np.array_equal(on_white[:, :, 0], np.rint(grey * 0.2 + 204 + 1e-9))
    assert np.array_equal(on_black[:, :, 0], np.rint(grey * 0.2 + 1e-9))


@pytest.mark.parametrize(("name", "form"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "MPO")])
def test_several_frames_are_let_go(name, form):
    first, second = (Image.fromarray(np.repeat(anatomy(seed, 64)[:, :, None], 3, axis=2)) for seed in (1, 2))
    data = saved(first, form, save_all=True, append_images=[second], **({"lossless": True} if form == "WEBP" else {}))
    with pytest.raises(Drop) as dropped:
        deidentify_pixels(Draft(Sample("a", images={name: data})))
    assert (dropped.value.stage, dropped.value.reason) == ("deidentify_pixels", "several_frames")
    assert dropped.value.detail == f"{name} has 2 frames, and text is looked for in one"


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]
)
def test_every_mode_can_be_looked_at(mode):
    grey = Image.fromarray(np.where(written(), 230, 20).astype(np.uint8))
    steps = {"PA": ("P", "PA"), "HSV": ("RGB", "HSV"), "I;16": ("I", "I;16")}.get(mode, (mode,))
    picture = grey
    for step in steps if mode != "LAB" else ():
        picture = picture.convert(step)
    if mode == "LAB":
        picture = Image.merge("LAB", [grey, Image.new("L", grey.size), Image.new("L", grey.size)])
    looks = views(picture)
    assert [(look.shape, look.dtype) for look in looks] == [((256, 256, 3), np.uint8)]
    boxes = find_text(looks[0])
    assert boxes
    assert (np.asarray(black_out(picture, boxes).convert("L"))[surely(written(), 1)] == 0).all()


def test_floats_that_are_no_numbers_can_be_looked_at():
    values = np.array([[np.nan, np.inf], [-np.inf, 5.0]], np.float32)
    assert views(Image.fromarray(values))[0][:, :, 0].tolist() == [[0, 0], [0, 255]]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (3, 5), (40, 4000), (16, 16)])
def test_every_size_can_be_looked_at(size):
    assert find_text(np.full((*size, 3), 90, np.uint8)) == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, over damaged EXIF
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(("name", "form"), [("png", "PNG"), ("webp", "WEBP"), ("jpg", "JPEG")])
def test_damaged_files_come_through_or_are_drops(name, form, checked, monkeypatch):
    """Text is "found" in every second picture: the damage is to what is opened and written, not to what is read."""
    rng = np.random.default_rng(11)
    corner = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], np.float32)
    monkeypatch.setattr(stage, "find_text", lambda pixels: [corner] if rng.random() < 0.5 else [])
    exif = Image.Exif()
    exif[0x0112] = 6
    colours = Image.fromarray(np.repeat(anatomy(1, 48)[:, :, None], 3, axis=2))
    other = {"PNG": colours.convert("P"), "WEBP": colours.convert("RGBA"), "JPEG": colours.convert("CMYK")}[form]
    whole = [saved(colours, form), saved(other, form, exif=exif)]
    ends = Counter()
    for _ in range(60):
        data = bytearray(whole[rng.integers(2)])
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(20, len(data))] = rng.integers(256)
        if rng.random() < 0.3:
            data = data[: rng.integers(20, len(data))]
        draft = Draft(Sample("a", images={name: bytes(data)}))
        try:
            if checked:
                draft = strip_metadata(check_images(draft, 10_000, 1, 50))
            for picture in deidentify_pixels(draft).pictures.values():
                picture.load()
            ends["through"] += 1
        except Drop as drop:
            ends[drop.reason] += 1
    assert ends.keys() <= {"through", "broken_image", "too_many_pixels", "several_frames", "blank_image"}
    assert ends["broken_image"] >= 5


def test_a_box_grows_by_the_height_of_its_text():
    box = np.array([[10, 10], [50, 10], [50, 20], [10, 20]], np.float32)
    assert grown(box).tolist() == [[0, 7.5], [60, 7.5], [60, 22.5], [0, 22.5]]
    upright = box[:, ::-1][[0, 3, 2, 1]]
    assert sorted(grown(upright).tolist()) == sorted([[7.5, 0], [22.5, 0], [22.5, 60], [7.5, 60]])


def test_the_same_boxes_every_time():
    pixels = np.repeat(annotated(3, 256)[0].pixels[:, :, None], 3, axis=2)
    first = find_text(pixels)
    assert first
    assert all(
        np.array_equal(first_box, second_box) for first_box, second_box in zip(first, find_text(pixels), strict=True)
    )


@pytest.mark.parametrize("side", [256, 512])
def test_recall_of_burnt_in_text(side):
    member_bytes = [hit for seed in range(700, 712) for hit in caught(annotated(seed, side)[0])]
    assert len(member_bytes) >= 20
    assert np.mean(member_bytes) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(("side", "floor"), [(160, 0.95), (256, 0.95), (512, 0.97), (1024, 0.95)])
def test_recall_of_burnt_in_text_at_length(side, floor):
    """pytest -s prints the leaks by height, angle and grey."""
    by: dict[str, list[bool]] = {}
    for seed in range(2000, 2060):
        image, inks = annotated(seed, side)
        for hit, ink in zip(caught(image), inks, strict=True):
            for condition in ("all", f"height {ink.height}", f"angle {ink.angle}", f"grey {ink.grey}"):
                by.setdefault(condition, []).append(hit)
    print(f"\n{side}: " + ", ".join(f"{condition} {np.mean(h):.3f} of {len(h)}" for condition, h in sorted(by.items())))
    assert np.mean(by["all"]) >= floor


def test_anatomy_is_seldom_taken_for_text(test_data):
    """Slices of six real chest CTs, without any text."""
    nibabel = pytest.importorskip("nibabel")
    hits, area = [], []
    for path in sorted((test_data / "ct3d").glob("*.nii.gz")):
        volume = np.asarray(nibabel.load(path).dataobj)
        for level in range(8, volume.shape[2] - 4, 20):
            slice_ = np.clip((volume[:, :, level].T + 1350) / 1500 * 255, 0, 255).astype(np.uint8)
            draft = deidentify_pixels(drafted(slice_))
            hits.append(bool(draft.counts))
            area.append(float((np.asarray(draft.pictures["png"]) != slice_).mean()))
    assert len(hits) >= 15
    assert np.mean(hits) <= 0.05
    assert np.mean(area) <= 0.005


# --- a whole preparation


def write_studies(folder: Path, people: list[Person]) -> None:
    """Two images a study, with name and date in the pixels and in file and folder names, and a report."""
    for who in people:
        visit_folder = folder / f"{who.family}_{who.given}" / who.date
        for number in (1, 2):
            image = Burnt(anatomy(who.seed * 10 + number, 256))
            burn(image, f"{who.family.upper()}, {who.given.upper()}", (4, 4), Ink(12))
            burn(image, f"{who.number} {spelled(who.date)}", (60, 236), Ink(11))
            save(phantom(who, image.pixels, number), visit_folder / f"{who.family}{number}.dcm")
        broken = phantom(who, anatomy(1, 64), 3)
        broken.PixelData = broken.PixelData[:10]
        save(broken, visit_folder / f"{who.doctor}.dcm")
        (visit_folder / "report.txt").write_text(
            f"{who.institution}, {spelled(who.date)}\nPatient: {who.given} {who.family}, born {spelled(who.birth)}, "
            f"{who.number}\nFINDINGS: {who.family}'s lungs are clear, as on {who.date}. Phone {who.phone}.\n"
            f"IMPRESSION: No change. Dr. {who.doctor} {who.accession}\n"
        )
        (folder / f"{who.number}.doc").write_text(who.family)


def contents(output: Path) -> dict[str, bytes]:
    """Name → bytes of all files, with what is compressed in them laid open: parquet's columns, PNG's pixels and texts."""
    member_bytes: dict[str, bytes] = {}
    for path in sorted(output.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(output))
        member_bytes[name] = path.read_bytes()
        if path.suffix == ".parquet":
            table = pyarrow.parquet.read_table(path)
            member_bytes[f"{name} opened"] = repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
        if path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    data = archive.extractfile(member).read()
                    if member.name.endswith(".png"):
                        member_bytes[f"{name} {member.name} texts"] = repr(Image.open(io.BytesIO(data)).info).encode()
    return member_bytes


@pytest.mark.parametrize("sample", ["image", "study"])
def test_nothing_of_a_person_is_in_any_output(tmp_path, monkeypatch, capfd, sample):
    key = tmp_path / "deid.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(key))
    people = [person(seed) for seed in range(2)]
    write_studies(tmp_path / "in", people)
    words = [
        "source=dicom",
        f"input={tmp_path / 'in'}",
        f"output={tmp_path / 'out'}",
        "workers=1",
        f"options.sample={sample}",
    ]
    assert cli.main(words) in (None, 0)
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())
    assert ledger["out"] == (4 if sample == "image" else 2)
    assert ledger["in"] == ledger["out"] + 4
    assert ledger["drops"]["read"] == {"bad_pixels": 2, "not_dicom": 2}
    assert ledger["counts"]["deidentify_pixels"]["images with text"] == 4
    member_bytes = contents(tmp_path / "out")
    member_bytes["what was said"] = "".join(capfd.readouterr()).encode()
    assert sum(name.endswith(" opened") for name in member_bytes) >= 1
    assert sum(name.endswith(" texts") for name in member_bytes) == 4
    for who in people:
        for kind, strings in who.strings.items():
            for text in strings:
                holders = [name for name, data in member_bytes.items() if text.lower().encode() in data.lower()]
                assert not holders, f"a {kind} stands in {holders}"
