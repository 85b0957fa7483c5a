import decimal
import hashlib
import json
import math
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import cli
from data_prep.captions.caption_tables import relative
from data_prep.deidentify.pseudonym import pseudonym
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.readers.tables import parquet as parquet_rows_module
from data_prep.readers.tables.parquet import parquet_rows
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.own_files.csv_table import Csv
from medvlp.config import compose
from medvlp.shards import ShardDataset, verify
from medvlp.shards.schema import to_members
from tests.data_prep.folders import jpeg

SECRET = b"0123456789abcdef0123456789abcdef"


@pytest.fixture
def write(tmp_path):
    """Write a table, with four images beside it."""
    (tmp_path / "images").mkdir()
    for n, name in enumerate("abcd"):
        (tmp_path / "images" / f"{name}.jpg").write_bytes(jpeg(n))

    def to(text, name="pairs.csv"):
        (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
        return str(tmp_path / name)

    return to


def items(source):
    return [(unit.split, item) for unit in source.units() for item in source.read(unit)]


def samples(source):
    return [item for _, item in items(source) if not isinstance(item, Dropped)]


def drops(source):
    return {item.name: item.reason for _, item in items(source) if isinstance(item, Dropped)}


def test_the_table_of_open_clip_needs_no_options(write, tmp_path):
    path = write('filepath\ttitle\nimages/a.jpg\tA mass, 3 cm\nimages/b.jpg\t"quoted ""text"""\n')
    first, second = samples(Csv(path))
    assert first.key == "csv__images__a__jpg"
    assert first.images == {"jpg": (tmp_path / "images" / "a.jpg").read_bytes()}
    assert first.texts == {"caption": "A mass, 3 cm"}
    assert first.labels == {}
    assert first.metadata == {
        "group": "images/a.jpg",
        "group_kind": "image",
        "licence": "unknown",
        "source": "csv",
        "original_name": "images/a.jpg",
        "modality": "unknown",
    }
    assert second.texts == {"caption": 'quoted "text"'}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "filepath,title\nimages/a.jpg,one; two\n"),
        ("t.csv", "\ufefffilepath;title\r\nimages/a.jpg;one; two\r\n".replace("one; two", '"one; two"')),
        ("t.txt", "filepath|title\nimages/a.jpg|one; two\n"),
        ("t.tsv", "title \t filepath\none; two\timages/a.jpg\n\n"),
        ("t.jsonl", '{"filepath": "images/a.jpg", "title": "one; two"}\n\n'),
        ("t.json", '[{"filepath": "images/a.jpg", "title": "one; two"}]'),
    ],
)
def test_forms_of_tables(write, name, text):
    (sample,) = samples(Csv(write(text, name)))
    assert (sample.key, sample.texts) == ("csv__images__a__jpg", {"caption": "one; two"})


def test_parquet(write, tmp_path):
    columns = {
        "filepath": ["images/a.jpg", "images/b.jpg", None],
        "finding": [["mass", "edema", None], [], ["mass"]],
        "age": [61.0, math.nan, 3.0],
        "unused": [b"\0", b"\0", b"\0"],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    source = Csv(str(tmp_path / "t.parquet"), label="finding", labels=["age"], templates="chest_xray")
    (sample,) = samples(source)
    assert sample.labels == {"label_name": ["mass", "edema"], "age": "61.0"}
    assert drops(source) == {"images/b.jpg": "empty_finding", "t.parquet row 2": "empty_filepath"}


@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize(
    "written", [{}, {"row_group_size": 7, "dictionary_pagesize_limit": 40}, {"use_dictionary": False}], ids=str
)
def test_rows_of_parquet_are_those_that_arrow_reads(tmp_path, monkeypatch, written, few):
    texts = [f"text {n % 30}" if n % 7 else None for n in range(100)]
    table = pa.table(
        {
            "text": texts,
            "large": pa.array(texts, pa.large_string()),
            "category": pa.array(texts).dictionary_encode(),
            "list": [[text, None, "x"] if n % 5 else None if n % 2 else [] for n, text in enumerate(texts)],
            "image": [{"bytes": (text or "").encode(), "path": None} if text else None for text in texts],
            "number": [n / 2 if n % 3 else None for n in range(100)],
            "decimal": [decimal.Decimal(n) for n in range(100)],
            "other": pa.array([[("k", text)] for text in texts], pa.map_(pa.string(), pa.string())),
        }
    )
    if few:
        monkeypatch.setattr(parquet_rows_module, "SMALL_GROUP_BYTES", 0)
    pq.write_table(table, tmp_path / "t.parquet", **written)
    assert list(parquet_rows(tmp_path / "t.parquet", table.column_names)) == table.to_pylist()


def test_a_small_parquet_of_many_long_cells_stays_small_in_memory(write, tmp_path):
    """20 MB a cell in 1 kB of file: 40 GB, were every row to have its own."""
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["Z" * 20_000_000]))
    names = [f"images/{'abcd'[n % 4]}.jpg" for n in range(2000)]
    pq.write_table(pa.table({"filepath": names, "title": cells}), tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 2000
    script = (  # resource's ru_maxrss would include what the parent had at the fork
        "import collections, re, sys; from data_prep.sources.own_files.csv_table import Csv; s = Csv(sys.argv[1]);"
        "print(*collections.Counter(i.reason for u in s.units() for i in s.read(u)).items(),"
        " int(re.search('VmHWM: *\\t*([0-9 ]+)', open('/proc/self/status').read())[1]) < 600 * 1024)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "t.parquet")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    assert run.stdout == "('long_title', 2000) True\n"


def test_all_roles(write):
    path = write(
        "img,text,study,patient,part,rights,kind,note,sex,age\n"
        "a.jpg,First.,s1,p1,train,CC BY 4.0,CT,a note,F,60\n"
        "b.jpg,Second.,s2,p1,VAL,cc0,MRI,nan,M,\n"
        "c.jpg,Third.,s3,p2,testing,nothing known,X-ray,another,,7\n"
    )
    roles = {"image": "img", "caption": "text", "key": "study", "group": "patient", "split": "part"}
    more = {"licence": "rights", "modality": "kind", "texts": "note", "labels": ["sex", "age"]}
    source = Csv(path, images="images", **roles, **more)
    rows = items(source)
    assert [split for split, _ in rows] == ["train", "valid", "test"]
    first, second, third = (item for _, item in rows)
    assert (first.key, second.key, third.key) == ("csv__s1__0__0", "csv__s2__0__0", "csv__s3__0__0")
    assert first.texts == {"caption": "First.", "note": "a note"}
    assert second.texts == {"caption": "Second."}
    assert (first.labels, second.labels, third.labels) == ({"sex": "F", "age": "60"}, {"sex": "M"}, {"age": "7"})
    assert second.metadata == {
        "group": "p1",
        "group_kind": "patient",
        "licence": "CC0-1.0",
        "source": "csv",
        "original_name": "b.jpg",
        "modality": "MRI",
        "published_split": "VAL",
    }
    assert third.metadata["licence"] == "unknown"
    assert source.options()["labels"] == ["sex", "age"]
    assert json.loads(json.dumps(source.options())) == source.options()


def test_images_may_stand_elsewhere(write, tmp_path):
    path = write(f"filepath,title\na.jpg,One.\n{tmp_path}/images/b.jpg,Two.\n")
    source = Csv(path, images=str(tmp_path / "images"))
    assert [sample.key for sample in samples(source)] == ["csv__a__jpg__0", "csv__b__jpg__0"]
    assert str(tmp_path) not in json.dumps(source.options())


def test_a_units_fingerprint_is_that_of_caches_that_were_begun_before(write, tmp_path):
    source = Csv(write("filepath,title\nimages/a.jpg,One.\n"), group=None)
    (unit,) = source.units()
    size = (tmp_path / "images/a.jpg").stat().st_size
    row = (
        "Row(path='images/a.jpg', split='train', published_split='', captions=('One.',), labels=(), values=mappingproxy({}), "
        "texts=mappingproxy({}), columns=mappingproxy({}), work=mappingproxy({}), id='', group='', licence='', modality='', "
        "count=1)"
    )
    assert unit.fingerprint == hashlib.sha256(f"{size}\t{row}".encode()).hexdigest()


def test_constants_for_all_rows(write):
    path = write("filepath,title\nimages/a.jpg,One.\n")
    source = Csv(path, split="test", licence="cc-by-nc 4.0", modality="endoscopy")
    ((split, sample),) = items(source)
    assert split == "test"
    assert (sample.metadata["licence"], sample.metadata["modality"]) == ("CC-BY-NC-4.0", "endoscopy")
    assert "published_split" not in sample.metadata


def test_captions_from_labels_and_columns(write, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "fields: {sex: patient}\ntemplates: ['{label} in {a sex}', '{label} at {age}', '{a sex}: {label}']\n"
    )
    path = write("filepath,finding,sex,age\nimages/a.jpg,Mass|Edema| Mass,woman,60\nimages/b.jpg,Mass,,None\n")
    source = Csv(path, label="finding", label_separator="|", templates=str(tmp_path / "mine.yaml"))
    first, second = samples(source)
    assert first.texts == {
        "caption": "Mass and Edema in a woman",
        "caption_1": "Mass and Edema at 60",
        "caption_2": "a woman: Mass and Edema",
    }
    assert first.labels == {"label_name": ["Mass", "Edema"]}
    assert second.texts == {"caption": "Mass in a patient", "caption_1": "a patient: Mass"}
    assert second.labels == {"label_name": "Mass"}


def test_a_label_without_templates_takes_generic_ones_and_never_a_title(write):
    path = write("filepath,title,label\nimages/a.jpg,not asked for,fracture\n")
    (sample,) = samples(Csv(path, label="label"))
    assert sample.texts["caption"] == "a medical image showing a fracture"
    (sample,) = samples(Csv(path, label="label", caption="title"))
    assert (sample.texts, sample.labels) == ({"caption": "not asked for"}, {"label_name": "fracture"})
    (sample,) = samples(Csv(path, label="label", caption="title", templates="generic"))
    assert list(sample.texts.values())[:2] == ["not asked for", "a medical image showing a fracture"]


def test_rows_about_one_image_become_one_sample(write):
    path = write(
        "filepath,title,finding,split,note\n"
        "images/a.jpg,First.,mass,train,kept\n"
        "images/b.jpg,Other.,mass,train,\n"
        "./images/a.jpg,Second.,edema,train,not kept\n"
        "images/a.jpg,First.,mass,train,\n"
        "images/b.jpg,Other.,mass,test,\n"
    )
    source = Csv(path, caption="title", label="finding", split="split", texts=["note"])
    first, second = samples(source)
    assert first.texts == {"caption": "First.", "caption_1": "Second.", "note": "kept"}
    assert first.labels == {"label_name": ["mass", "edema"]}
    assert first.metadata["rows"] == 3
    assert (second.texts, "rows" in second.metadata) == ({"caption": "Other."}, False)
    assert [item for _, item in items(source) if isinstance(item, Dropped)] == [
        Dropped("images/b.jpg", "other_split", "it is in test, an earlier row about its image in train")
    ]


def test_rows_that_cannot_become_samples(write, tmp_path):
    (tmp_path.parent / "secret.jpg").write_bytes(jpeg(5))
    (tmp_path / "images" / "way_out.jpg").symlink_to(tmp_path.parent / "secret.jpg")
    rows = [
        b"images/a.jpg,nan,train",
        b"images/b.jpg,None,train",
        b"images/c.jpg,,train",
        b",no path,train",
        b"images/none.jpg,missing,train",
        b"../secret.jpg,above,train",
        b"/etc/passwd,absolute,train",
        b"images/way_out.jpg,a link,train",
        b"images,a folder,train",
        b"images/d.jpg,latin caf\xe9,train",
        b"short row",
        b"images/d.jpg,fold,fold3",
        b"images/d.jpg," + b"x" * 200_000 + b",train",
        b"images/d.jpg,kept,train",
    ]
    path = write(b"filepath,title,part\n" + b"\n".join(rows))
    source = Csv(path, split="part")
    results = [item for _, item in items(source)]
    assert len(results) == 14
    assert [(i.name, i.reason) if isinstance(i, Dropped) else i.texts["caption"] for i in results] == [
        ("images/a.jpg", "empty_title"),
        ("images/b.jpg", "empty_title"),
        ("images/c.jpg", "empty_title"),
        ("pairs.csv line 5", "empty_filepath"),
        ("images/none.jpg", "missing_image"),
        ("../secret.jpg", "bad_path"),
        ("/etc/passwd", "bad_path"),
        ("images/way_out.jpg", "bad_path"),
        ("images", "bad_path"),
        ("images/d.jpg", "not_utf8"),
        ("pairs.csv line 12", "bad_row"),
        ("images/d.jpg", "bad_split"),
        ("images/d.jpg", "long_title"),
        "kept",
    ]


def test_lines_of_json_that_cannot_become_samples(write):
    lines = [
        '{"filepath": "images/a.jpg", "title": {"en": "x"}}',
        "{broken",
        "[1]",
        '{"filepath": "images/b.jpg"}',
        '{"filepath": "images/c.jpg", "title": NaN}',
        '{"filepath": "images/c.jpg", "title": "\\ud800"}',
        '{"filepath": "images/d.jpg", "title": 7}',
        '{"filepath": "images/\\ud800.jpg", "title": "x"}',
    ]
    source = Csv(write("\n".join(lines), "t.jsonl"))
    rows = [item for _, item in items(source)]
    assert [(i.name, i.reason) if isinstance(i, Dropped) else i.texts for i in rows] == [
        ("images/a.jpg", "bad_title"),
        ("t.jsonl line 2", "bad_json"),
        ("t.jsonl line 3", "bad_row"),
        ("images/b.jpg", "missing_title"),
        ("images/c.jpg", "empty_title"),
        ("images/c.jpg", "not_utf8"),
        {"caption": "7"},
        ("t.jsonl line 8", "not_utf8"),
    ]


def test_only_an_empty_cell_is_no_label(write):
    path = write("filepath,grade,sex\nimages/a.jpg,None,NA\nimages/b.jpg,NA,\nimages/c.jpg,,nan\nimages/d.jpg,nan,F\n")
    source = Csv(path, label="grade", labels=["sex"])
    assert [sample.labels for sample in samples(source)] == [
        *({"label_name": "None", "sex": "NA"}, {"label_name": "NA"}, {"label_name": "nan", "sex": "F"})
    ]
    assert drops(source) == {"images/c.jpg": "empty_grade"}
    assert source.input_counts["rows labelled 'None': a class, and not a missing value"] == 1


def test_captions_without_words_are_drops(write):
    path = write("filepath,title\n" + "".join(f"images/{n}.jpg,{t}\n" for n, t in zip("abcd", "-.…7", strict=True)))
    source = Csv(path)
    assert drops(source) == {f"images/{n}.jpg": "wordless_title" for n in "abc"}
    assert [sample.texts for sample in samples(source)] == [{"caption": "7"}]


def test_an_empty_optional_cell_is_unknown_and_counted(write):
    path = write(
        "filepath,title,rights,kind,patient,study\nimages/a.jpg,One,,,,\nimages/b.jpg,Two,CC0,CT,p1,s1\n"
        "images/c.jpg,Three,nan,None,NaN,s2\n"
    )
    source = Csv(path, licence="rights", modality="kind", group="patient", key="study")
    first, second, third = samples(source)
    about = ("licence", "modality", "group", "group_kind")
    assert [first.metadata[name] for name in about] == ["unknown", "unknown", "images/a.jpg", "image"]
    assert [second.metadata[name] for name in about] == ["CC0-1.0", "CT", "p1", "patient"]
    assert [third.metadata[name] for name in about] == ["unknown", "unknown", "images/c.jpg", "image"]
    assert [sample.key for sample in (first, second)] == ["csv__images__a__jpg", "csv__s1__0__0"]
    assert source.input_counts == {
        "rows without study: the path is the key": 1,
        "rows without patient: each image is a group of its own": 2,
        "rows without rights: the licence is unknown": 2,
        "rows without kind: the modality is unknown": 2,
        "pictures without a row": 1,
    }


@pytest.mark.parametrize("header", [",filepath,title,", "filepath,,title,"])
def test_a_column_without_a_name_means_nothing(write, header):
    """pandas writes its index so: every option that was not given used to name that column."""
    cells = {"": "", "filepath": "images/{}.jpg", "title": "Text {}"}
    rows = [",".join(cells[name].format(n, n) for name in header.split(",")) for n in "abcd"]
    source = Csv(write("\n".join([header, *rows])))
    assert drops(source) == {}
    assert [sample.metadata["licence"] for sample in samples(source)] == ["unknown"] * 4
    assert [sample.metadata["group"] for sample in samples(source)][:2] == ["images/a.jpg", "images/b.jpg"]
    assert source.input_counts == {}


def test_cells_that_are_lists(write):
    path = write(
        "filepath;finding;box;note\n"
        "images/a.jpg;\"['pleural effusion', 'nodule']\";[10, 20.5];['one', 'two']\n"
        'images/b.jpg;"[""edema""]";"[""a"", ""b""]";plain\n'
        "images/c.jpg;mass|Mass|edema;;\n"
        "images/d.jpg;[];[];[]\n"
    )
    source = Csv(path, label="finding", label_separator="|", labels=["box"], texts=["note"])
    first, second, third = samples(source)
    assert first.labels == {"label_name": ["pleural effusion", "nodule"], "box": [10, 20.5]}
    assert first.texts["caption"] == "a medical image showing pleural effusion and a nodule"
    assert first.texts["note"] == "one\ntwo"
    assert second.labels == {"label_name": "edema", "box": ["a", "b"]}
    assert third.labels == {"label_name": ["mass", "Mass", "edema"]}
    assert drops(source) == {"images/d.jpg": "empty_finding"}


def test_a_list_that_is_broken_is_a_drop_and_never_a_caption(write):
    path = write(
        "filepath;finding;box\n"
        "images/a.jpg;\"['pleural effusion', 'nodule'\";1\n"
        "images/b.jpg;\"{'edema': 1}\";1\n"
        "images/c.jpg;(suspected) mass;[1, [2], {'a': 3}]\n"
    )
    source = Csv(path, label="finding", labels=["box"])
    (sample,) = samples(source)
    assert drops(source) == {"images/a.jpg": "bad_finding", "images/b.jpg": "bad_finding"}
    assert sample.labels == {"label_name": "(suspected) mass", "box": [1]}
    assert source.input_counts["items of box that are neither texts nor numbers"] == 2


def test_a_list_of_captions_is_several_captions(write):
    path = write("filepath;title\nimages/a.jpg;\"['First, with a comma', 'Second', 'None']\"\n")
    (sample,) = samples(Csv(path))
    assert sample.texts == {"caption": "First, with a comma", "caption_1": "Second"}


def test_columns_about_the_work_reach_the_metadata_and_attribution(write, tmp_path):
    path = write(
        "filepath,title,paper,who,id,where,credit\n"
        "images/a.jpg,One,A title,\"['Doe J', 'Roe R']\",https://doi.org/10.1000/x,,\n"
        "images/b.jpg,Two,,,,https://example.org/case/7,Case courtesy of A. Body\n"
        "images/c.jpg,Three,,,,,=Anon. Atlas\n"
    )
    roles = {"title": "paper", "author": "who", "doi": "id", "url": "where", "attribution": "credit"}
    first, second, _ = samples(Csv(path, **roles))
    work = ("article_title", "authors", "article_doi", "url", "citation")
    assert [first.metadata.get(name) for name in work] == ["A title", "Doe J; Roe R", "10.1000/x", None, None]
    assert [second.metadata.get(name) for name in work] == [
        *(None, None, None, "https://example.org/case/7", "Case courtesy of A. Body")
    ]
    prepare("csv", path, tmp_path / "out", options={**roles, "licence": "CC-BY-4.0"})
    page = (tmp_path / "out" / "ATTRIBUTION.md").read_text()
    assert "- Doe J; Roe R. [A title](<https://doi.org/10.1000/x>). Licence: [CC-BY-4.0]" in page
    assert "- [Case courtesy of A. Body](<https://example.org/case/7>). Licence" in page
    assert "- =Anon. Atlas. Licence" in page
    rows = (tmp_path / "out" / "attribution.csv").read_text().splitlines()
    assert len(rows) == 4
    assert "'=Anon. Atlas" in rows[-1] + rows[1]
    with pytest.raises(PrepError, match=r"options\.author is for published works, and would name people"):
        Csv(path, author="who", private=True)


def test_columns_that_nothing_reads_are_counted(write, tmp_path):
    content = (
        "filepath,title,age,sex\nimages/a.jpg,One,7,\nimages/b.jpg,Two,8,F\nimages/c.jpg,Three,9,\nimages/d.jpg,4a,1,\n"
    )
    source = Csv(write(content), labels="sex")
    source.units()
    assert source.input_counts == {"fields ignored: age": 4}
    names = [f"images/{n}.jpg" for n in "abcd"]
    pq.write_table(pa.table({"filepath": names, "title": names, "age": [1, 2, 3, 4]}), tmp_path / "t.parquet")
    source = Csv(str(tmp_path / "t.parquet"))
    source.units()
    assert source.input_counts == {"fields ignored: age": 4}


def test_pictures_without_a_row_are_counted_but_not_those_of_rows_that_are_drops(write, tmp_path):
    path = write('filepath,title\nimages/a.jpg,One\nimages/b.jpg,\nimages/c.jpg,"open\n')
    (tmp_path / "images" / "._d.jpg").write_bytes(b"x")
    (tmp_path / "images" / "notes.txt").write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.jpg").write_bytes(b"x")
    source = Csv(path)
    assert drops(source) == {"images/b.jpg": "empty_title", "pairs.csv line 4": "open_quote"}
    assert source.input_counts == {"pictures without a row": 1}
    source = Csv(write("filepath,title\na.jpg,One\n"), images="images")
    source.units()
    assert source.input_counts == {"pictures without a row": 3}


def test_paths_in_other_spellings(write, tmp_path):
    """Accents apart from their letters, as Macs have them; the bytes of Windows; its slashes."""
    folder = tmp_path / "images"
    (folder / unicodedata.normalize("NFD", "Knöchel.jpg")).write_bytes(jpeg(5))
    (folder / "Fuß.jpg".encode("cp1252").decode("utf-8", "surrogateescape")).write_bytes(jpeg(6))
    path = write("filepath,title\nimages/Knöchel.jpg,One\nimages/Fuß.jpg,Two\nimages\\a.jpg,Three\n")
    source = Csv(path)
    assert [sample.images["jpg"] for sample in samples(source)] == [jpeg(5), jpeg(6), jpeg(0)]
    assert source.input_counts == {"pictures without a row": 3}


def test_names_without_endings_are_told_so(write):
    source = Csv(write("filepath,title\nimages/a,One\nimages/x,Two\n"))
    assert [item.detail for _, item in items(source)] == [
        f"images/a is not in the image folder {source.folder.name}/; images/a.jpg is: write names with their endings",
        f"images/x is not in the image folder {source.folder.name}/",
    ]


def test_options_of_the_text(write):
    path = write("filepath;title\nimages/a.jpg;Fraktur des Knöchels\n".encode("cp1252"))
    (sample,) = samples(source := Csv(path, encoding="cp1252"))
    assert sample.texts == {"caption": "Fraktur des Knöchels"}
    assert source.options()["encoding"] == "cp1252"
    assert source.input_counts["tables read as CP1252"] == 1
    (dropped,) = [item for _, item in items(Csv(path)) if isinstance(item, Dropped)]
    assert (dropped.reason, dropped.detail) == (
        *("not_utf8",),
        "title: byte 0xf6 is not UTF-8, in cp1252 'ö'; save the file as UTF-8, or say options.encoding=<what it was saved in>",
    )
    (sample,) = samples(Csv(write('filepath\ttitle\nimages/a.jpg\t"Ground-glass" x\n'), quotes="none"))
    assert sample.texts == {"caption": '"Ground-glass" x'}


def test_a_class_that_loses_all_its_samples_is_said(write, tmp_path, capsys):
    path = write("filepath,grade\nimages/a.jpg,mild\nimages/b.jpg,mild\nimages/x.jpg,severe\nimages/y.jpg,severe\n")
    words = ["source=csv", f"input={path}", f"output={tmp_path / 'out'}", "options.label=grade", "workers=1"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "warning: 2 of 4 rows of train (50%) were dropped, most (2) by read: missing_image",
        "warning: no sample is left of these classes of label_name: 'severe' (2); dropped.jsonl says why",
    ]


def test_a_class_that_goes_by_duplicates_is_said(write, tmp_path):
    (tmp_path / "images" / "d.jpg").write_bytes(jpeg(0))
    path = write("filepath,grade\nimages/a.jpg,mild\nimages/b.jpg,mild\nimages/c.jpg,none\nimages/d.jpg,severe\n")
    result = prepare("csv", path, tmp_path / "out", options={"label": "grade"}, duplicates="drop")
    assert result.ledger["vanished"] == {"label_name": {"severe": 1}}


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("image,text\n", {}, "has no column 'filepath'; it has 'image', 'text'; say options.image=<column>"),
        (
            "filepath,text\n",
            {},
            "has no column 'title'; it has 'filepath', 'text'; say options.caption=<column>, or options.label=<column>",
        ),
        ("filepath,title\n", {"group": "patient"}, "has no column 'patient'"),
        (
            "filepath,title\n",
            {"texts": ["note"]},
            "has no column 'note'; it has 'filepath', 'title'; say options.texts",
        ),
        ("filepath,title,caption_1\n", {"texts": "caption_1"}, "the column 'caption_1' would take the place of"),
        ("filepath,title,label_name\n", {"labels": "label_name"}, "the column 'label_name' would take the place"),
        ("filepath,title\n", {"split": "part"}, "options.split=part is neither a split"),
        ("filepath,title\n", {"licence": "rights"}, "options.licence=rights is neither a column nor a licence"),
        ("filepath,title\n", {"images": "nowhere"}, "options.images=nowhere"),
        (
            "filepath,title\n",
            {"labels": {"a": 1}},
            "options.labels is {'a': 1}, expected names: options.labels=[first,second]",
        ),
        ("filepath,title,title\n", {}, "the header has 'title' more than once"),
        ("", {}, "has no column 'filepath'; it has none"),
    ],
)
def test_tables_and_options_that_are_refused(write, text, options, complaint):
    with pytest.raises(PrepError, match=re.escape(complaint)):
        Csv(write(text), **options)


def test_inputs_that_are_no_tables(write, tmp_path):
    with pytest.raises(PrepError, match="should be a table"):
        Csv(str(tmp_path))
    with pytest.raises(PrepError, match=r"t.parquet cannot be read \(ArrowInvalid"):
        Csv(write("no parquet", "t.parquet"))
    with pytest.raises(PrepError, match="holds nothing for source csv"):
        Csv(write("filepath,title\n")).units()
    source = Csv(write("filepath,title\nimages/a.jpg," + "x" * (17 * 2**20)))
    assert drops(source) == {"pairs.csv line 2": "line_too_long"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a.jpg", "a.jpg"), ("./././a.jpg", "a.jpg"), ("/data/x/a.jpg", "a.jpg"), ("/data/xy/a.jpg", "/data/xy/a.jpg")],
)
def test_paths_below_the_folder(path, expected, tmp_path):
    assert relative(path, Path("/data/x")) == expected
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert relative(str(tmp_path / "real" / "a.jpg"), tmp_path / "link") == "a.jpg"
    assert relative(str(tmp_path / "a.jpg"), tmp_path / "real" / "..") == "a.jpg"
    assert relative(str(tmp_path / "a.jpg"), tmp_path) == "a.jpg"


def test_private_tables_give_away_no_names(write, tmp_path, monkeypatch):
    key_file = tmp_path / "deid.key"
    key_file.write_bytes(SECRET)
    key_file.chmod(0o600)
    monkeypatch.setenv("MEDVLP_DEID_KEY", str(key_file))
    path = write(
        "filepath,title,mrn,accession\n"
        "images/a.jpg,First.,MRN0001,ACC1\nimages/b.jpg,Second.,MRN0001,ACC2\nimages/Doe_John.jpg,Third.,MRN0002,ACC3\n"
    )
    source = Csv(path, group="mrn", key="accession", private=True)
    first, second = samples(source)
    group = pseudonym(SECRET, "group:MRN0001")
    assert first.metadata["group"] == second.metadata["group"] == group
    assert first.key == f"csv__{group}__{pseudonym(SECRET, 'file:ACC1')}__0"
    (dropped,) = [item for _, item in items(source) if isinstance(item, Dropped)]
    assert dropped == Dropped(pseudonym(SECRET, "file:images/Doe_John.jpg"), "missing_image", "")
    members = [data for sample in (first, second) for name, data in to_members(sample).items() if name != "jpg"]
    said = [first.key, second.key, repr(source.units()), json.dumps(source.fingerprint()), *map(repr, members)]
    assert len(members) == 4
    assert not re.search(r"MRN0|ACC\d|Doe|images/a", "\n".join(said))


def test_prepared(write, tmp_path):
    path = write("filepath,label,part\nimages/a.jpg,mass,train\nimages/b.jpg,,train\nimages/c.jpg,normal,test\n")
    options = {"label": "label", "split": "part", "licence": "CC0-1.0"}
    result = prepare("csv", path, tmp_path / "out", options=options)
    assert (result.ledger["in"], result.ledger["out"]) == (3, 2)
    assert result.ledger["drops"] == {"read": {"empty_label": 1}}
    assert verify(tmp_path / "out") == []
    sample = ShardDataset(tmp_path / "out" / "test").read(0)
    assert sample.texts["caption"] == "a medical image without an abnormal finding"


def test_columns_may_be_called_numbers_and_anything_else(write):
    path = write(
        'image,"Befund, Text",2024,true\nimages/a.jpg,A mass,p1,x\nimages/b.jpg,A scan,p2,y\n', "a=b,c (1).csv"
    )
    words = ["source=csv", f"input={path}", "output=x", "options.image=image", "options.caption=Befund, Text"]
    options = compose("prep", [*words, "options.group=2024", "options.labels=true"]).options
    assert options["group"] == 2024  # nothing says yet that a source takes texts only
    first, second = samples(open_source("csv", path, options=options))
    assert (first.texts["caption"], first.metadata["group"], first.labels) == ("A mass", "p1", {"true": "x"})
    assert second.metadata["group"] == "p2"
