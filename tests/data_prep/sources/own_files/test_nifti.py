import gzip
import io
import re
import struct
import unicodedata

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.errors import BadRow, PrepError
from data_prep.pipeline import prepare
from data_prep.readers import nifti_volumes as volumes_module
from data_prep.readers.nifti_volumes import read_volume
from data_prep.source import Dropped
from data_prep.sources.own_files.nifti import Nifti
from medvlp.shards import ShardDataset, verify

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def nii(voxels=VOXELS, kind=nibabel.Nifti1Image, extensions=(), **fields):
    """An uncompressed file."""
    image = kind(voxels, np.diag([2.0, 2.0, 3.5, 1.0]))
    for name, value in fields.items():
        image.header[name] = value
    image.header.extensions.extend(nibabel.nifti1.Nifti1Extension("comment", text.encode()) for text in extensions)
    return image.to_bytes()


def zipped(data, name=""):
    buffer = io.BytesIO()
    with gzip.GzipFile(filename=name, mode="wb", fileobj=buffer, mtime=1234567890) as file:
        file.write(data)
    return buffer.getvalue()


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def read(tmp_path, data, name="v.nii.gz", blank=False):
    write(tmp_path, {name: data})
    return read_volume(tmp_path, name, blank)


def loaded(data):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(data))


@pytest.fixture
def private(tmp_path_factory, monkeypatch):
    path = tmp_path_factory.mktemp("key") / "deid.key"
    path.write_bytes(b"0123456789abcdef0123456789abcdef")
    path.chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(path))


def items(source):
    return [(unit.split, item) for unit in source.units() for item in source.read(unit)]


def test_real_volumes_with_captions_from_their_labels(test_data, tmp_path):
    folder = test_data / "ct3d"
    options = {"table": "labels.csv", "label": "label", "templates": "chest_ct", "labels": ["sex", "age"]}
    result = prepare("nifti", str(folder), tmp_path / "out", options=options | {"licence": "CC-BY-4.0"})
    assert (result.ledger["in"], result.ledger["out"], result.ledger["drops"]) == (6, 6, {})
    assert verify(tmp_path / "out") == []
    data = ShardDataset(tmp_path / "out" / "train")
    samples = [data.read(i) for i in range(len(data))]
    for sample in samples:
        assert sample.images == {"nii.gz": (folder / sample.metadata["original_name"]).read_bytes()}
        assert sample.metadata["shape"] == [128, 128, 64]
        assert (sample.metadata["modality"], sample.metadata["licence"]) == ("CT", "CC-BY-4.0")
        assert "header_texts" not in sample.metadata
    labels = [(s.key, s.labels["label_name"], s.labels["sex"], s.labels["age"]) for s in samples]
    assert labels == [
        ("nifti__P001__nii-gz__0", "COVID-19", "M", "039Y"),
        ("nifti__P002__nii-gz__0", "COVID-19", "F", "048Y"),
        ("nifti__cap001__nii-gz__0", "Cap", "M", "062Y"),
        ("nifti__cap002__nii-gz__0", "Cap", "F", "077Y"),
        ("nifti__normal001__nii-gz__0", "Normal", "F", "070Y"),
        ("nifti__normal002__nii-gz__0", "Normal", "M", "068Y"),
    ]
    plain = [
        re.sub("COVID-19 pneumonia|pneumonia acquired outside of a hospital", "X", s.texts["caption"]) for s in samples
    ]
    said = [re.sub("COVID-19|community-acquired pneumonia", "X", caption) for caption in plain]
    assert said == ["a chest CT showing X"] * 4 + ["a chest CT without an abnormal finding"] * 2
    assert samples[0].metadata["spacing"] == [2.992188, 2.992188, 4.666667]


def test_a_volume_keeps_its_bytes(tmp_path):
    data = zipped(nii(descrip=b"FSL5.0"), name="v.nii")
    volume, described = read(tmp_path, data)
    assert volume == data
    assert described == {"shape": [4, 5, 6], "spacing": [2.0, 2.0, 3.5], "header_texts": ["descrip"]}


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_uncompressed_volumes_are_compressed_always_to_the_same_bytes(tmp_path, kind):
    data = nii(kind=kind)
    volume, described = read(tmp_path, data, "v.nii")
    assert gzip.decompress(volume) == data
    assert volume[3:8] == b"\0" * 5  # neither a name nor a time
    assert volume == read(tmp_path / "elsewhere", data, "w.nii")[0]
    assert described == {"shape": [4, 5, 6], "spacing": [2.0, 2.0, 3.5]}


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_private_volumes_are_blanked_and_nothing_else_changes(tmp_path, kind):
    texts = {"descrip": b"Doe^John 1957-03-02", "aux_file": b"/home/Doe", "intent_name": b"Doe"}
    if kind is nibabel.Nifti1Image:
        texts |= {"db_name": b"MRN Doe", "data_type": b"Doe"}
    original = nii(kind=kind, extensions=["Doe^John, MRN 12345", "more of Doe"], **texts)
    assert b"12345" in original
    volume, described = read(tmp_path, zipped(original, name="Doe_John.nii"), blank=True)
    assert b"Doe" not in volume
    plain = gzip.decompress(volume)
    assert not re.search(b"Doe|MRN|1957|12345", plain)
    assert described["deidentified"] == {"header_fields": len(texts) + 1, "extensions": 1}  # and the name in gzip
    assert "header_texts" not in described
    before, after = kind.from_bytes(original), kind.from_bytes(plain)
    assert np.array_equal(np.asarray(after.dataobj), VOXELS)
    assert np.array_equal(after.affine, before.affine)
    assert len(after.header.extensions) == 0
    changed = {n for n in before.header if before.header[n].tobytes() != after.header[n].tobytes()}
    assert changed == set(texts)
    assert len(plain) == len(original)


def test_a_big_endian_header_is_read_and_blanked(tmp_path):
    swapped = nibabel.Nifti1Image.from_bytes(nii(descrip=b"Doe"))
    header = swapped.header.as_byteswapped(">")
    header["vox_offset"] = 352  # nibabel sets it while it writes
    data = header.binaryblock + b"\0" * 4 + VOXELS.astype(">i2").tobytes(order="F")
    volume, described = read(tmp_path, zipped(data), blank=True)
    assert described == {
        "shape": [4, 5, 6],
        "spacing": [2.0, 2.0, 3.5],
        "deidentified": {"header_fields": 1, "extensions": 0},
    }
    assert np.array_equal(np.asarray(loaded(volume).dataobj), VOXELS)


def changed_header(offset, form, *values, data=None):
    data = bytearray(nii() if data is None else data)
    struct.pack_into(form, data, offset, *values)
    return zipped(bytes(data))


WHOLE = zipped(nii())


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", "truncated", "ends before"),
        (b"\x1f\x8b", "truncated", ""),
        (b"<html>not found</html>", "image_format", "does not begin as NIfTI does"),
        (zipped(b"\0" * 1000), "image_format", "does not begin as NIfTI does"),
        (zipped(nii()[:300]), "truncated", "ends before the voxels"),
        (zipped(nii()[:-1]), "truncated", "ends before the voxels"),
        (WHOLE[:-20], "truncated", "ends within its compressed data"),
        (WHOLE[:-5] + b"\0" + WHOLE[-4:], "broken_image", "cannot be decompressed"),
        (WHOLE[:40] + b"\xff" * 40 + WHOLE[80:], "broken_image", "cannot be decompressed"),
        (WHOLE + b"a payload", "broken_image", "cannot be decompressed"),
        (zipped(nii() + b"\0"), "trailing_data", "goes on after the 240 bytes of voxels"),
        (zipped(nii() + bytes(50 * 2**20)), "trailing_data", "goes on after the 240 bytes"),
        (changed_header(40, "<8h", 3, 0, 5, 6, 1, 1, 1, 1), "bad_header", "the shape is (0, 5, 6)"),
        (changed_header(40, "<8h", 3, -4, 5, 6, 1, 1, 1, 1), "bad_header", "the shape is (-4, 5, 6)"),
        (changed_header(40, "<8h", 2, 20, 6, 1, 1, 1, 1, 1), "bad_header", "expected 3 or 4 axes"),
        (changed_header(40, "<8h", 5, 4, 5, 6, 1, 1, 1, 1), "bad_header", "expected 3 or 4 axes"),
        (changed_header(40, "<8h", 3, 32767, 5, 6, 1, 1, 1, 1), "bad_header", "of 1 to 16384"),
        (changed_header(40, "<8h", 4, 9999, 9999, 9999, 99, 1, 1, 1), "bad_header", "at most 2147483648 are read"),
        (changed_header(70, "<h", 77), "bad_header", "77"),
        (changed_header(108, "<f", 1e9), "bad_header", "voxels are said to begin at byte"),
        (changed_header(108, "<f", 16.0), "bad_header", ""),
        (changed_header(108, "<f", float("nan")), "bad_header", ""),
        (changed_header(344, "<4s", b"ni1\0"), "bad_header", "in another file (.img)"),
    ],
)
@pytest.mark.parametrize("blank", [False, True])
def test_files_that_are_refused(tmp_path, data, reason, detail, blank):
    with pytest.raises(BadRow) as raised:
        read(tmp_path, data, blank=blank)
    assert raised.value.reason == reason
    assert detail in raised.value.detail


def test_a_bomb_is_left_as_soon_as_it_exceeds_its_header(tmp_path):
    import tracemalloc

    data = zipped(nii() + bytes(200 * 2**20))
    assert len(data) < 2**20
    tracemalloc.start()
    with pytest.raises(BadRow, match="trailing_data"):
        read(tmp_path, data)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


def test_large_files_and_strange_names(tmp_path, monkeypatch):
    write(tmp_path / "f", {"v.nii.gz": WHOLE})
    (tmp_path / "outside.nii.gz").write_bytes(WHOLE)
    (tmp_path / "f" / "link.nii.gz").symlink_to(tmp_path / "outside.nii.gz")
    (tmp_path / "f" / "folder.nii").mkdir()
    (tmp_path / "f" / "loop.nii").symlink_to("loop.nii")
    (tmp_path / "f" / "dangling.nii").symlink_to("nothing.nii")
    for name, reason in {
        "link.nii.gz": "bad_path",
        "../outside.nii.gz": "bad_path",
        "folder.nii": "bad_path",
        "none.nii": "missing_image",
        "v.nii.gz/x": "bad_path",
        "loop.nii": "bad_path",
        "dangling.nii": "missing_image",
        "n" * 400 + ".nii": "bad_path",
        "n/" * 3000 + "a.nii": "bad_path",
    }.items():
        with pytest.raises(BadRow) as raised:
            read_volume(tmp_path / "f", name, False)
        assert raised.value.reason == reason, name
    monkeypatch.setattr(volumes_module, "MAX_FILE_BYTES", len(WHOLE) - 1)
    with pytest.raises(BadRow, match="image_too_large"):
        read_volume(tmp_path / "f", "v.nii.gz", False)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 351), st.integers(0, 255), st.booleans())
def test_whatever_a_header_says_the_file_is_read_or_dropped(tmp_path_factory, offset, value, blank):
    data = bytearray(nii(extensions=["text"]))
    data[offset] = value
    folder = tmp_path_factory.mktemp("f")
    try:
        volume, described = read(folder, zipped(bytes(data)), blank=blank)
    except BadRow as bad:
        assert bad.reason in ("bad_header", "image_format", "truncated", "trailing_data")  # noqa: PT017
    else:
        assert tuple(described["shape"]) == nibabel.Nifti1Image.from_bytes(gzip.decompress(volume)).shape


def test_a_table_names_files_and_what_is_said_of_them(tmp_path):
    folder = write(
        tmp_path / "f",
        {
            "scans/a.nii.gz": WHOLE,
            "scans/b.nii": nii(),
            "scans/forgotten.nii.gz": WHOLE,
            "scans/.hidden.nii.gz": WHOLE,
            "notes.txt": b"x",
            "t.csv": "file,report,patient,part\nscans/a.nii.gz,Clear lungs.,p1,train\nscans/b.nii,A mass.,p2,val\n"
            "scans/none.nii,Gone.,p3,test\n",
        },
    )
    source = Nifti(str(folder), table="t.csv", caption="report", group="patient", split="part", modality="CT")
    rows = items(source)
    assert [(split, i.name if isinstance(i, Dropped) else i.key) for split, i in rows] == [
        ("train", "nifti__scans__a__nii-gz"),
        ("train", "scans/forgotten.nii.gz"),
        ("valid", "nifti__scans__b__nii"),
        ("test", "scans/none.nii"),
    ]
    assert [i.reason for _, i in rows if isinstance(i, Dropped)] == ["no_table_row", "missing_image"]
    assert rows[2][1].texts == {"caption": "A mass."}
    assert rows[2][1].metadata["group"] == "p2"
    assert set(rows[2][1].images) == {"nii.gz"}


def test_volumes_are_found_in_other_spellings(tmp_path):
    write(tmp_path, {unicodedata.normalize("NFD", "Schädel.nii.gz"): zipped(nii())})
    (tmp_path / "t.csv").write_text("file,title\nSchädel.nii.gz,A skull.\n")
    ((_, sample),) = items(Nifti(str(tmp_path), table="t.csv", caption="title"))
    assert sample.texts == {"caption": "A skull."}


def test_one_bad_name_ends_no_other(tmp_path):
    names = ("v.nii.gz", "loop.nii", "dangling.nii", "n" * 400 + ".nii", "n/" * 3000 + "a.nii")
    table = "file,report\n" + "".join(f"{name},Normal.\n" for name in names)
    folder = write(tmp_path / "f", {"v.nii.gz": WHOLE, "t.csv": table.encode()})
    (folder / "loop.nii").symlink_to("loop.nii")
    (folder / "dangling.nii").symlink_to("nothing.nii")
    (folder / "unnamed.nii").symlink_to("unnamed.nii")
    sample, *dropped = (item for _, item in items(Nifti(str(folder), table="t.csv", caption="report")))
    assert sample.images == {"nii.gz": WHOLE}
    assert [(drop.name, drop.reason) for drop in dropped] == [
        ("loop.nii", "bad_path"),
        ("dangling.nii", "missing_image"),
        (names[3], "bad_path"),
        (names[4], "bad_path"),
        ("unnamed.nii", "no_table_row"),
    ]


def test_without_a_table_folders_are_labels(tmp_path):
    files = {"train/tumor/p1_a.nii.gz": WHOLE, "test/normal/p2_a.nii": nii(), "README.md": b"x", "loose.nii": nii()}
    source = Nifti(str(write(tmp_path / "f", files)), templates="brain_mri", group=r"/(?P<group>p\d+)_")
    rows = items(source)
    assert [(split, i.name if isinstance(i, Dropped) else i.metadata["group"]) for split, i in rows] == [
        ("train", "README.md"),
        ("train", "loose.nii"),
        ("train", "p1"),
        ("test", "p2"),
    ]
    assert [i.reason for _, i in rows[:2]] == ["not_an_image", "outside_splits"]
    assert rows[2][1].metadata["modality"] == "MRI"
    assert rows[3][1].texts["caption"] == "a brain MRI without an abnormal finding"


def test_private_volumes_of_a_table(tmp_path, private):
    folder = write(
        tmp_path / "f",
        {
            "Doe_John.nii.gz": zipped(nii(descrip=b"Doe"), name="Doe_John.nii"),
            "Doe_Jane.nii.gz": b"x",
            "t.csv": "file,report,mrn\nDoe_John.nii.gz,Clear.,MRN1\nDoe_Jane.nii.gz,Clear.,MRN2\n",
        },
    )
    source = Nifti(str(folder), table="t.csv", caption="report", group="mrn", private=True)
    (_, sample), (_, dropped) = items(source)
    assert sample.metadata["deidentified"] == {"header_fields": 2, "extensions": 0}
    assert not re.search("Doe|MRN", repr(gzip.decompress(sample.images["nii.gz"])) + repr(sample) + repr(dropped))
    assert (dropped.reason, dropped.detail) == ("truncated", "")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"table": "t.csv", "file": "name"},
            "say which column of t.csv holds what is said of a volume: options.caption=<column>",
        ),
        ({"table": "none.csv", "label": "x"}, "is not a file; expected a table"),
        (
            {"table": "t.csv", "file": "name", "label": "x"},
            "has no column 'x'; it has 'name', 'report'; say options.label=<column>",
        ),
        (
            {"table": "t.csv", "caption": "report"},
            "no column 'file'; it has 'name', 'report'; say options.file=<column>",
        ),
        ({"caption": "report"}, "options.caption is about a table; name it with options.table="),
        ({"split": "part"}, "options.split is about a table"),
    ],
)
def test_options_that_are_refused(tmp_path, options, complaint):
    folder = write(tmp_path / "f", {"t.csv": "name,report\n"})
    with pytest.raises(PrepError, match=re.escape(complaint)):
        Nifti(str(folder), **options)
    with pytest.raises(PrepError, match=r"should be a folder of .nii.gz or .nii files"):
        Nifti(str(folder / "t.csv"))
