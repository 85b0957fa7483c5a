import io
import tarfile

import pytest
from PIL import Image

from data_prep.errors import BadRow, PrepError
from data_prep.source import Dropped
from data_prep.sources.figures.unimed import UniMed, captions_of
from tests.data_prep.folders import jpeg


def write_part(folder, *samples, tar="dataset-000001.tar"):
    """Samples as (image, text), under counters, as UniMed's scripts write them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / tar, "w") as archive:
        for number, (image, text) in enumerate(samples):
            for extension, data in (("jpg", image), ("txt", text.encode())):
                member = tarfile.TarInfo(f"{number:06d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def png(number):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(jpeg(number))).save(buffer, "PNG")
    return buffer.getvalue()


def items_of(source):
    return [item for unit in source.units() for item in source.read(unit)]


def test_parts_whose_keys_restart(tmp_path):
    write_part(tmp_path / "chexpert_webdataset", (jpeg(1), "A chest X-ray.._chexpert_Lungs._chexpert_"))
    write_part(tmp_path / "quilt_webdataset", (jpeg(2), "Spindle cells."))
    write_part(tmp_path / "quilt_webdataset", (jpeg(3), "Mitoses."), tar="dataset-000002.tar")
    write_part(tmp_path / "openi_webdataset", (png(4), "No effusion._openi_A clear chest._openi_"))
    source = UniMed(str(tmp_path))
    assert [(unit.split, unit.number, unit.selection) for unit in source.units()] == [
        ("train", 0, "chexpert_webdataset/dataset-000001.tar"),
        ("train", 1, "openi_webdataset/dataset-000001.tar"),
        ("train", 2, "quilt_webdataset/dataset-000001.tar"),
        ("train", 3, "quilt_webdataset/dataset-000002.tar"),
    ]
    chexpert, openi, quilt, more = items_of(source)
    assert [sample.key for sample in (chexpert, openi, quilt, more)] == [
        "unimed__chexpert_webdataset__dataset-000001__000000",
        "unimed__openi_webdataset__dataset-000001__000000",
        "unimed__quilt_webdataset__dataset-000001__000000",
        "unimed__quilt_webdataset__dataset-000002__000000",
    ]
    assert chexpert.texts == {"caption": "A chest X-ray..", "caption_1": "Lungs."}
    assert chexpert.metadata == {
        "source": "unimed",
        "licence": "unknown",
        "group": "chexpert_webdataset/dataset-000001/000000",
        "group_kind": "image",
        "original_name": "chexpert_webdataset/dataset-000001/000000",
        "modality": "X-ray",
        "subset": "chexpert_webdataset",
        "caption_from": "template",
    }
    assert (openi.images, openi.metadata["caption_from"]) == ({"png": png(4)}, "original")
    assert [sample.metadata["modality"] for sample in (openi, quilt)] == ["X-ray", "pathology"]
    assert more.texts == {"caption": "Mitoses."}


def test_one_part_alone_has_the_name_of_its_folder(tmp_path):
    write_part(tmp_path / "radimagenet_webdataset", (jpeg(1), "An MR._radimagenet_"))
    (sample,) = items_of(UniMed(str(tmp_path / "radimagenet_webdataset")))
    assert sample.key == "unimed__radimagenet_webdataset__dataset-000001__000000"
    assert sample.metadata["modality"] == "unknown"


@pytest.mark.parametrize(
    ("text", "captions", "origin"),
    [
        ("Words of an article.\n", ["Words of an article."], "original"),
        ("A._chexpert_B._chexpert_A._chexpert_", ["A.", "B."], "template"),
        ("T1._mimiccxr_T2._mimiccxr__mimiccxr_Lungs are clear.", ["Lungs are clear.", "T1.", "T2."], "report"),
        ("T1._mimiccxr_T2._mimiccxr__mimiccxr_noreportpresent", ["T1.", "T2."], "template"),
        ("Original._medicat_nothingpresent", ["Original."], "original"),
        ("Original._medicat_In the text.", ["Original.", "In the text."], "original"),
        ("._openi_A._openi_", ["A."], "template"),
        ("X._all_retina_merged_Y._all_retina_merged_", ["X.", "Y."], "template"),
        ("Mild._dr_Severe._dr_", ["Mild.", "Severe."], "template"),
        ("One._chestxray8_", ["One."], "template"),
    ],
)
def test_captions_between_markers(text, captions, origin):
    assert captions_of(text) == (captions, origin)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty_caption"),
        ("._mimiccxr__mimiccxr_noreportpresent", "empty_caption"),
        ("_chexpert_" * 3, "empty_caption"),
        ("x" * 100_001, "long_caption"),
    ],
)
def test_texts_without_a_caption(text, reason):
    with pytest.raises(BadRow, match=reason):
        captions_of(text)


def test_samples_that_are_dropped(tmp_path):
    write_part(tmp_path / "p", (b"GIF89a", "x"), (jpeg(1), " "), (jpeg(1), "fine"))
    with tarfile.open(tmp_path / "p" / "dataset-000001.tar", "a") as archive:
        for name, data in (("000003.jpg", jpeg(2)), ("000004.jpg", jpeg(2)), ("000004.txt", b"caf\xe9")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    items = items_of(UniMed(str(tmp_path)))
    assert [(item.name.rpartition(" ")[2], item.reason) for item in items if isinstance(item, Dropped)] == [
        ("000000", "broken_image"),
        ("000001", "empty_caption"),
        ("000003", "missing_txt"),
        ("000004", "not_utf8"),
    ]
    assert len(items) == 5


def test_folders_without_tars(tmp_path):
    with pytest.raises(PrepError, match=r"holds no \.tar; give the folder that UniMed's scripts"):
        UniMed(str(tmp_path))
