import csv
import json

import pytest

from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources.figures.quilt import Quilt, number_of, sentences_of
from tests.data_prep.folders import jpeg

COLUMNS = (
    *("", "caption", "image_path", "subset", "split", "pathology", "roi_text", "noisy_text", "corrected_text"),
    *("med_umls_ids", "magnification", "height", "width", "single_wsi", "not_histology"),
)
VIDEO = "-3K3PCWWHGE_image_5c9f3b1e-0000-4f5a-9b1e-2f6d7a8b9c0d.jpg"
OTHER = "-3K3PCWWHGE_image_77777777-0000-4f5a-9b1e-2f6d7a8b9c0d.jpg"
TWEET = "1234567890_2.png"
PUBMED = "PMC1234567_fig2_a.jpg"
UMLS = str([[{"entity": "Spindle cell", "cui": "C0334227"}, {"entity": "mitosis"}], [{"entity": "Spindle cell"}]])


def row(caption, image, split="train", subset="quilt", **more):
    given = {"caption": caption, "image_path": image, "subset": subset, "split": split, "not_histology": "0.0", **more}
    return {**dict.fromkeys(COLUMNS, ""), **given}


ROWS = [
    row(
        "Spindle cells, in\nfascicles.",
        VIDEO,
        pathology="['Soft tissue', 'Dermatopathology']",
        roi_text="['look at the spindle cells', 'here']",
        noisy_text="so hear we see spindle sells",
        corrected_text="so here we see spindle cells",
        med_umls_ids=UMLS,
        magnification="2.0",
        single_wsi="1",
    ),
    row("A pathologist's tweet.", TWEET, "val", "openpath", pathology="nan"),
    row(
        'With a "quote".',
        VIDEO,
        pathology="['Soft tissue']",
        roi_text="['here']",
        noisy_text="so hear we see spindle sells",
        magnification="0.0",
    ),
    row("From an article.", PUBMED, subset="pubmed"),
    row("Another frame.", OTHER),
]


def write_quilt(folder, rows=ROWS, images="quilt_1m", columns=COLUMNS):
    (folder / images).mkdir(parents=True)
    for number, image in enumerate(sorted({row["image_path"] for row in rows})):
        (folder / images / image).write_bytes(jpeg(number))
    add_rows(folder, rows, columns, header=True)
    return folder


def add_rows(folder, rows, columns=COLUMNS, header=False):
    with open(folder / "quilt_1M_lookup.csv", "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        if header:
            writer.writeheader()
        writer.writerows({"": n, **row} if "" in columns else row for n, row in enumerate(rows))


def items_of(source):
    return [(unit.split, item) for unit in source.units() for item in source.read(unit)]


def test_one_sample_an_image_with_all_its_rows(tmp_path):
    source = Quilt(str(write_quilt(tmp_path)))
    items = items_of(source)
    assert [(split, sample.metadata["original_name"]) for split, sample in items] == [
        *(("train", VIDEO), ("train", PUBMED), ("train", OTHER), ("valid", TWEET))
    ]
    samples = {sample.metadata["original_name"]: sample for _, sample in items}
    video = samples[VIDEO]
    assert video.texts == {
        "caption": "Spindle cells, in\nfascicles.",
        "caption_1": 'With a "quote".',
        "roi_text": "look at the spindle cells\nhere",
        "noisy_text": "so hear we see spindle sells",
        "corrected_text": "so here we see spindle cells",
    }
    assert video.labels == {
        "pathology": ["Soft tissue", "Dermatopathology"],
        "concepts": ["C0334227"],
        "entities": ["Spindle cell", "mitosis"],
        "magnification": 2,
        "single_wsi": 1,
        "not_histology": 0,
    }
    assert video.images == {"jpg": (tmp_path / "quilt_1m" / VIDEO).read_bytes()}
    assert video.key.startswith("quilt__-3K3PCWWHGE__5c9f3b1e-0000-4f5a-9b1e-2f6d7a8b9c0d__0")
    assert video.metadata == {
        "source": "quilt",
        "licence": "unknown",
        "group": "-3K3PCWWHGE",
        "group_kind": "video",
        "original_name": VIDEO,
        "modality": "pathology",
        "subset": "quilt",
        "published_split": "train",
        "url": "https://www.youtube.com/watch?v=-3K3PCWWHGE",
    }
    assert samples[OTHER].metadata["group"] == "-3K3PCWWHGE"
    assert len({sample.key for sample in samples.values()}) == 4
    article = samples[PUBMED].metadata
    assert (article["group"], article["group_kind"], article["article"]) == ("PMC1234567", "article", "PMC1234567")
    tweet = samples[TWEET]
    assert (tweet.metadata["group"], tweet.metadata["group_kind"], tweet.metadata["subset"]) == (
        TWEET,
        "image",
        "openpath",
    )
    assert tweet.labels == {"not_histology": 0}


def test_units_are_plain_and_read_in_another_process(tmp_path):
    folder = write_quilt(tmp_path)
    units = Quilt(str(folder), 2).units()
    assert [(unit.split, unit.number) for unit in units] == [("train", 0), ("train", 1), ("valid", 0)]
    again = [type(unit)(unit.split, unit.number, json.loads(json.dumps(unit.selection))) for unit in units]
    other = Quilt(str(folder), 2)
    names = [sample.metadata["original_name"] for unit in again for sample in other.read(unit)]
    assert names == [VIDEO, PUBMED, OTHER, TWEET]


def test_an_image_whose_rows_are_in_two_splits(tmp_path):
    folder = write_quilt(tmp_path)
    add_rows(folder, [row("A held-out sentence.", VIDEO, "val")])
    (split, sample), *_ = items_of(Quilt(str(folder)))
    assert (split, sample.metadata["published_split"]) == ("train", "train+val")
    assert sample.texts["caption_2"] == "A held-out sentence."


def test_rows_that_cannot_become_part_of_a_sample(tmp_path):
    folder = write_quilt(tmp_path)
    add_rows(
        folder,
        [
            row("", VIDEO),
            row("nan", VIDEO),
            row("x" * 100_001, OTHER),
            row("x", "../quilt_1M_lookup.csv"),
            row("x", "absent.jpg"),
            row("x", VIDEO, "holdout"),
            row("x", ""),
        ],
    )
    with open(folder / "quilt_1M_lookup.csv", "ab") as file:
        file.write(b"7,too,short\r\n")
        file.write(b"8,caf\xe9," + VIDEO.encode() + b",quilt,train" + b"," * 10 + b"\r\n")
    drops = {item.name: item.reason for _, item in items_of(Quilt(str(folder))) if isinstance(item, Dropped)}
    assert drops == {
        f"quilt_1M_lookup.csv line 8 ({VIDEO})": "missing_caption",
        f"quilt_1M_lookup.csv line 9 ({VIDEO})": "missing_caption",
        f"quilt_1M_lookup.csv line 10 ({OTHER})": "long_caption",
        "quilt_1M_lookup.csv line 11 (../quilt_1M_lookup.csv)": "bad_path",
        "quilt_1M_lookup.csv line 12 (absent.jpg)": "missing_image",
        f"quilt_1M_lookup.csv line 13 ({VIDEO})": "bad_split",
        "quilt_1M_lookup.csv line 14": "empty_image_path",
        "quilt_1M_lookup.csv line 15": "bad_row",
        f"quilt_1M_lookup.csv line 16 ({VIDEO})": "not_utf8",
    }


def test_images_that_are_no_histology(tmp_path):
    folder = write_quilt(tmp_path, [row("A slide.", TWEET), row("A cat.", VIDEO, not_histology="1.0")])
    labels = [sample.labels["not_histology"] for _, sample in items_of(Quilt(str(folder)))]
    assert labels == [0, 1]
    source = Quilt(str(folder), not_histology="drop")
    assert [item.reason for _, item in items_of(source) if isinstance(item, Dropped)] == ["not_histology"]
    assert source.options()["not_histology"] == "drop"
    with pytest.raises(PrepError, match=r"options\.not_histology=maybe should be keep or drop"):
        Quilt(str(folder), not_histology="maybe")


def test_an_older_table_with_fewer_columns(tmp_path):
    folder = write_quilt(tmp_path, columns=("caption", "image_path", "subset", "split"), images="images")
    (_, sample), *_ = items_of(Quilt(str(folder)))
    assert (sample.texts, sample.labels) == (
        {"caption": "Spindle cells, in\nfascicles.", "caption_1": 'With a "quote".'},
        {},
    )


def test_an_image_folder_of_another_name(tmp_path):
    folder = write_quilt(tmp_path, images="resized/512")
    with pytest.raises(PrepError, match="it lacks quilt_1m/; unpack"):
        Quilt(str(folder))
    assert len(items_of(Quilt(str(folder), images="resized/512"))) == 4
    for outside in ("../elsewhere", "/tmp"):
        with pytest.raises(PrepError, match="is not a folder below the input"):
            Quilt(str(folder), images=outside)


def test_folders_that_are_not_quilt(tmp_path):
    with pytest.raises(PrepError, match=r"it lacks quilt_1M_lookup\.csv, quilt_1m/"):
        Quilt(str(tmp_path))
    folder = write_quilt(tmp_path, columns=("caption", "image_path"))
    with pytest.raises(PrepError, match="has the columns caption, image_path; it lacks subset, split"):
        Quilt(str(folder))


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        ("nan", []),
        ("plain words", ["plain words"]),
        ("['a', ' b ', '']", ["a", "b"]),
        ('["it\'s", "b"]', ["it's", "b"]),
        ("('a', 3)", ["a"]),
        ("[unclosed", ["[unclosed"]),
        ("[__import__('os')]", ["[__import__('os')]"]),
    ],
)
def test_lists_as_python_writes_them(text, items):
    assert sentences_of(text) == items


@pytest.mark.parametrize(
    ("text", "number"), [("2.0", 2), ("0", 0), ("1.5", 1.5), ("True", 1), ("", None), ("nan", None), ("inf", None)]
)
def test_numbers(text, number):
    assert number_of(text) == number
