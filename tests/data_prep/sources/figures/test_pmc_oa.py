import json

import pytest

from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.figures.pmc_oa import LONG_FOLDER, PmcOa
from tests.data_prep.folders import jpeg

ROWS = [
    ("PMC212319_Fig3_4.jpg", "The fourth panel."),
    ("PMC212319_Fig3_0.jpg", "The first panel."),
    ("PMC212319_Fig3.jpg", "A figure that was not cut."),
    ("PMC8253797_fig_s1_11.jpg", "Another article."),
]


def write_pmc_oa(folder, rows=ROWS, tables=("pmc_oa.jsonl",), images=f"images/{LONG_FOLDER}"):
    """The publisher's layout: an image a row, numbered by its row; the tables share the rows evenly."""
    (folder / images).mkdir(parents=True)
    for number, (image, _) in enumerate(rows):
        (folder / images / image).write_bytes(jpeg(number))
    for index, table in enumerate(tables):
        lines = [
            json.dumps({"image": image, "caption": text, "alignment_type": "tfidf", "alignment_score": 0.25 + number})
            for number, (image, text) in list(enumerate(rows))[index :: len(tables)]
        ]
        (folder / table).write_text("\n".join(lines) + "\n")
    return folder


def items_of(source):
    return [(unit.split, item) for unit in source.units() for item in source.read(unit)]


def test_the_name_tells_article_figure_and_panel(tmp_path):
    items = items_of(PmcOa(str(write_pmc_oa(tmp_path))))
    assert [split for split, _ in items] == ["train"] * 4
    samples = [sample for _, sample in items]
    assert [sample.key for sample in samples] == [
        "pmc_oa__PMC212319__Fig3__4",
        "pmc_oa__PMC212319__Fig3__0",
        "pmc_oa__PMC212319__Fig3__whole",
        "pmc_oa__PMC8253797__fig_s1__11",
    ]
    assert [sample.texts for sample in samples] == [{"caption": text} for _, text in ROWS]
    assert [sample.images for sample in samples] == [{"jpg": jpeg(number)} for number in range(4)]
    assert samples[0].labels == {"alignment_type": "tfidf", "alignment_score": 0.25}
    assert samples[0].metadata == {
        "source": "pmc_oa",
        "licence": "unknown",
        "group": "PMC212319",
        "group_kind": "article",
        "article": "PMC212319",
        "figure_id": "Fig3",
        "panel": 4,
        "original_name": "PMC212319_Fig3_4.jpg",
        "modality": "unknown",
    }


@pytest.mark.parametrize("images", [f"images/{LONG_FOLDER}", LONG_FOLDER, "images"])
@pytest.mark.parametrize("table", ["pmc_oa.jsonl", "pmc_oa_beta.jsonl"])
def test_folders_and_releases_are_found(tmp_path, images, table):
    source = PmcOa(str(write_pmc_oa(tmp_path, tables=(table,), images=images)))
    assert source.options() == {"samples_per_shard": 1000, "release": table.removesuffix(".jsonl"), "licences": False}
    assert len([item for _, item in items_of(source) if not isinstance(item, Dropped)]) == 4


def test_several_releases_in_a_folder(tmp_path):
    write_pmc_oa(tmp_path, tables=("pmc_oa.jsonl", "pmc_oa_beta.jsonl"))
    with pytest.raises(PrepError, match=r"holds the releases pmc_oa, pmc_oa_beta; say which with options\.release="):
        PmcOa(str(tmp_path))
    assert len(items_of(PmcOa(str(tmp_path), release="pmc_oa_beta"))) == 2
    with pytest.raises(PrepError, match=r"options\.release=beta is not one of pmc_oa, pmc_oa_beta, splits"):
        PmcOa(str(tmp_path), release="beta")
    with pytest.raises(PrepError, match=r"of release splits: it lacks test\.jsonl, valid\.jsonl, train\.jsonl;"):
        PmcOa(str(tmp_path), release="splits")


def test_the_publishers_splits(tmp_path):
    write_pmc_oa(tmp_path, tables=("train.jsonl", "valid.jsonl", "test.jsonl"))
    with open(tmp_path / "train.jsonl", "a") as file:
        file.write(json.dumps({"image": ROWS[2][0], "caption": "A test image that train has too."}) + "\n")
    items = items_of(PmcOa(str(tmp_path)))
    assert [
        (split, sample.metadata["original_name"], sample.metadata["published_split"]) for split, sample in items
    ] == [
        ("train", ROWS[0][0], "train"),
        ("train", ROWS[3][0], "train"),
        ("valid", ROWS[1][0], "valid"),
        ("test", ROWS[2][0], "test"),
    ]
    assert items[3][1].texts == {"caption": ROWS[2][1], "caption_1": "A test image that train has too."}


def test_an_image_of_several_rows_is_one_sample(tmp_path):
    rows = [*ROWS[:1], ROWS[1], (ROWS[0][0], "More of it."), (ROWS[0][0], ROWS[0][1])]
    items = items_of(PmcOa(str(write_pmc_oa(tmp_path, rows)), samples_per_shard=1))
    assert [sample.texts for _, sample in items] == [
        {"caption": "The fourth panel.", "caption_1": "More of it."},
        {"caption": "The first panel."},
    ]


def test_names_of_another_form_are_groups_of_their_own(tmp_path):
    ((_, sample),) = items_of(PmcOa(str(write_pmc_oa(tmp_path, [("11373_2007_Fig1.jpg", "A figure.")]))))
    assert sample.key.startswith("pmc_oa__0__11373_2007_Fig1-jpg__0-")
    assert (sample.metadata["group"], sample.metadata["group_kind"]) == ("11373_2007_Fig1.jpg", "image")
    assert "article" not in sample.metadata


LIST = """File,Article Citation,Accession ID,Last Updated (YYYY-MM-DD HH:MM:SS),PMID,License,Retracted
oa_package/00/00/PMC212319.tar.gz,"PLoS Biol. 2003, 1; 1(1)",PMC212319,2021-01-05 05:50:46,1,CC BY,no
oa_package/00/01/PMC8253797.tar.gz,J Y. 2021,PMC8253797,2021-01-05 05:50:46,2,NO-CC CODE,yes
oa_package/00/02/PMC999.tar.gz,J Z. 2021,PMC999,2021-01-05 05:50:46,3,CC0,no
"""


def test_licences_by_article(tmp_path):
    folder = write_pmc_oa(tmp_path / "in")
    (tmp_path / "list.csv").write_text(LIST)
    source = PmcOa(str(folder), licences=str(tmp_path / "list.csv"), samples_per_shard=3)
    units = source.units()
    assert [sorted(unit.selection["about"]) for unit in units] == [["PMC212319"], ["PMC8253797"]]
    json.dumps([unit.selection for unit in units])
    other_process = PmcOa(str(folder), licences=str(tmp_path / "list.csv"), samples_per_shard=3)
    samples = [sample for unit in units for sample in other_process.read(unit)]
    keys = ("licence", "citation", "retracted")
    assert [[sample.metadata[key] for key in keys] for sample in samples] == [
        *[["CC-BY", "PLoS Biol. 2003, 1; 1(1)", False]] * 3,
        ["NO-CC", "J Y. 2021", True],
    ]
    assert "licences" in source.fingerprint()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("File,PMID\na,1\n", "it lacks License"), ("File,License\na,CC BY\n", "it lacks Accession ID")],
)
def test_lists_that_are_none(tmp_path, text, complaint):
    folder = write_pmc_oa(tmp_path / "in")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(PrepError, match=complaint):
        PmcOa(str(folder), licences=str(tmp_path / "list.csv")).units()
    with pytest.raises(PrepError, match=r"options\.licences=no\.csv is not a file"):
        PmcOa(str(folder), licences="no.csv")


def test_rows_that_cannot_become_samples(tmp_path):
    folder = write_pmc_oa(tmp_path)
    good = {"image": "PMC212319_Fig3_4.jpg", "caption": "x"}
    with open(folder / "pmc_oa.jsonl", "ab") as file:
        for entry in (
            {"caption": "no image"},
            {**good, "caption": None},
            {**good, "caption": "   "},
            {**good, "caption": "x" * 100_001},
            {**good, "image": "PMC9_Fig1_1.jpg"},
            {**good, "image": "../pmc_oa.jsonl"},
            ["a list"],
            {**good, "caption": "\ud800"},
        ):
            file.write(json.dumps(entry).encode() + b"\n")
        file.write(b"{broken\n\n")
    drops = {item.name: item.reason for _, item in items_of(PmcOa(str(folder))) if isinstance(item, Dropped)}
    assert drops == {
        "pmc_oa.jsonl line 5": "missing_image",
        "pmc_oa.jsonl line 6 (PMC212319_Fig3_4.jpg)": "missing_caption",
        "pmc_oa.jsonl line 7 (PMC212319_Fig3_4.jpg)": "empty_caption",
        "pmc_oa.jsonl line 8 (PMC212319_Fig3_4.jpg)": "long_caption",
        "pmc_oa.jsonl line 9 (PMC9_Fig1_1.jpg)": "missing_image",
        "pmc_oa.jsonl line 10 (../pmc_oa.jsonl)": "bad_path",
        "pmc_oa.jsonl line 11": "bad_row",
        "pmc_oa.jsonl line 12 (PMC212319_Fig3_4.jpg)": "not_utf8",
        "pmc_oa.jsonl line 13": "bad_json",
    }


def test_scores_that_json_cannot_hold_are_left_out(tmp_path):
    folder = write_pmc_oa(tmp_path)
    line = '{"image": "PMC212319_Fig3_4.jpg", "caption": "x", "alignment_type": "\\ud800", "alignment_score": NaN}\n'
    (folder / "pmc_oa.jsonl").write_text(line)
    ((_, sample),) = items_of(PmcOa(str(folder)))
    assert sample.labels == {}


def test_folders_that_are_not_pmc_oa(tmp_path):
    (tmp_path / "pmc_oa.jsonl").write_text("")
    with pytest.raises(PrepError, match=r"it lacks images/; unpack images\.zip"):
        PmcOa(str(tmp_path))
    with pytest.raises(PrepError, match=r"input=\(not given\)"):
        PmcOa("")
    with pytest.raises(PrepError, match="has no flags"):
        open_source("pmc_oa", str(write_pmc_oa(tmp_path / "in")), flag="beta")
