"""Sets for retrieval in the layout that BEIR's loader reads (beir/datasets/data_loader.py), from files to samples."""

import json

import pytest

from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources import open_source
from tests.eval.colour_world import png

CORPUS = [
    {"_id": "d1", "title": "Colours", "text": "Of patches.", "metadata": {"url": "x"}},
    {"_id": "d2", "title": "", "text": "", "image": "b.png"},
    {"_id": "d1", "text": "again"},
    {"_id": "d3", "title": "", "text": " "},
    {"_id": "d4", "text": 5.5, "image": "absent.png"},
    [],
    {"text": "no id"},
]
QUERIES = [
    {"_id": "q1", "text": "which?"},
    {"_id": "q2", "text": "of another split"},
    {"_id": "q3", "text": "the same in blue", "reference": ["d2"], "image": "b.png"},
    {"_id": "q4", "text": "x", "reference": [1]},
]
GRADES = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0.5\nq3\td9\t1\nq4\td1\t1\n"


@pytest.fixture
def folder(tmp_path):
    for name, entries in (("corpus", CORPUS), ("queries", QUERIES)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (tmp_path / "b.png").write_bytes(png("blue"))
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels/test.tsv").write_text(GRADES)
    (tmp_path / "qrels/dev.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td1\t1\n")
    return tmp_path


def read(folder, **options):
    source = open_source("retrieval_sets", str(folder), 100, options=options)
    rows = [row for unit in source.units() for row in source.read(unit)]
    drops = [(row.name, row.reason) for row in rows if isinstance(row, Dropped)]
    return source, [row for row in rows if not isinstance(row, Dropped)], drops


def test_documents_and_the_queries_of_a_split(folder):
    source, samples, drops = read(folder)
    assert [(s.metadata["role"], s.metadata["original_name"], s.texts, list(s.images)) for s in samples] == [
        ("document", "d1", {"document": "Colours Of patches."}, []),
        ("document", "d2", {}, ["png"]),
        ("query", "q1", {"query": "which?"}, []),
        ("query", "q3", {"query": "the same in blue"}, ["png"]),
    ]
    assert samples[2].metadata["relevance"] == {"d1": 2, "d2": 0.5}
    assert samples[3].metadata["reference"] == ["d2"]
    assert drops == [
        ("corpus.jsonl line 3", "duplicate_id"),
        ("corpus.jsonl line 4", "no_content"),
        ("corpus.jsonl line 5", "missing_image"),
        ("corpus.jsonl line 6", "bad_row"),
        ("corpus.jsonl line 7", "missing__id"),
        ("queries.jsonl line 4", "bad_reference"),
    ]
    assert source.input_counts == {"queries without a grade in this split": 1}
    assert source.counts["read", "fields ignored: metadata"] == 1
    assert {unit.split for unit in source.units()} == {"test"}
    _, samples, _ = read(folder, split="valid")  # BEIR calls it dev
    assert [s.key for s in samples if s.metadata["role"] == "query"] == ["retrieval_sets__query__q2__0"]


@pytest.mark.parametrize(
    ("grades", "said"),
    [
        ("query-id\tcorpus-id\nq1\td1\n", r"test.tsv line 1: .*expected \['query-id', 'corpus-id', 'score'\]"),
        ("query-id\tcorpus-id\tscore\nq1\td1\n", r"test.tsv line 2: .*expected a query, a document, a grade"),
        ("query-id\tcorpus-id\tscore\nq1\td1\t-1\n", "line 2: grade -1.0, expected 0 or more"),
        ("query-id\tcorpus-id\tscore\nq1\td1\tnan\n", "line 2: grade nan"),
        (b"query-id\tcorpus-id\tscore\nq\xff\td1\t1\n", "save it as UTF-8"),
        (None, r"it lacks qrels/test.tsv"),
    ],
)
def test_grades_that_are_none(folder, grades, said):
    path = folder / "qrels/test.tsv"
    path.unlink()
    if grades is not None:
        path.write_bytes(grades if isinstance(grades, bytes) else grades.encode())
    with pytest.raises(PrepError, match=said):
        read(folder)


def test_what_is_refused(folder):
    for options, said in (
        ({"split": "all"}, "options.split=all is not one of"),
        ({"images": "../x"}, "not a folder below"),
        ({"split": "train"}, "it lacks qrels/train.tsv"),
    ):
        with pytest.raises(PrepError, match=said):
            read(folder, **options)
