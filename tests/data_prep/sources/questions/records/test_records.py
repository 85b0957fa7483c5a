"""The source records on tables of one's own: every shape of options, answers, images and labels, and what is wrong with them."""

import base64
import json
import math

import pytest

from data_prep.errors import PrepError
from data_prep.ledger.summary import summary
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from medvlp.shards.schema import to_members
from tests.data_prep.folders import jpeg
from tests.data_prep.sources.questions.records.miniatures import (
    embedded,
    write_csv,
    write_images,
    write_json,
    write_lines,
    write_parquet,
)

ASK = "question: q\noptions: o\nanswer: {letter: a}\n"


def source_of(tmp_path, mapping, rows, **options):
    """The source over rows.jsonl, with a mapping of one's own."""
    write_lines(tmp_path / "rows.jsonl", *rows)
    (tmp_path / "mine.yaml").write_text(f"# Mine\nfiles: {{train: rows.jsonl}}\n{mapping}", encoding="utf-8")
    return open_source("records", str(tmp_path), options={"mapping": str(tmp_path / "mine.yaml"), **options})


def read_all(source):
    return [item for unit in source.units() for item in source.read(unit)]


def items_of(tmp_path, mapping, rows, **options):
    return read_all(source_of(tmp_path, mapping, rows, **options))


def answers(items):
    """The letters (or the answer) of each sample, and the reason of each drop."""
    letters = []
    for item in items:
        if isinstance(item, Dropped):
            letters.append(item.reason)
            continue
        metadata = item.conversations[0].metadata
        letters.append(metadata.get("answer_letter") or metadata.get("answer_letters"))
    return letters


OPTIONS = [
    {"A": "x", "B": "y"},
    ["x", "y"],
    ["A. x", "B. y"],
    "['x', 'y']",
    '{"A": "x", "B": "y"}',
    "{'0': 'x', '1': 'y'}",
    "A. x\nB. y",
    "A x\nB y",
    "(A) x (B) y",
    [{"key": "A", "value": "x"}, {"key": "B", "value": "y"}],
    {"option1": "x", "option2": "y", "option3": None, "option4": ""},
]


def test_options_in_every_usual_shape_become_letters_and_texts(tmp_path):
    items = items_of(tmp_path, ASK, [{"q": f"q{n}", "o": options, "a": "b"} for n, options in enumerate(OPTIONS)])
    assert [item.conversations[0].metadata["options"] for item in items] == [{"A": "x", "B": "y"}] * len(OPTIONS)
    assert answers(items) == ["B"] * len(OPTIONS)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("letter", ["C", "(c)", "c.", "AC", "A, C", ["a", "c"], "['C']"], ["C"] * 3 + [["A", "C"]] * 3 + ["C"]),
        ("letter", ["Z", "", None, "AZ", 3, True], ["unknown_option", *["no_answer"] * 2, *["unknown_option"] * 3]),
        ("index", [0, "2", 2.0, [0, 1]], ["A", "C", "C", ["A", "B"]]),
        ("index", [3, -1, "b", 1.5, 10**30, [1, 99], [-1, 1]], ["unknown_option"] * 7),
        ("text", ["one", "ONE.", ["one", "three"]], ["A", "A", ["A", "C"]]),
        ("text", ["four", math.nan], ["answer_mismatch", "no_answer"]),
    ],
)
def test_answers_as_letter_index_and_text(tmp_path, kind, values, expected):
    mapping = f"question: q\noptions: o\nanswer: {{{kind}: a}}\n"
    rows = [{"q": f"q{n}", "o": ["one", "two", "three"], "a": value} for n, value in enumerate(values)]
    assert answers(items_of(tmp_path, mapping, rows)) == expected


def test_letters_stay_with_their_columns_where_an_option_between_is_empty(tmp_path):
    mapping = "question: q\noptions: [a, b, c, d]\nanswer: {index: n, first: 1}\n"
    row = {"q": "q", "a": "x", "b": None, "c": "z", "d": "", "n": 3}
    items = items_of(tmp_path, mapping, [row, {**row, "q": "r", "n": 2}])
    assert answers(items) == ["C", "unknown_option"]
    assert items[0].conversations[0].metadata["options"] == {"A": "x", "C": "z"}


def test_equal_options_are_counted_and_a_text_does_not_tell_them_apart(tmp_path):
    row = {"q": "q", "o": ["one", "One", "two"], "a": "B"}
    source = source_of(tmp_path, ASK, [row])
    assert answers(read_all(source)) == ["B"]
    assert source.input_counts == {"questions with equal options": 1}
    mapping = "question: q\noptions: o\nanswer: {text: a}\n"
    assert answers(items_of(tmp_path, mapping, [{**row, "a": "one"}])) == ["ambiguous_answer"]


BAD_ROWS = {
    "bad_row": "not an object",
    "missing_q": {"o": ["x", "y"], "a": "A"},
    "empty_q": {"q": " ", "o": ["x", "y"], "a": "A"},
    "bad_q": {"q": ["x"], "o": ["x", "y"], "a": "A"},
    "long_q": {"q": "q" * 10_000_000, "o": ["x", "y"], "a": "A"},
    "no_options": {"q": "q", "o": {"A": "x"}, "a": "A"},
    "placeholder_count": {"q": "what is <image>?", "o": ["x", "y"], "a": "A"},
    "not_utf8": {"q": "q\ud800", "o": ["x", "y"], "a": "A"},
    "long_a": {"q": "q", "o": ["x", "y"], "a": "z" * 10_000_000},
    "no_answer": {"q": "q", "o": ["x", "y"], "a": math.nan},
}


def test_bad_rows_are_drops_by_name_and_the_others_stay(tmp_path):
    fine = {"q": "fine", "o": ["x", "y"], "a": "A"}
    items = items_of(tmp_path, ASK, [*BAD_ROWS.values(), fine])

    assert [item.reason for item in items[:-1]] == list(BAD_ROWS)
    assert items[1].name == "rows.jsonl line 2"
    assert items[-1].conversations[0].turns[0].text == "fine"
    assert all(len(item.detail) < 400 for item in items[:-1])


def test_number_answers_have_bounds_and_bad_ones_are_named(tmp_path):
    mapping = "question: q\nanswer: {number: a, lower: lo, upper: hi, number_type: t}\n"
    row = {"q": "q", "a": "1,200.5", "lo": 1100, "hi": "1,300", "t": "decimal"}
    rows = [row, {**row, "q": "r", "a": "many"}, {**row, "q": "s", "lo": "few"}, {**row, "q": "t", "t": "colour"}]
    weeks = {**row, "q": "u", "a": "('4 weeks', '2 days')", "t": "weeks/days"}
    first, *drops, last = items_of(tmp_path, mapping, [*rows, weeks])
    assert first.conversations[0].metadata == {
        "answer_type": "number",
        "number_type": "decimal",
        "lower": 1100,
        "upper": 1300,
    }
    assert [drop.reason for drop in drops] == ["bad_number"] * 3
    assert last.conversations[0].metadata == {"answer_type": "number", "number_type": "weeks"}


def test_images_embedded_listed_named_and_missing(tmp_path):
    mapping = "question: q\nanswer: a\nimages: [i, j]\nimage_folders: [one, two]\noptional: [j]\n"
    write_images(tmp_path, "two/b.jpg")
    code = base64.b64encode(jpeg(3)).decode()
    rows = [
        {"q": "embedded", "i": code},
        {"q": "address", "i": f"data:image/jpeg;base64,{code}"},
        {"q": "object", "i": {"bytes": code, "path": None}},
        {"q": "named", "i": "./b.jpg"},
        {"q": "listed", "i": ["b.jpg", code], "j": "b.jpg"},
        {"q": "none", "i": None},
        {"q": "gone", "i": "c.jpg"},
        {"q": "out", "i": "../rows.jsonl"},
        {"q": "remote", "i": 7},
        {"q": "garbled", "i": "%" * 400},
        {"q": "no image", "i": base64.b64encode(b"x" * 400).decode()},
    ]
    items = items_of(tmp_path, mapping, [{**row, "a": "yes"} for row in rows])
    samples = [item for item in items if not isinstance(item, Dropped)]
    assert [[c.turns[0].text for c in sample.conversations] for sample in samples] == [
        ["<image>\nembedded", "<image>\naddress", "<image>\nobject"],
        ["<image>\nnamed"],
        ["<image>\n<image>\n<image>\nlisted"],
    ]
    assert [list(sample.images.values()) for sample in samples] == [
        [jpeg(3)],
        [jpeg(0)],
        [jpeg(0), jpeg(3), jpeg(0)],
    ]
    reasons = [item.reason for item in items if isinstance(item, Dropped)]
    assert reasons == ["missing_image", "missing_image", "bad_path", "bad_image", "bad_image", "image_format"]


def test_lists_of_images_in_parquet_are_found_again_by_row_and_position(tmp_path):
    rows = [{"q": f"q{n}", "a": "yes", "i": [embedded(n), embedded(n + 1)]} for n in range(3)]
    write_parquet(tmp_path / "rows.parquet", *rows, group=2)
    (tmp_path / "mine.yaml").write_text("# Mine\nfiles: {train: rows.parquet}\nquestion: q\nanswer: a\nimages: i\n")
    items = read_all(open_source("records", str(tmp_path), 1, options={"mapping": str(tmp_path / "mine.yaml")}))
    assert [list(item.images.values()) for item in items] == [[jpeg(n), jpeg(n + 1)] for n in range(3)]
    assert [list(item.images) for item in items] == [["0.jpg", "1.jpg"]] * 3


@pytest.mark.parametrize(
    ("text", "images", "expected"),
    [
        ("look at <image 1> and <image 2>", 2, "look at <image> and <image>"),
        ("look at <image 2> and <image 1>", 2, "<image>\n<image>\nlook at <image 2> and <image 1>"),
        ("look at <image 1>", 2, "<image>\n<image>\nlook at <image 1>"),
        ("look at <image>", 1, "look at <image>"),
        ("look", 0, "look"),
    ],
)
def test_where_images_stand_in_a_question(tmp_path, text, images, expected):
    names = [f"{n}.jpg" for n in range(images)]
    write_images(tmp_path, *names)
    mapping = "question: q\nanswer: a\nimages: i\noptional: [i]\n"
    (sample,) = items_of(tmp_path, mapping, [{"q": text, "a": "yes", "i": names}])
    assert sample.conversations[0].turns[0].text == expected


def test_unknown_columns_are_counted_also_those_inside_objects(tmp_path):
    mapping = "question: q.text\nanswer: a\n"
    rows = [{"q": {"text": "t", "source": "s", "none": None}, "a": "yes", "extra": n, "empty": ""} for n in (1, 2)]
    result_folder = tmp_path / "out"
    source_of(tmp_path / "in", mapping, rows)
    result = prepare(
        "records", str(tmp_path / "in"), result_folder, options={"mapping": str(tmp_path / "in/mine.yaml")}
    )
    assert result.ledger["counts"]["read"] == {"fields ignored: extra": 2, "fields ignored: q.source": 2}
    assert "fields ignored, with the rows that have them: extra (2), q.source (2)" in summary(
        result_folder, result.ledger, False
    )


def test_notes_that_cannot_be_used_cost_no_question_and_are_counted(tmp_path):
    mapping = "question: q\nanswer: a\nexplanation: e\nsubject: s\nlanguage: l\nfields: {f: f}\n"
    bad = {"e": {"steps": []}, "s": "x" * 10_000_000, "l": [["en"]], "f": {"a": 1}}
    source = source_of(tmp_path, mapping, [{"q": "q", "a": "yes", **bad}])
    (sample,) = read_all(source)
    assert sample.conversations[0].metadata == {"answer_type": "closed"}
    assert source.counts == {("read", f"fields ignored: {name}"): 1 for name in bad}


def test_missing_columns_and_files_are_named_with_those_that_are_there(tmp_path):
    write_csv(tmp_path / "train.csv", {"question": "q", "choices": "x", "key": "A"})
    write_json(tmp_path / "other.json", [])
    with pytest.raises(
        PrepError, match=r"has the columns question, choices, key; cmexam needs Question, Options, Answer"
    ):
        open_source("records", str(tmp_path / "train.csv"), options={"mapping": "cmexam"})
    with pytest.raises(PrepError, match=r"none of the files of medcalc_bench .*it holds other\.json, train\.csv"):
        open_source("records", str(tmp_path), options={"mapping": "medcalc_bench"})
    with pytest.raises(PrepError, match=r"options\.mapping='medq' is not known; did you mean 'medqa'\?"):
        open_source("records", str(tmp_path), options={"mapping": "medq"})
    with pytest.raises(PrepError, match=r"options\.uncertain=maybe is not one of keep, ones, zeros, ignore"):
        open_source("records", str(tmp_path), options={"mapping": "chexpert", "uncertain": "maybe"})


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("question: q\n", "question needs an answer"),
        ("captions: c\n", "images is missing"),
        ("images: i\n", "says neither what is asked nor captions, labels or boxes"),
        ("question: q\nanswer: {letter: a}\n", "names an option, but there are no options"),
        ("question: q\nanswer: {letters: a}\n", "letters is not known; did you mean 'letter'"),
        ("question: q\nanswer: {first: 1}\n", "answer has no kind"),
        ("question: q\noptions: {fixed: [yes, no]}\nanswer: a\n", "put it in quotes"),
        ("question: q\nanswer: a\nfields: {options: o}\n", "has a key of its own"),
        ("question: q\nanswer: a\nquestoin: r\n", "did you mean 'question'"),
        ("question: q\nanswer: a\ngroup: {column: g, pattern: '(a)(b)'}\n", "expected one group"),
        ("question: q\nanswer: a\ntable: {join: {file: ../x.csv, id: a}}\n", "lacks the file"),
        ("- a list\n", "is not YAML|is a list"),
    ],
)
def test_mappings_that_cannot_be_meant_are_refused_with_file_and_key(tmp_path, page, message):
    with pytest.raises(PrepError, match=rf"mine\.yaml.*({message})"):
        source_of(tmp_path, page, [])


def test_files_that_lead_out_of_the_input_are_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("# Mine\nfiles: {train: ../x.csv}\nquestion: q\nanswer: a\n")
    with pytest.raises(PrepError, match="expected names or patterns below the input folder"):
        open_source("records", str(tmp_path), options={"mapping": str(tmp_path / "mine.yaml")})


def test_published_ids_that_repeat_get_keys_of_their_own(tmp_path):
    mapping = "id: id\nquestion: q\nanswer: a\n"
    items = items_of(tmp_path, mapping, [{"id": 1, "q": f"q{n}", "a": "yes"} for n in range(3)])
    assert [item.key for item in items] == [f"mine__1{suffix}__train__0" for suffix in ("", "-2", "-3")]
    assert [item.conversations[0].id for item in items] == ["1"] * 3


def test_the_split_of_a_file_is_the_persons_or_its_names(tmp_path):
    for name, options, split in (
        ("my_val.jsonl", {}, "valid"),
        ("rows.jsonl", {}, "train"),
        ("x.jsonl", {}, "test"),
        ("x.jsonl", {"split": "dev"}, "valid"),
    ):
        source_of(tmp_path, "question: q\nanswer: a\n", [])
        write_lines(tmp_path / name, {"q": "q", "a": "yes"})
        options |= {"mapping": str(tmp_path / "mine.yaml")}
        (unit,) = open_source("records", str(tmp_path / name), options=options).units()
        assert unit.split == split


LABELS = [
    ("{column: l, list: true}", ["['a', 'b']", '["a", "b"]', "['a' 'b']", ["a", "b"]], [["a", "b"]] * 4),
    ("{column: l, list: true}", ["[]", "a", "['a', 'a']"], [[], ["a"], ["a"]]),
    ("{column: l, list: true}", ["['a', ", "[['a']]", '{"a": 1}', "('a', 'b'", None], ["bad_l"] * 4 + ["nothing_said"]),
    ("{column: l, separator: '|'}", ["a|b", "a", "a||b|"], [["a", "b"], ["a"], ["a", "b"]]),
    ("{column: l, names: {m: mass}}", ["m", "n", "['m']"], ["mass", "bad_l", "bad_l"]),
    ("{weights: l}", ["{'a': 0.2, 'b': 0.8}", "{}", '{"a": 1}'], [["b", "a"], [], ["a"]]),
    ("{weights: l}", ["{'a': 'x'}", "[1]", "{'a': -1}", "{'a': NaN}"], ["bad_l"] * 4),
    ("{one_of: {l: x, k: y}}", ["1.0", "0", "2"], ["x", "not_one_class", "bad_l"]),
    (
        "{classes: {l: x, k: y}}",
        ["1", -1.0, 0, True, "", "x"],
        [{"x": n, "y": 0} for n in (1, -1, 0, 1, None)] + ["bad_l"],
    ),
]


@pytest.mark.parametrize(("term", "cells", "expected"), LABELS)
def test_labels_are_lists_mappings_or_classes_and_never_text_of_python(tmp_path, term, cells, expected):
    write_images(tmp_path, *(f"{n}.jpg" for n in range(len(cells))))
    rows = [{"i": f"{n}.jpg", "l": cell, "k": 0} for n, cell in enumerate(cells)]
    mapping = f"images: i\nlabels:\n  label_name: {term}\ntemplates: chest_xray\n"
    items = items_of(tmp_path, mapping, rows)
    assert [i.reason if isinstance(i, Dropped) else i.labels["label_name"] for i in items] == expected
    for item in items:
        if not isinstance(item, Dropped):
            to_members(item)
            assert not any(mark in text for text in item.texts.values() for mark in "[]{}'\"")


def test_a_label_that_says_nothing_leaves_a_caption_of_the_subject(tmp_path):
    write_images(tmp_path, "0.jpg")
    mapping = "images: i\nlabels: {label_name: {column: l, list: true}}\ntemplates: chest_xray\n"
    source = source_of(tmp_path, mapping, [{"i": "0.jpg", "l": "[]"}])
    (sample,) = read_all(source)
    assert sample.texts == {"caption": "a chest X-ray"}
    assert source.counts["read", "captions that name no finding"] == 1


def test_labels_alone_get_generic_captions(tmp_path):
    write_images(tmp_path, "0.jpg")
    (sample,) = items_of(tmp_path, "images: i\nlabels: {label_name: l}\n", [{"i": "0.jpg", "l": "mass"}])
    assert sample.texts["caption"] == "a medical image showing a mass"


def test_rows_about_one_image_are_one_sample_and_labels_that_differ_are_counted(tmp_path):
    write_images(tmp_path, "0.jpg")
    mapping = "images: i\ncaptions: c\nlabels: {label_name: l}\n"
    source = source_of(tmp_path, mapping, [{"i": "0.jpg", "c": f"text {n}", "l": f"x{n}"} for n in (1, 2)])
    (sample,) = read_all(source)
    assert sample.texts == {"caption": "text 1", "caption_1": "text 2"}
    assert sample.labels == {"label_name": "x1"}
    assert source.counts["read", "rows whose labels differ from those of an earlier row about the images"] == 1


def test_json_of_every_form_is_read_alike(tmp_path):
    row = {"q": "q", "a": "yes"}
    (tmp_path / "list.json").write_text(json.dumps([row]))
    (tmp_path / "lines.json").write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    (tmp_path / "object.json").write_text(json.dumps({"7": row}, indent=1))
    page = "# Mine\nfiles: {train: '*.json'}\nquestion: q\nanswer: a\n"
    (tmp_path / "mine.yaml").write_text(page)
    options = {"mapping": str(tmp_path / "mine.yaml")}
    with pytest.raises(PrepError, match=r"object\.json holds an object.*table: \{keys"):
        open_source("records", str(tmp_path), options=options)
    (tmp_path / "mine.yaml").write_text(page + "id: pmid\ntable: {keys: pmid}\noptional: [pmid]\n")
    items = read_all(open_source("records", str(tmp_path), options=options))
    assert [item.conversations[0].id for item in items] == ["lines-0", "lines-1", "list-0", "7"]
