import os

import pytest

from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources.figures.roco import Roco
from tests.data_prep.sources.figures.folders_roco import article_of, read_rows, write_roco

ROWS = [
    {
        "id": "ROCO_00001",
        "split": "train",
        "kind": "radiology",
        "caption": "Chest CT, 5 × 3 cm mass.",
        "pmc": "PMC1_pone.0127203.g002.jpg",
        "license": "CC BY",
        "cuis": ["C0040405", "C0817096"],
        "keywords": ["mass", "chest"],
        "semtypes": {"T060": "Diagnostic Procedure", "T023": "Body Part, Organ, or Organ Component"},
    },
    {
        "id": "ROCO_00002",
        "split": "validation",
        "kind": "radiology",
        "caption": "MRI.",
        "pmc": "PMC2_10.1177_1941738116685306-fig1.jpg",
        "license": "NO-CC CODE",
        "keywords": [],
    },
    {
        "id": "ROCO_00003",
        "split": "test",
        "kind": "radiology",
        "caption": "The same article's X-ray.",
        "pmc": "PMC1_pone.0127203.g003.jpg",
        "license": "CC BY-NC-SA",
        "keywords": ["xray"],
    },
    {
        "id": "ROCO_80001",
        "split": "train",
        "kind": "non-radiology",
        "caption": "A skin incision.",
        "pmc": "PMC3_gr3.jpg",
        "license": "CC0",
        "keywords": ["skin"],
    },
]


@pytest.fixture
def folder(tmp_path):
    return write_roco(tmp_path / "roco", ROWS)


def items_of(source):
    return [(unit.split, item) for unit in source.units() for item in source.read(unit)]


def drops_of(folder, **options):
    return {item.name: item.reason for _, item in items_of(Roco(str(folder), **options)) if isinstance(item, Dropped)}


def test_rows_with_all_that_the_tables_say(folder):
    items = items_of(Roco(str(folder)))
    assert [(split, sample.key) for split, sample in items] == [
        ("train", "roco__PMC1__ROCO_00001__0"),
        ("valid", "roco__PMC2__ROCO_00002__0"),
        ("test", "roco__PMC1__ROCO_00003__0"),
    ]
    first, second, third = (sample for _, sample in items)
    assert first.texts == {"caption": "Chest CT, 5 × 3 cm mass."}
    assert first.images == {"jpg": (folder / "train/radiology/images/PMC1_pone.0127203.g002.jpg").read_bytes()}
    assert first.labels == {
        "kind": "radiology",
        "cuis": ["C0040405", "C0817096"],
        "keywords": ["mass", "chest"],
        "semtypes": {"T060": "Diagnostic Procedure", "T023": "Body Part, Organ, or Organ Component"},
    }
    assert first.metadata == {
        "source": "roco",
        "licence": "CC-BY",
        "group": "PMC1",
        "group_kind": "article",
        "article": "PMC1",
        "figure_id": "ROCO_00001",
        "original_name": "PMC1_pone.0127203.g002.jpg",
        "modality": "unknown",
        "published_split": "train",
        "url": "ftp://ftp.ncbi.nlm.nih.gov/pub/pmc/oa_package/00/00/PMC1.tar.gz",
    }
    assert second.labels == {"kind": "radiology", "cuis": [], "keywords": [], "semtypes": {}}
    assert second.metadata["original_name"] == "PMC2_10.1177_1941738116685306-fig1.jpg"
    assert (second.metadata["licence"], second.metadata["published_split"]) == ("NO-CC", "validation")
    assert (third.metadata["licence"], third.metadata["group"]) == ("CC-BY-NC-SA", "PMC1")


def test_figures_that_are_no_radiology_come_on_request(folder):
    source = Roco(str(folder), kind="all")
    items = items_of(source)
    assert [(split, item.metadata["figure_id"], item.labels["kind"]) for split, item in items] == [
        ("train", "ROCO_00001", "radiology"),
        ("train", "ROCO_80001", "non-radiology"),
        ("valid", "ROCO_00002", "radiology"),
        ("test", "ROCO_00003", "radiology"),
    ]
    assert items[1][1].metadata["licence"] == "CC0-1.0"
    assert source.options() == {"samples_per_shard": 1000, "kind": "all"}
    with pytest.raises(PrepError, match=r"options\.kind=skin is not one of radiology, all"):
        Roco(str(folder), kind="skin")


def test_the_publishers_repository_has_everything_below_data(folder, tmp_path):
    os.mkdir(tmp_path / "repository")
    folder.rename(tmp_path / "repository" / "data")
    assert len(items_of(Roco(str(tmp_path / "repository")))) == 3


def test_rows_that_cannot_become_samples(folder):
    kind_folder = folder / "train" / "radiology"
    with open(kind_folder / "captions.txt", "ab") as file:
        file.write(b"ROCO_00001\t Again.\n")
        file.write(b"a line that an earlier caption spilled\n")
        file.write(b"ROCO_00005\t \n")
        file.write(b"ROCO_00006\t caf\xe9\n")
        file.write(b"ROCO_00007\t No table knows my article.\n")
        file.write(b"ROCO_00008\t A way out.\n")
        file.write(b"ROCO_00009\t Its image was not fetched.\n")
        file.write(b"ROCO_00010\t " + b"x" * 100_001 + b"\n")
    with open(kind_folder / "dlinks.txt", "a") as file:
        file.write("ROCO_00008\twget -r ftp://host/PMC8.tar.gz -P .\t../../../secret.jpg\n")
        file.write("ROCO_00011\twget -r ftp://host/PMC11.tar.gz -P .\tgr1.jpg\n")
    with open(kind_folder / "licences.txt", "a") as file:
        file.write("ROCO_00009,PMC9_gr1.jpg,CC BY\n")
    (kind_folder / "images" / "PMC12_gr1.jpg").write_bytes(b"x")
    assert drops_of(folder) == {
        "ROCO_00001": "repeated_id",
        "radiology/captions.txt line 3": "bad_row",
        "ROCO_00005": "empty_caption",
        "ROCO_00006": "not_utf8",
        "ROCO_00007": "no_image_name",
        "ROCO_00008 (PMC8_../../../secret.jpg)": "bad_path",
        "ROCO_00009 (PMC9_gr1.jpg)": "missing_image",
        "ROCO_00010": "long_caption",
        "ROCO_00011": "no_caption_row",
        "PMC12_gr1.jpg": "no_caption_row",
    }


def test_licences_name_the_image_where_dlinks_does_not(folder):
    (folder / "train" / "radiology" / "dlinks.txt").write_text("")
    (_, first), *_ = items_of(Roco(str(folder)))
    assert first.metadata["original_name"] == "PMC1_pone.0127203.g002.jpg"
    assert "url" not in first.metadata


def test_a_row_without_licence_is_unknown(folder):
    (folder / "train" / "radiology" / "licences.txt").write_text("ROCO_ID,PMC_ID,CC\n")
    (_, first), *_ = items_of(Roco(str(folder)))
    assert first.metadata["licence"] == "unknown"


@pytest.mark.parametrize("lost", ["train/radiology/dlinks.txt", "validation/radiology/semtypes.txt"])
def test_a_folder_that_lacks_a_file(folder, lost):
    (folder / lost).unlink()
    with pytest.raises(PrepError, match=f"it lacks {lost}; give the folder"):
        Roco(str(folder))


def test_a_table_of_licences_with_another_header(folder):
    (folder / "test" / "radiology" / "licences.txt").write_text("ROCO_ID,PMC,CC\n")
    with pytest.raises(PrepError, match="it lacks PMC_ID"):
        Roco(str(folder)).units()


def test_the_fingerprint_sees_tables_and_images(folder):
    before = Roco(str(folder)).fingerprint()
    (folder / "test" / "radiology" / "images" / "PMC1_pone.0127203.g003.jpg").write_bytes(b"shorter")
    with open(folder / "train" / "radiology" / "cuis.txt", "a") as file:
        file.write("ROCO_00001\t\tC0000001\n")
    after = Roco(str(folder)).fingerprint()
    assert sorted(name for name in before if before[name] != after[name]) == [
        "test/radiology/images/",
        "train/radiology/cuis.txt",
    ]
    assert len(before) == 3 * 7


def test_real_captions_with_their_overlap_of_articles(test_data, tmp_path):
    rows = read_rows(test_data / "roco_v1" / "captions_cc_by.jsonl", per_split=20, shared=25)
    folder = write_roco(tmp_path / "roco", rows)
    items = items_of(Roco(str(folder), samples_per_shard=7, kind="all"))
    assert len(items) == len(rows) > 60 + 2 * 25 - 1
    samples = {sample.metadata["figure_id"]: (split, sample) for split, sample in items}
    for row in rows:
        split, sample = samples[row["id"]]
        assert split == {"train": "train", "validation": "valid", "test": "test"}[row["split"]]
        assert sample.texts["caption"] == row["caption"].strip()
        assert sample.metadata["group"] == article_of(row)
        assert sample.metadata["licence"] == {"CC BY": "CC-BY", "CC0": "CC0-1.0"}[row["license"]]
    splits_of: dict[str, set[str]] = {}
    for split, sample in items:
        splits_of.setdefault(sample.metadata["group"], set()).add(split)
    assert sum(len(splits) > 1 for splits in splits_of.values()) == 25


@pytest.mark.parametrize("table", ["captions.txt", "dlinks.txt", "licences.txt"])
def test_a_table_that_is_a_pipe_is_not_waited_for(folder, table):
    path = folder / "train" / "radiology" / table
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PrepError, match=f"{table} is not a regular file"):
        Roco(str(folder)).units()
    with pytest.raises(PrepError, match=f"{table} is not a regular file"):
        Roco(str(folder)).fingerprint()
