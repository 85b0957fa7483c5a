"""What holds for every source that reads a text table: no quote swallows a row, no encoding is guessed in silence, no
picture and no column is passed over without a word."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import data_prep
from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.own_files.dicom_studies.reports import read_report, read_table, unread_columns
from tests.data_prep.folders import jpeg

CHOICES = "Choice A,Choice B,Choice C,Choice D"


def csv_source(folder):
    return folder / "t.csv", "filepath,title,note", "images/{}.jpg,{},x", "images", {}, folder / "t.csv"


def nifti_like_labels(folder):
    return folder / "t.csv", "filepath,label,note", "images/{}.jpg,{},x", "images", {"label": "label"}, folder / "t.csv"


def pmc_vqa(folder):
    header = f"Figure_path,Question,Answer,{CHOICES},Answer_label,note"
    (folder / "test.csv").write_text(f"{header}\nPMC9_F1.jpg,Which?,one,one,two,three,four,A,x\n")
    (folder / "images").mkdir()
    (folder / "images" / "PMC9_F1.jpg").write_bytes(jpeg(77))
    return folder / "train.csv", header, "{}.jpg,{},one,one,two,three,four,A,x", "images", {}, folder


def kvasir_vqa(folder):
    return folder / "metadata.csv", "source,question,answer,img_id,note", "Hyper,{1},yes,{0},x", "images", {}, folder


def quilt(folder):
    header = "caption,image_path,subset,split,note"
    return folder / "quilt_1M_lookup.csv", header, "{1},{0}.jpg,quilt,train,x", "images", {}, folder


def rocov2(folder):
    for split in ("train", "valid", "test"):
        (folder / split).mkdir()
        for table, column in (("captions", "Caption"), ("concepts", "CUIs"), ("concepts_manual", "CUIs")):
            (folder / f"{split}_{table}.csv").write_text(f"ID,{column}\n")
    return folder / "train_captions.csv", "ID,Caption,note", "{},{},x", "train", {}, folder


SOURCES = {"csv": csv_source, "pmc_vqa": pmc_vqa, "kvasir_vqa": kvasir_vqa, "quilt": quilt, "rocov2": rocov2}


@pytest.fixture(params=[*SOURCES, "csv with labels"])
def open_with(request, tmp_path):
    """Open a source on four pictures and a table of rows for them: (what it counts, its items of train)."""
    name = request.param.split()[0]
    table, header, row, images, options, input = (SOURCES[name] if name == request.param else nifti_like_labels)(
        tmp_path
    )

    def to(texts, written="utf-8", **more):
        (tmp_path / images).mkdir(exist_ok=True)
        for number in range(4):
            (tmp_path / images / f"pic_{number}.jpg").write_bytes(jpeg(number))
        rows = [row.format(f"pic_{number}", text) for number, text in enumerate(texts)]
        table.write_bytes("\n".join([header, *rows, ""]).encode(written))
        source = open_source(name, str(input), options=options | more)
        items = []
        units = source.units()
        counts = Counter(source.input_counts)
        for unit in units:
            items += [item for item in source.read(unit) if unit.split == "train"]
            counts.update({counted_name: n for (_, counted_name), n in getattr(source, "counts", {}).items()})
        return counts, items

    to.source = name
    return to


def reasons(items):
    return Counter(item.reason if isinstance(item, Dropped) else "sample" for item in items)


def test_a_quote_that_never_closes_costs_its_own_row(open_with):
    _, items = open_with(["first", '"second', "third", "fourth"])
    assert reasons(items) == {"sample": 3, "open_quote": 1}
    (dropped,) = [item for item in items if isinstance(item, Dropped)]
    assert "line 3" in f"{dropped.name} {dropped.detail}"
    assert "does not close before the table ends; close it; write quotes inside a cell twice" in dropped.detail


def test_a_quote_that_closes_in_a_later_row_costs_no_other(open_with):
    _, items = open_with(['"first', 'a tube of 5"', "third", '"fourth" more'])
    assert reasons(items) == {"sample": 2, "open_quote": 1, "bad_quotes": 1}


def test_encodings_are_read_or_refused_by_name(open_with):
    words = ["Ø 5 µm", "Außenknöchel", "±2 °C", "plain"]
    assert reasons(open_with(words, "utf-16")[1]) == reasons(open_with(words, "utf-8-sig")[1]) == {"sample": 4}
    with pytest.raises(PrepError, match="3 of 3 lines with characters beyond ASCII are not UTF-8; save it as UTF-8"):
        open_with(words, "cp1252")
    if open_with.source == "csv":
        assert reasons(open_with(words, "cp1252", encoding="cp1252")[1]) == {"sample": 4}


def test_pictures_without_rows_and_columns_that_nothing_reads_are_counted(open_with):
    counted, items = open_with(["first", "second", "third"])
    assert counted["fields ignored: note"] == (4 if open_with.source == "pmc_vqa" else 3)
    if open_with.source == "rocov2":  # where they are drops by name
        assert reasons(items) == {"sample": 3, "no_caption_row": 1}
    else:
        assert reasons(items) == {"sample": 3}
        assert counted["pictures without a row"] == 1


def test_tables_are_read_in_one_place():
    """Another reader would have faults of its own."""
    folder = Path(data_prep.__file__).parent
    importers = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(name.name == "csv" for name in node.names)
    }
    assert importers == {"readers/tables/text_tables.py"}


def test_reports_in_other_encodings(tmp_path):
    words = "AccessionNumber,text,ward\n7,Röntgen: Außenknöchel,W1\n8,Übersicht,\n"
    path = tmp_path / "r.csv"
    path.write_bytes(words.encode("cp1252"))
    with pytest.raises(PrepError, match=r"line 2 is not UTF-8; save it as UTF-8 .*, or say options\.encoding=cp1252"):
        read_table(path)
    (tmp_path / "q.csv").write_text('AccessionNumber,text\n7,"open\n')
    with pytest.raises(
        PrepError, match="line 2: the quote that opens in line 2, column 'text', does not close"
    ) as error:
        read_table(tmp_path / "q.csv")
    assert "options." not in str(error.value)  # dicom has none for quotes
    assert read_table(path, "cp1252") == {"7": "Röntgen: Außenknöchel", "8": "Übersicht"}
    assert unread_columns(path, "cp1252") == {"fields ignored: ward": 1}
    for encoding, stated in (("utf-16", ""), ("utf-8-sig", ""), ("cp1252", "cp1252")):
        (tmp_path / "a.txt").write_bytes("Außenknöchel".encode(encoding))
        assert read_report(tmp_path, "a.txt", stated) == "Außenknöchel"
