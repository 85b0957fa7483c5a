import json

import pytest
import webdataset

from data_prep.errors import BadRow, PrepError
from data_prep.source import Dropped
from data_prep.sources.figures.biomedica import Biomedica, caption_of, modality_of, references_of, year_of
from tests.data_prep.folders import jpeg

KEY = "12_0-PMC4441475-3-pone.0127203.g002"


def fields(**changes):
    """The publisher's fields of a figure, all of them."""
    return {
        "image_file_name": "pone.0127203.g002.jpg",
        "image_cluster_id": "pone.0127203.g002",
        "image_hash": "d41d8cd98f00b204",
        "image_label_id": "11",
        "image_panel_type": "multiple",
        "image_panel_subtype": "multiple panels: images",
        "image_primary_label": ["Clinical Imaging"],
        "image_secondary_label": ["x-ray radiography"],
        "image_size": [48, 48],
        "image_set": [{"image_id": "pone.0127203.g002", "caption": "Chest X-ray."}],
        "image_context": {
            "pone.0127203.g001": ["<p>Another figure.</p>"],
            "pone.0127203.g002": [
                '<p>Opacities were seen (<xref ref-type="fig" rid="g2">Fig 2</xref>), p < 0.05\n in both.</p>',
                "<p>Later they went.</p>",
            ],
        },
        "article_accession_id": "PMC4441475",
        "article_title": "A study of lungs",
        "article_journal": "PLoS ONE",
        "article_date": "1432108800",
        "article_abstract": "long",
        "article_mesh_terms": ["Humans", "Lung"],
        "article_keywords": [""],
        "article_reference_ids": ["1", "2"],
        "article_reference_count": "2",
        "article_reference_list": [{"id": "1"}],
        "article_subject": ["Research Article"],
        "article_citation": "PLoS One. 2015 May 20; 10(5):e0127203",
        "article_license": "CC BY",
        "article_text": "the whole article " * 100,
        **changes,
    }


def write_tar(path, *samples):
    """Samples as (key, image, caption, fields), written as the publisher writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for key, image, caption, entry in samples:
            writer.write({"__key__": key, "jpg": image, "txt": caption.encode(), "json": json.dumps(entry)})


def items_of(source):
    return [item for unit in source.units() for item in source.read(unit)]


@pytest.fixture
def folder(tmp_path):
    write_tar(tmp_path / "commercial" / "0_2000000001.tar", (KEY, jpeg(1), " Chest X-ray. \n", fields()))
    other = fields(article_license="NO-CC CODE", article_accession_id="PMC2", article_date="2003-05-01")
    write_tar(
        tmp_path / "other" / "0_2000000000.tar",
        ("3-PMC2-0-gr1", jpeg(2), "None", other),
        ("3-PMC2-1-gr2", jpeg(3), "Real.", other),
    )
    return tmp_path


def test_a_figure_with_all_that_is_said_of_it(folder):
    sample, missing, last = items_of(Biomedica(str(folder)))
    assert sample.key.startswith("biomedica__PMC4441475__12_0-PMC4441475-3-pone-0127203-g002__0-")
    assert sample.images == {"jpg": jpeg(1)}
    assert sample.texts == {
        "caption": "Chest X-ray.",
        "references": "Opacities were seen (Fig 2), p < 0.05 in both.\nLater they went.",
    }
    assert sample.labels == {
        "panel_type": "multiple",
        "panel_subtype": "multiple panels: images",
        "primary_label": ["Clinical Imaging"],
        "secondary_label": ["x-ray radiography"],
        "cluster": "11",
        "mesh_terms": ["Humans", "Lung"],
        "subjects": ["Research Article"],
    }
    assert sample.metadata == {
        "source": "biomedica",
        "licence": "CC-BY",
        "group": "PMC4441475",
        "group_kind": "article",
        "original_name": f"{KEY}.jpg",
        "modality": "X-ray",
        "subset": "commercial",
        "article": "PMC4441475",
        "article_title": "A study of lungs",
        "journal": "PLoS ONE",
        "citation": "PLoS One. 2015 May 20; 10(5):e0127203",
        "figure_id": "pone.0127203.g002",
        "year": 2015,
    }
    assert missing == Dropped("other/0_2000000000.tar: 3-PMC2-0-gr1", "missing_caption", "the caption is None")
    assert (last.metadata["licence"], last.metadata["year"], last.metadata["group"]) == ("NO-CC", 2003, "PMC2")
    assert (last.metadata["subset"], last.texts["caption"]) == ("other", "Real.")


def test_a_unit_is_a_tar(folder):
    units = Biomedica(str(folder), samples_per_shard=1).units()
    assert [(u.split, u.number, u.selection) for u in units] == [
        ("train", 0, "commercial/0_2000000001.tar"),
        ("train", 1, "other/0_2000000000.tar"),
    ]


def test_subsets(folder):
    source = Biomedica(str(folder), subsets=["commercial"])
    assert source.tars == ["commercial/0_2000000001.tar"]
    assert Biomedica(str(folder), subsets="commercial").tars == source.tars
    assert source.options() == {"subsets": ["commercial"]}
    with pytest.raises(PrepError, match=r"^noncommercial of .* holds no \.tar; give the folder that commercial/"):
        Biomedica(str(folder), subsets=["commercial", "noncommercial"])


def test_what_the_json_lacks_does_not_cost_the_sample(tmp_path):
    hostile = {"article_accession_id": 7, "article_title": ["x"], "image_context": [3], "article_date": "soon"}
    hostile |= {"image_secondary_label": "ultrasound", "article_license": None, "image_label_id": "\ud800"}
    write_tar(tmp_path / "a.tar", ("k", jpeg(1), "Text.", {}), ("l", jpeg(2), "Text.", hostile))
    empty, odd = items_of(Biomedica(str(tmp_path)))
    about = {"source": "biomedica", "licence": "unknown", "group_kind": "image", "subset": "unknown"}
    assert empty.metadata == {**about, "group": "k", "original_name": "k.jpg", "modality": "unknown"}
    assert odd.metadata == {**about, "group": "l", "original_name": "l.jpg", "modality": "ultrasound"}
    assert (empty.labels, odd.labels) == ({}, {"secondary_label": "ultrasound"})
    assert (empty.key[:18], odd.key[:18]) == ("biomedica__0__k__0", "biomedica__0__l__0")


def test_samples_that_are_dropped(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        writer.write({"__key__": "no-json", "jpg": jpeg(1), "txt": b"x"})
        writer.write({"__key__": "no-image", "json": b"{}", "txt": b"x"})
        writer.write({"__key__": "bad-json", "jpg": jpeg(1), "json": b"{", "txt": b"x"})
        writer.write({"__key__": "list", "jpg": jpeg(1), "json": b"[]", "txt": b"x"})
        writer.write({"__key__": "deep", "jpg": jpeg(1), "json": b"[" * 100_000, "txt": b"x"})
        writer.write({"__key__": "latin", "jpg": jpeg(1), "json": b"{}", "txt": b"caf\xe9"})
        writer.write({"__key__": "long", "jpg": jpeg(1), "json": b"{}", "txt": b"x" * 100_001})
        writer.write({"__key__": "pdf", "jpg": b"%PDF-1.4", "json": b"{}", "txt": b"x"})
    assert [(item.name, item.reason) for item in items_of(Biomedica(str(tmp_path)))] == [
        ("a.tar: no-json", "missing_json"),
        ("a.tar: no-image", "missing_image"),
        ("a.tar: bad-json", "bad_json"),
        ("a.tar: list", "bad_json"),
        ("a.tar: deep", "bad_json"),
        ("a.tar: latin", "not_utf8"),
        ("a.tar: long", "long_caption"),
        ("a.tar: pdf", "image_format"),
    ]


def test_folders_without_tars(tmp_path):
    with pytest.raises(PrepError, match=r"holds no \.tar"):
        Biomedica(str(tmp_path))
    with pytest.raises(PrepError, match=r"input=\(not given\)"):
        Biomedica("")


@pytest.mark.parametrize("text", [b"None", b"none", b"nan", b"", b" \n", b"No caption found"])
def test_captions_that_say_that_there_is_none(text):
    with pytest.raises(BadRow, match="missing_caption"):
        caption_of(text)


def test_a_caption_that_begins_with_none():
    assert caption_of("None of the lesions grew.".encode("utf-8-sig")) == "None of the lesions grew."


@pytest.mark.parametrize(
    ("context", "paragraphs"),
    [
        (None, []),
        ({}, []),
        ({"gr1": "One."}, ["One."]),
        ({"gr1.jpg": ["One.", "One.", ""]}, ["One."]),
        ([{"gr1": ["A <p>b</p>."]}, {"gr2": ["C."]}], ["A b."]),
        ({"gr1": [None, 3, ["x"]]}, []),
        ({"gr1": ["if a<b and c>d, <italic>n</italic>"]}, ["if a<b and c>d, <italic>n</italic>"]),
    ],
)
def test_paragraphs_about_the_figure(context, paragraphs):
    entry = {"image_cluster_id": "gr1", "image_file_name": "gr1.jpg", "image_context": context}
    assert references_of(entry) == paragraphs


@pytest.mark.parametrize(
    ("labels", "modality"),
    [
        (["computerized tomography", "magnetic resonance"], "CT+MRI"),
        (["Magnetic Resonance ", "functional magnetic resonance", "brain"], "MRI"),
        ("ultrasound", "ultrasound"),
        (["bar plot"], "unknown"),
        ([], "unknown"),
        (None, "unknown"),
        ([None, 3], "unknown"),
    ],
)
def test_modality(labels, modality):
    assert modality_of(labels) == modality


@pytest.mark.parametrize(
    ("date", "year"),
    [("1432108800", 2015), (0, 1970), ("2003-05-01", 2003), ("2003", 2003), ("None", None), ("", None), ("1e99", None)],
)
def test_years(date, year):
    assert year_of(date) == year
