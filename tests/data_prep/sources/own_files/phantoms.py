"""Made-up DICOM studies of people who do not exist, with all that a de-identification has to find, and where it stands."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset, FileMetaDataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

CT, MR, DX, SR = (f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("2", "4", "1.1", "88.11"))
SYLLABLES = ("zor", "bink", "quel", "vrax", "thum", "plig", "wezz", "drov", "yark", "fenz", "grol", "skiv")


@dataclass(frozen=True)
class Person:
    """Everything that identifies; `strings` is what must not be found afterwards."""

    seed: int
    family: str
    given: str
    number: str
    accession: str
    birth: str
    date: str
    doctor: str
    operator: str
    institution: str
    phone: str

    @property
    def uid(self) -> str:
        """Root of the UIDs: a registered one's shape, so that it can be searched for."""
        return f"1.2.826.0.1.7654321.{self.seed + 1000}"

    @property
    def strings(self) -> dict[str, list[str]]:
        """Kind → what stands in tags, private tags, overlays' comments, file names or pixels."""
        return {
            "name": [self.family, self.given, self.doctor, self.operator],
            "id": [self.number, self.accession, self.uid],
            "date": [self.birth, self.date, spelled(self.birth), spelled(self.date)],
            "place": [self.institution, self.phone],
        }


def person(seed: int) -> Person:
    """The person of a number."""
    chance = random.Random(seed)

    def name() -> str:
        return "".join(chance.sample(SYLLABLES, 3)).capitalize()

    def date(first: int, last: int) -> str:
        return f"{chance.randint(first, last)}{chance.randint(1, 12):02d}{chance.randint(13, 28)}"

    def digits(length: int) -> str:
        return "".join(chance.choices("123456789", k=length))

    return Person(
        seed=seed,
        **{role: name() for role in ("family", "given", "doctor", "operator")},
        number=f"MRN{digits(7)}",
        accession=f"ACC{digits(8)}",
        birth=date(1930, 2000),
        date=date(2005, 2023),
        institution=f"{name()} Hospital",
        phone=f"+49 {digits(3)} {digits(7)}",
    )


def spelled(date: str) -> str:
    """20240315 → 15.03.2024."""
    return f"{date[6:]}.{date[4:6]}.{date[:4]}"


def phantom(who: Person, pixels: np.ndarray, number: int = 1, modality: str = "CT", **changes: object) -> Dataset:
    """A data set with identity in tags, in sequences, in private tags, in an overlay, a curve and the preamble.

    pixels: uint8, uint16 or int16 (H, W), or uint8 (H, W, 3); changes: keyword → value, set last (None: removed).
    """
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = {"CT": CT, "MR": MR}.get(modality, DX)
    data.file_meta.MediaStorageSOPInstanceUID = f"{who.uid}.1.{number}"
    data.file_meta.SourceApplicationEntityTitle = who.operator[:16]
    data.preamble = f"{who.family}^{who.given}".encode().ljust(128, b"\0")
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{who.uid}.1", f"{who.uid}.1.9"
    data.SeriesNumber, data.InstanceNumber, data.Modality = 1, number, modality
    data.PatientName, data.PatientID, data.PatientBirthDate = f"{who.family}^{who.given}", who.number, who.birth
    data.PatientSex, data.PatientAge, data.AccessionNumber, data.StudyID = "F", "093Y", who.accession, who.number
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = who.date
    data.StudyTime = "101112"
    data.ReferringPhysicianName, data.OperatorsName = f"{who.doctor}^Dr", who.operator
    data.InstitutionName, data.PatientTelephoneNumbers = who.institution, who.phone
    data.StudyDescription = f"CT CHEST {who.family.upper()} {spelled(who.date)}"
    data.SeriesDescription, data.ProtocolName = f"for Dr {who.doctor}", who.given
    data.PatientComments = f"daughter of {who.given} {who.family}, phone {who.phone}"
    data.BodyPartExamined, data.ViewPosition, data.ImageLaterality = "CHEST", "AP", "L"
    data.RequestAttributesSequence = Sequence([_nested(who)])
    data.AnatomicRegionSequence = Sequence([_deeper(who)])  # not of the profile's table: its items have to be
    block = data.private_block(0x0009, "MEDVLP PHANTOM", create=True)
    block.add_new(0x01, "LO", f"{who.family} {who.number}")
    block.add_new(0x02, "UN", f"{who.given}^{who.birth}".encode())
    add_overlay(data, pixels.shape[:2], who)
    data.add_new(0x50003000, "OW", who.family.encode().ljust(16))  # a curve, retired
    set_pixels(data, pixels)
    for keyword, value in changes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def _nested(who: Person) -> Dataset:
    item = Dataset()
    item.RequestedProcedureID, item.RequestedProcedureDescription = who.accession, f"{who.family} thorax"
    item.RequestingPhysician = who.doctor
    return item


def _deeper(who: Person) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "51185008", "SCT", "Thorax"
    inner = Dataset()
    inner.PersonName, inner.InstitutionName = f"{who.given}^{who.family}", who.institution
    inner.private_block(0x0011, "MEDVLP PHANTOM", create=True).add_new(0x01, "LO", who.number)
    item.AnatomicRegionModifierSequence = Sequence([inner])
    return item


def add_overlay(data: Dataset, shape: tuple[int, ...], who: Person) -> None:
    """The name as an overlay of group 6000 (PS3.3 C.9.2), one bit a pixel."""
    canvas = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(canvas).text((2, 2), who.family, fill=1, font=font(14))
    bits = np.packbits(np.asarray(canvas).ravel(), bitorder="little").tobytes()
    data.add_new(0x60000010, "US", shape[0])
    data.add_new(0x60000011, "US", shape[1])
    data.add_new(0x60000022, "LO", f"{who.family} drawn")
    data.add_new(0x60000040, "CS", "G")
    data.add_new(0x60000050, "SS", [1, 1])
    data.add_new(0x60000100, "US", 1)
    data.add_new(0x60000102, "US", 0)
    data.add_new(0x60003000, "OW", bits + b"\0" * (len(bits) % 2))


def set_pixels(data: Dataset, pixels: np.ndarray) -> None:
    """Uncompressed pixels of 8 or 16 bits, grey or RGB."""
    bits = 8 * pixels.dtype.itemsize
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = bits
    data.HighBit, data.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)


def structured_report(who: Person, findings: str, number: int = 90) -> Dataset:
    """A report of text items below headings, with the patient's and an observer's name in items that are no text."""
    data = phantom(who, np.zeros((4, 4), np.uint8), number, "SR")
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(data, keyword)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SR
    observer = Dataset()
    observer.ValueType, observer.PersonName = "PNAME", f"{who.doctor}^Dr"
    data.ContentSequence = Sequence([observer, text_item("Findings", findings), text_item("Impression", "No change.")])
    return data


def text_item(heading: str, text: str) -> Dataset:
    """A TEXT content item."""
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121070", "DCM", heading
    item = Dataset()
    item.RelationshipType, item.ValueType, item.TextValue = "CONTAINS", "TEXT", text
    item.ConceptNameCodeSequence = Sequence([concept])
    return item


def save(data: Dataset, path: Path) -> Path:
    """The data set as a file, its folder included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=False)
    assert dcmread(path, stop_before_pixels=True).preamble == data.preamble
    return path


def anatomy(seed: int, side: int = 512) -> np.ndarray:
    """uint8 (side, side): soft shapes with noise on black, as a slice or a radiograph has them."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:side, 0:side] / side - 0.5
    grey = np.zeros((side, side))
    for size in (0.44, 0.36, 0.2, 0.15, 0.1, 0.07, 0.05):
        down, right = chance.uniform(-0.25, 0.25, 2) * (size < 0.3)
        inside = ((rows - down) / size) ** 2 + ((columns - right) / (size * chance.uniform(0.7, 1))) ** 2 < 1
        grey[inside] = chance.uniform(40, 200)
    coarse = chance.normal(0, 14, (side // 8, side // 8))
    texture = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(grey + texture * (grey > 0) + chance.normal(0, 4, grey.shape), 0, 255).astype(np.uint8)


@lru_cache
def font(height: int, face: str = "") -> ImageFont.FreeTypeFont:
    """A font by the height of its capitals' em; face: a file name of DejaVu in matplotlib's wheel, or Pillow's own."""
    if not face:
        return ImageFont.load_default(height)
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / face, height)


@dataclass
class Burnt:
    """An image with text in its pixels, and where the glyphs are."""

    pixels: np.ndarray
    lines: list[tuple[str, np.ndarray]] = field(default_factory=list)
    """(text, bool (H, W): its glyphs' pixels, where the pixels changed visibly)."""


@dataclass(frozen=True)
class Ink:
    """How a text is burnt in."""

    height: int = 14
    grey: int = 255
    face: str = ""
    angle: int = 0
    """Degrees, counter-clockwise."""
    plate: int | None = None
    """Grey of a plate below the text; None: none."""


def burn(image: Burnt, text: str, corner: tuple[int, int], ink: Ink) -> None:
    """Draw the text with its upper left corner at (x, y), or as near as it fits."""
    x_offset, top, right, bottom = font(ink.height, ink.face).getbbox(text)
    mask = Image.new("L", (int(right - x_offset) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(mask).text((2 - x_offset, 2 - top), text, fill=255, font=font(ink.height, ink.face))
    mask = mask.rotate(ink.angle, Image.Resampling.BICUBIC, expand=True)
    height, width = image.pixels.shape[:2]
    x, y = min(corner[0], width - mask.width), min(corner[1], height - mask.height)
    assert x >= 0, f"{text!r} is wider than the image"
    assert y >= 0, f"{text!r} is higher than the image"
    alpha = np.zeros((height, width))
    alpha[y : y + mask.height, x : x + mask.width] = np.asarray(mask) / 255
    below = image.pixels.astype(float)
    if ink.plate is not None:
        below[y : y + mask.height, x : x + mask.width] = ink.plate
    drawn = (below * (1 - alpha) + ink.grey * alpha).astype(np.uint8)
    image.pixels = drawn
    image.lines.append((text, alpha > 0.25))
