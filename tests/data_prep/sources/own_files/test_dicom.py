import io

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from data_prep.deidentify.dicom_tags import described, keyed_uid, remove_identity
from data_prep.deidentify.known_identifiers import KnownIdentifiers
from data_prep.deidentify.pseudonym import pseudonym
from data_prep.errors import BadRow, PrepError
from data_prep.source import Dropped
from data_prep.sources.own_files.dicom import Dicom
from data_prep.sources.own_files.dicom_studies.pixels import frames_of, render
from data_prep.sources.own_files.dicom_studies.reports import caption_of
from medvlp.shards import Sample
from tests.data_prep.sources.own_files.phantoms import anatomy, person, phantom, save, spelled, structured_report

KEY = bytes(range(32))


@pytest.fixture(autouse=True)
def key(tmp_path_factory, monkeypatch):
    file = tmp_path_factory.mktemp("key") / "deid.key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(file))


def read_all(folder, **options):
    source = Dicom(str(folder), **options)
    items = [item for unit in source.units() for item in source.read(unit)]
    return [i for i in items if isinstance(i, Sample)], [i for i in items if isinstance(i, Dropped)]


def decoded(sample, name="png"):
    return np.asarray(Image.open(io.BytesIO(sample.images[name])))


def everything(dataset):
    """All that a data set says, at all depths."""
    return str(dataset) + str(dataset.file_meta) + str(dataset.preamble) + dataset.to_json(suppress_invalid_tags=True)


# --- tags


@pytest.mark.parametrize("seed", range(20))
def test_nothing_identifying_is_left_in_tags(seed, tmp_path):
    who = person(seed)
    dataset = dcmread(save(phantom(who, anatomy(seed, 64)), tmp_path / "a"))
    before = everything(dataset)
    planted = [text for texts in who.strings.values() for text in texts if text in before]
    assert len(planted) == 12, planted  # all but the spelled birth date
    removed_counts = remove_identity(dataset, KEY)
    after = everything(dataset)
    assert [text for text in planted if text.lower() in after.lower()] == []
    assert removed_counts == {"tags": 23, "private_tags": 5, "overlays": 1, "uids": 4}
    assert not any(0x5000 <= element.tag.group <= 0x60FF for element in dataset)
    assert dataset.pixel_array.shape == (64, 64)


def test_uids_stay_joined_and_depend_on_the_key(tmp_path):
    first, second = (phantom(person(1), anatomy(1, 16), number) for number in (1, 2))
    for dataset in (first, second):
        remove_identity(dataset, KEY)
    assert first.StudyInstanceUID == second.StudyInstanceUID == keyed_uid(KEY, f"{person(1).uid}.1")
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert keyed_uid(b"x" * 32, f"{person(1).uid}.1") != first.StudyInstanceUID


def test_a_value_that_cannot_be_read_goes(tmp_path):
    data = save(phantom(person(1), anatomy(1, 16)), tmp_path / "a").read_bytes()
    rows = b"\x28\x00\x11\x00US\x02\x00"  # (0028,0011) US of 2 bytes, followed by its value
    assert data.count(rows) == 1
    (tmp_path / "a").write_bytes(data.replace(rows, b"\x28\x00\x11\x00FD\x02\x00"))
    dataset = dcmread(tmp_path / "a")
    assert remove_identity(dataset, KEY)["tags"] == 24
    assert "Columns" not in dataset


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.parametrize(
    ("age", "said"),
    [("045Y", "45"), ("089Y", "89"), ("090Y", "90+"), ("107Y", "90+"), ("006M", "0"), ("030M", "2"), ("Smith", None)],
)
def test_ages_above_89_are_one_group(age, said):
    dataset = Dataset()
    dataset.PatientAge = age
    assert described(dataset).get("patient_age") == said


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_only_defined_terms_are_shown():
    dataset = Dataset()
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition, dataset.PatientSex = (
        "dx",
        "MR SMITH",
        "PA",
        "SMITH",
    )
    assert described(dataset) == {"dicom_modality": "DX", "view": "PA"}


# --- reports


@pytest.mark.parametrize(
    "sentence",
    [
        "Mrs {family} was born {birth}.",
        "{FAMILY}, {given}: no change since {date}",
        "ID {number}/{accession}, Dr. {doctor}",
        "seen at {institution}",
        "call {phone}",
    ],
)
def test_what_the_tags_know_is_struck_from_reports(sentence):
    who = person(4)
    known = KnownIdentifiers()
    known.add(phantom(who, anatomy(1, 16)))
    words = {
        name: getattr(who, name)
        for name in ("family", "given", "number", "accession", "doctor", "institution", "phone")
    }
    text = sentence.format(FAMILY=who.family.upper(), birth=spelled(who.birth), date=who.date, **words)
    struck, times = known.redact(text)
    assert times >= 1
    assert not any(s.lower() in struck.lower() for strings in who.strings.values() for s in strings)


@pytest.mark.parametrize(
    "written",
    [
        "20240305",
        "2024-03-05",
        "05.03.2024",
        "5.3.24",
        "3/5/2024",
        "03/05/24",
        "March 5, 2024",
        "5 Mar 2024",
        "5. March 2024",
    ],
)
def test_ways_to_write_a_date(written):
    known = KnownIdentifiers(dates={"20240305"})
    assert known.redact(f"compared with {written}.") == ("compared with [DATE].", 1)


@pytest.mark.parametrize(
    ("name", "text", "struck"),
    [
        ("An^He", "An effusion; he is well. AN HE", "[NAME] effusion; he is well. [NAME] [NAME]"),
        ("Ng", "Ng, an ng tube", "[NAME], an ng tube"),
        ("Brown^J", "Brownish; brown, J", "Brownish; [NAME], J"),
    ],
)
def test_short_names_are_struck_as_names_only(name, text, struck):
    known = KnownIdentifiers()
    dataset = Dataset()
    dataset.PatientName = name
    known.add(dataset)
    assert known.redact(text)[0] == struck


@pytest.mark.parametrize(
    ("report", "caption", "sections"),
    [
        ("Clear lungs.\n", "Clear lungs.", {}),
        (
            "PATIENT: X\nFINDINGS: Heart normal.\nLungs: clear.\nIMPRESSION:\nNo change.\nSIGNED: Y",
            "Heart normal.\nLungs: clear.\nNo change.",
            {"findings": "Heart normal.\nLungs: clear.", "impression": "No change."},
        ),
        ("Conclusion: fracture", "fracture", {"impression": "fracture"}),
        ("HISTORY: cough", "HISTORY: cough", {}),
    ],
)
def test_sections(report, caption, sections):
    assert caption_of(report) == (caption, sections)


def test_where_reports_are_found(tmp_path):
    who = [person(seed) for seed in range(4)]
    for n, patient in enumerate(who):
        save(phantom(patient, anatomy(n, 64)), tmp_path / "in" / str(n) / "series" / "im.dcm")
    (tmp_path / "in/0/report.txt").write_text(f"FINDINGS: {who[0].family} has a cold.")
    (tmp_path / "in/1/series/im.txt").write_text("Pneumonia.")
    save(structured_report(who[2], f"No mass in {who[2].given}."), tmp_path / "in/2/sr")
    (tmp_path / "in/report.txt").write_text("of all")
    (tmp_path / "reports.csv").write_text(f"AccessionNumber,text\n{who[1].accession},Effusion.\n")
    samples, drops = read_all(tmp_path / "in")
    assert [s.texts["caption"] for s in samples] == [
        "[NAME] has a cold.",
        "Pneumonia.",
        "No mass in [NAME].\nNo change.",
        "Chest CT image, AP view, left side.",
    ]
    assert [s.metadata["has_report"] for s in samples] == [True, True, True, False]
    assert [drop.reason for drop in drops] == ["report_of_several_studies"]
    samples, _ = read_all(tmp_path / "in", reports=str(tmp_path / "reports.csv"))
    assert samples[1].texts["caption"] == "Effusion."
    samples, drops = read_all(tmp_path / "in", without_report="drop")
    assert (len(samples), sorted(drop.reason for drop in drops)) == (3, ["no_report", "report_of_several_studies"])


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("StudyInstanceUID,words\n1.2,x\n", "line 2: expected a value for StudyInstanceUID or AccessionNumber"),
        ("AccessionNumber,text\nSECRET,x\nSECRET,y\n", "line 3: a second, different report of one study"),
        ("AccessionNumber,text\nSECRET\n", "line 2: 1 fields, expected 2"),
    ],
)
def test_a_table_of_reports_that_will_not_do(tmp_path, table, said):
    (tmp_path / "reports.csv").write_text(table)
    with pytest.raises(PrepError, match=said) as error:
        Dicom(str(tmp_path), reports=str(tmp_path / "reports.csv"))
    assert "SECRET" not in str(error.value)


# --- pixels

RAMP = np.arange(-1024, 1024, 8, dtype=np.int16).reshape(16, 16)
"""Hounsfield units."""


def ct(pixels=RAMP, **changes):
    return phantom(person(1), pixels, **changes)


@pytest.mark.parametrize(
    ("name", "centre", "width"), [("lung", -600, 1500), ("brain", 40, 80), ("bone", 400, 1800), ("abdomen", 40, 400)]
)
def test_a_window_by_name(name, centre, width):
    """Against the formula of PS3.3 C.11.2.1.2.1, on values that need a rescale first."""
    stored = (RAMP + 1000).astype(np.int16)
    display, rule = render(
        ct(stored, RescaleSlope="1", RescaleIntercept="-1000", WindowCenter="0", WindowWidth="1"), 0, name
    )
    expected = np.clip((RAMP - (centre - 0.5)) / (width - 1) + 0.5, 0, 1) * 255
    np.testing.assert_allclose(display, expected, atol=0.51)
    assert rule == name


def test_the_files_own_window_and_its_first_if_there_are_several():
    display, rule = render(ct(WindowCenter=["100", "0"], WindowWidth=["200", "9"]), 0)
    np.testing.assert_allclose(display, np.clip((RAMP - 99.5) / 199 + 0.5, 0, 1) * 255, atol=0.51)
    assert rule == "file"
    assert np.array_equal(render(ct(WindowCenter="100", WindowWidth="200", Modality="MR"), 0, "lung")[0], display)


def test_without_a_window_the_range_is_shown_and_padding_is_black():
    pixels = np.array([[-2000, 0], [50, 100]], np.int16)
    display, rule = render(ct(pixels, PixelPaddingValue=-2000), 0)
    assert display.tolist() == [[0, 0], [128, 255]]
    assert rule == "range"


def test_monochrome1_is_inverted():
    normal, _ = render(ct(), 0)
    inverted, _ = render(ct(PhotometricInterpretation="MONOCHROME1"), 0)
    assert np.array_equal(inverted, 255 - normal)


def test_sixteen_bits():
    display, _ = render(ct(), 0, depth=16)
    assert display.dtype == np.uint16
    np.testing.assert_allclose(display, (RAMP - RAMP.min()) / np.ptp(RAMP) * 65535, atol=0.51)


def test_a_table_of_values():
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 0, 8], [10, 20, 30, 40]
    dataset = ct(np.array([[0, 1], [2, 9]], np.uint8), VOILUTSequence=Sequence([item]))
    dataset["VOILUTSequence"][0]["LUTData"].VR = "US"
    assert render(dataset, 0)[0].tolist() == [[10, 20], [30, 40]]


def test_frames_have_windows_of_their_own():
    frames = np.stack([RAMP, RAMP])
    dataset = ct(frames[0], NumberOfFrames=2)
    dataset.PixelData = frames.tobytes()
    groups = []
    for centre in (0, 500):
        voi, group = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, 100
        group.FrameVOILUTSequence = Sequence([voi])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    assert frames_of(dataset) == 2
    for frame, centre in enumerate((0, 500)):
        expected = np.clip((RAMP - (centre - 0.5)) / 99 + 0.5, 0, 1) * 255
        np.testing.assert_allclose(render(dataset, frame)[0], expected, atol=0.51)


def test_an_overlay_in_unused_bits_is_not_drawn():
    twelve = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16
    drawn = twelve | (np.eye(16, dtype=np.uint16) << 15)
    plain, _ = render(ct(twelve, BitsStored=12, HighBit=11), 0)
    assert np.array_equal(render(ct(drawn, BitsStored=12, HighBit=11), 0)[0], plain)


def test_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    display, rule = render(phantom(person(1), pixels, modality="US"), 0)
    assert np.array_equal(display, pixels)
    assert rule == "colour"


def test_a_palette():
    dataset = phantom(person(1), np.array([[0, 1], [2, 3]], np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for name, values in (("Red", [0, 255, 0, 9]), ("Green", [0, 0, 255, 9]), ("Blue", [7, 0, 0, 9])):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(dataset, f"{name}PaletteColorLookupTableData", bytes(values))
    assert render(dataset, 0)[0].tolist() == [[[0, 0, 7], [255, 0, 0]], [[0, 255, 0], [9, 9, 9]]]


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_frames(syntax, tmp_path):
    pixels = anatomy(3, 64).astype(np.uint16) * 9
    plain = phantom(person(1), pixels)
    expected, _ = render(plain, 0)
    plain.compress(syntax)
    dataset = dcmread(save(plain, tmp_path / "a"))
    assert frames_of(dataset) == 1
    assert np.array_equal(render(dataset, 0)[0], expected)


def test_a_missing_decoder_is_named():
    dataset = ct()
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset.PixelData = encapsulate([b"\xff\xd8"])
    with pytest.raises(BadRow, match=r"JPEG Lossless.* has no decoder here"):
        frames_of(dataset)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Rows": 60000, "Columns": 60000}, "too_many_pixels"),
        ({"NumberOfFrames": 2_000_000_000}, "too_many_pixels"),
        ({"Rows": 0}, "bad_pixels"),
        ({"PixelData": None}, "no_pixels"),
    ],
)
def test_sizes_are_looked_at_before_decoding(changes, reason):
    with pytest.raises(BadRow) as error:
        frames_of(ct(**changes))
    assert error.value.reason == reason


def test_a_frame_that_is_larger_than_its_header_is_not_decoded():
    dataset = phantom(person(1), anatomy(1, 64))
    dataset.compress(JPEG2000Lossless)
    dataset.Rows = dataset.Columns = 16
    with pytest.raises(BadRow, match="of another size than the header says"):
        render(dataset, 0)


def test_a_run_length_frame_that_is_longer_than_its_pixels_need_is_not_decoded():
    dataset = phantom(person(1), anatomy(1, 64))
    size = 64 * 64 * dataset.BitsAllocated // 8
    dataset.compress(RLELossless)
    before = get_frame(dataset.PixelData, 0, number_of_frames=1)
    dataset.PixelData = encapsulate([before.ljust(80 + 2 * size, b"\x80")])
    assert render(dataset, 0)[0].shape == (64, 64)
    dataset.PixelData = encapsulate([before.ljust(80 + 2 * size + 2, b"\x81")])
    with pytest.raises(BadRow, match=f"{80 + 2 * size + 2} bytes of RLE in a frame, whose pixels have {size}") as error:
        render(dataset, 0)
    assert error.value.reason == "bad_pixels"


@pytest.mark.parametrize(("rows", "columns"), [(300, 1), (1, 300), (1, 1)])
def test_the_longest_honest_run_length_frames_are_decoded(rows, columns):
    pixels = np.random.default_rng(0).integers(0, 4096, (rows, columns)).astype(np.uint16)
    plain = phantom(person(1), pixels)
    expected, _ = render(plain, 0)
    plain.compress(RLELossless)
    assert np.array_equal(render(plain, 0)[0], expected)


# --- folders


def test_samples_of_a_folder(tmp_path):
    first, second = person(1), person(2)
    for number in (2, 1, 3):
        save(phantom(first, anatomy(number, 64), number), tmp_path / f"x/{first.family}{9 - number}.dcm")
    save(phantom(second, anatomy(9, 64), PatientID=None), tmp_path / "y" / first.number)
    (tmp_path / "DICOMDIR").write_text("ignored")
    (tmp_path / "notes.doc").write_text(first.family)
    samples, drops = read_all(tmp_path)
    study = pseudonym(KEY, f"study:{first.uid}.1")
    names = [pseudonym(KEY, f"instance:{first.uid}.1.{number}") for number in (1, 2, 3)]
    assert [s.key for s in samples[:3]] == [f"dicom__{study}__{name}__0" for name in names]
    assert {s.metadata["group"] for s in samples[:3]} == {pseudonym(KEY, f"patient::{first.number.lower()}")}
    assert [s.metadata["group_kind"] for s in samples] == ["patient"] * 3 + ["study"]
    assert [(d.name, d.reason) for d in drops] == [(pseudonym(KEY, "file:notes.doc"), "not_dicom")]
    assert samples[0].metadata["patient_age"] == "90+"
    assert np.array_equal(decoded(samples[0]), render(phantom(first, anatomy(1, 64)), 0)[0])


def test_a_study_in_one_sample(tmp_path):
    for number in range(1, 9):
        save(phantom(person(1), anatomy(number, 64), number), tmp_path / f"{number}.dcm")
    (sample,), drops = read_all(tmp_path, sample="study", max_images=4)
    assert list(sample.images) == ["0001.png", "0002.png", "0003.png", "0004.png"]
    assert sample.metadata["deidentified"] == {"tags": 92, "private_tags": 20, "overlays": 4, "uids": 16}
    assert drops == []
    expected = [render(phantom(person(1), anatomy(number, 64)), 0)[0] for number in (1, 3, 5, 7)]
    assert all(np.array_equal(decoded(sample, n), e) for n, e in zip(sample.images, expected, strict=True))


@pytest.mark.parametrize(("frames", "numbers"), [("middle", ["2"]), ("first", ["1"]), ("all", ["1", "2", "3"])])
def test_frames(tmp_path, frames, numbers):
    stack = np.stack([anatomy(n, 32) for n in range(3)])
    dataset = phantom(person(1), stack[0], NumberOfFrames=3)
    dataset.PixelData = stack.tobytes()
    save(dataset, tmp_path / "a.dcm")
    samples, _ = read_all(tmp_path, frames=frames)
    assert [s.key.rpartition("__")[2] for s in samples] == numbers
    assert sum(s.metadata["deidentified"].get("tags", 0) for s in samples) == 23


def test_units_hold_whole_studies_in_an_order_that_no_key_decides(tmp_path, monkeypatch):
    for seed in range(5):
        for number in range(3):
            save(phantom(person(seed), anatomy(seed, 16), number), tmp_path / f"{seed}-{number}.dcm")
    first = Dicom(str(tmp_path), samples_per_shard=4)
    assert [unit.selection for unit in first.units()] == [[0, 2], [2, 4], [4, 5]]
    monkeypatch.setattr("data_prep.sources.own_files.dicom.load_key", lambda path=None: b"y" * 32)
    second = Dicom(str(tmp_path), samples_per_shard=4)
    assert second.units() == first.units()
    assert second.options()["key_id"] != first.options()["key_id"]
    assert second.fingerprint() != first.fingerprint()
    pixels = [[item.images["png"] for unit in s.units() for item in s.read(unit)] for s in (first, second)]
    assert pixels[0] == pixels[1]


def test_faults_have_names_that_say_nothing(tmp_path, capfd):
    who = person(6)
    good = phantom(who, anatomy(1, 64))
    save(good, tmp_path / f"{who.family}.dcm")
    save(good, tmp_path / f"{who.given}.dcm")
    broken = phantom(who, anatomy(1, 64), 2)
    broken.PixelData = broken.PixelData[:100]
    save(broken, tmp_path / f"{who.doctor}.dcm")
    whole = (tmp_path / f"{who.family}.dcm").read_bytes()
    (tmp_path / f"{who.number}.dcm").write_bytes(whole[:700])
    (tmp_path / f"{who.accession}.dcm").write_bytes(whole[:132] + who.family.encode() * 9)
    (tmp_path / "outside.dcm").symlink_to("/etc/hostname")
    (tmp_path / "nowhere.dcm").symlink_to(tmp_path / who.family)
    (tmp_path / "p.dcm").mkdir()
    deflated = phantom(who, anatomy(1, 16), 5)
    deflated.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    save(deflated, tmp_path / "z")
    strange = phantom(who, anatomy(1, 16), 7)
    strange["PatientAge"]._value = f"{who.family} is old"
    strange["InstanceNumber"].VR = "LO"
    strange["InstanceNumber"]._value = who.family
    save(strange, tmp_path / "strange")
    samples, drops = read_all(tmp_path)
    reasons = sorted(drop.reason for drop in drops)
    assert reasons == [
        *("bad_path", "bad_path", "bad_pixels", "deflated", "duplicate_instance", "no_pixels", "no_pixels"),
    ]
    assert len(samples) == 2
    output = repr(drops) + "".join(capfd.readouterr())
    assert not any(text.lower() in output.lower() for texts in who.strings.values() for text in texts)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": "liver"}, "options.window=liver, expected one of lung"),
        ({"depth": 12}, "options.depth=12, expected one of 8, 16"),
        ({"sample": "series"}, "options.sample=series, expected one of image, study"),
        ({"max_images": 0}, "options.max_images=0, expected 1 or more"),
    ],
)
def test_options_that_are_none(tmp_path, options, said):
    with pytest.raises(PrepError, match=said):
        Dicom(str(tmp_path), **options)


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(PrepError, match="is not a folder"):
        Dicom(str(tmp_path / "nothing"))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("left_out", ["preamble and header", "preamble", "transfer syntax"])
def test_files_without_all_of_their_header_are_read_by_their_first_bytes(tmp_path, syntax, left_out):
    image = phantom(person(1), anatomy(1, 32))
    image.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        image["PixelData"].VR = "OW"
        image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
    whole = io.BytesIO()
    expected = dcmread(save(phantom(person(1), anatomy(1, 32)), tmp_path / "expected"))
    dcmwrite(
        whole,
        image,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )
    if left_out == "transfer syntax":
        data = whole.getvalue().replace(b"\x02\0\x10\0UI", b"\x02\0\x11\0UI")
    else:
        data = whole.getvalue()[132:]
        if left_out == "preamble and header":
            length = int.from_bytes(data[8:12], "little")
            data = data[12 + length :]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(data)
    (tmp_path / "in" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" * 99)
    source = Dicom(str(tmp_path / "in"))
    items = [item for unit in source.units() for item in source.read(unit)]
    assert [item.reason for item in items if isinstance(item, Dropped)] == ["hidden_file"]
    (sample,) = [item for item in items if isinstance(item, Sample)]
    assert np.array_equal(decoded(sample), render(expected, 0)[0])
    counted = {("read", "DICOM files without a transfer syntax, told by their first bytes"): 1}
    assert source.counts == ({} if left_out == "preamble" else counted)


def test_compressed_pixels_without_a_transfer_syntax_have_a_reason_of_their_own(tmp_path):
    image = phantom(person(1), anatomy(1, 32))
    image.compress(RLELossless)
    path = save(image, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes().replace(b"\x02\0\x10\0UI", b"\x02\0\x11\0UI"))
    _, drops = read_all(tmp_path)
    assert [drop.reason for drop in drops] == ["no_transfer_syntax"]
    assert "(0002,0010) is missing" in drops[0].detail


@pytest.mark.parametrize("data", [b"\x08\0\x05\0CS\x0a\0ISO_IR 100", b"\x08\0", b"\x08\0\x05\0" + b"\xff" * 40])
def test_what_only_begins_like_a_data_set_is_not_dicom(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert [drop.reason for drop in read_all(tmp_path)[1]] == ["not_dicom"]


def test_what_a_system_left_behind_is_not_taken_for_damaged_dicom(tmp_path):
    for name in ("Thumbs.db", "._scan.dcm", "__MACOSX/scan.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mac")
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    assert sorted(drop.reason for drop in read_all(tmp_path)[1]) == ["hidden_file"] * 3 + ["not_dicom"]
