"""Text tables: quotes, lines, encodings, separators, headers."""

import codecs
import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import BadRow, PrepError
from data_prep.readers import fields
from data_prep.readers.tables import encodings
from data_prep.readers.tables.text_tables import Dialect, TextTable, dialect_of

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read(path, **dialect):
    """(line, entry, or the reason of its fault) of every row."""
    table = TextTable(path, (), Dialect(**dialect))
    rows = list(table.rows())
    with table.open() as file:  # every row is the same when it is read again
        for row in reversed(rows):
            again = table.at(file, row.offset, row.line)
            assert again == row.entry or again.args == row.entry.args
    return [(row.line, row.entry.reason if isinstance(row.entry, BadRow) else row.entry) for row in rows]


@pytest.fixture
def write(tmp_path):
    def to(content, name="t.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return to


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@given(st.lists(st.tuples(texts, texts), max_size=8), st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t|"))
def test_rows_are_those_that_were_written(tmp_path_factory, encoding, rows, ending, separator):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    with open(path, "w", newline="", encoding=encoding) as file:
        file.write("\ufeff" if encoding == "utf-16-be" else "")
        writer = csv.writer(file, lineterminator=ending, quoting=csv.QUOTE_ALL, delimiter=separator)
        writer.writerows([("a", "b"), *rows])
    assert [entry for _, entry in read(path)] == [{"a": a, "b": b} for a, b in rows if a.strip() or b.strip()]


def test_lines_and_offsets_count_breaks_in_cells_and_blank_lines(write):
    path = write('a,b\n1,2\n\n"3\n4",5\n6\n7,8\n')
    assert [(row.line, row.offset) for row in TextTable(path).rows()] == [(2, 4), (4, 9), (6, 17), (7, 19)]
    assert read(path) == [
        (2, {"a": "1", "b": "2"}),
        (4, {"a": "3\n4", "b": "5"}),
        (6, "bad_row"),
        (7, {"a": "7", "b": "8"}),
    ]


@pytest.mark.parametrize(
    ("lines", "expected", "detail"),
    [
        (  # nothing else has a quote: it would swallow all that follows
            ['a.jpg,"one', "b.jpg,two", "c.jpg,three"],
            [(2, "open_quote"), (3, "two"), (4, "three")],
            "the quote that opens in line 2, column 'title', does not close before the table ends; close it; ",
        ),
        (
            ['a.jpg,"one', 'b.jpg,"two"', "c.jpg,three"],
            [(2, "open_quote"), (3, "two"), (4, "three")],
            "the quote that opens in line 2, column 'title', closes inside a cell of line 3; ",
        ),
        (  # closes where a cell may close
            ['a.jpg,"one', 'b.jpg,a tube of 5"', "c.jpg,three"],
            [(2, "open_quote"), (3, 'a tube of 5"'), (4, "three")],
            "does not close before line 3, which looks like a row of its own; close it; ",
        ),
        (
            ['a.jpg,"one" more', "b.jpg,two"],
            [(2, "bad_quotes"), (3, "two")],
            "line 2, column 'title': text follows the quote that closes the cell; write quotes inside a cell twice, and ",
        ),
        (  # opens on the last line of a row that goes over two
            ['"a.jpg', '","one', "b.jpg,two"],
            [(2, "open_quote"), (3, "bad_quotes"), (4, "two")],
            "the quote that opens in line 3, column 'title', does not close before the table ends",
        ),
        (["a.jpg,one\rtwo", "b.jpg,two"], [(2, "bad_row"), (3, "two")], "a carriage return stands inside the line"),
        (['a.jpg,5" tube', 'b.jpg,"a ""quoted"" word"'], [(2, '5" tube'), (3, 'a "quoted" word')], ""),
        (['a.jpg, "one, two"', "b.jpg,two"], [(2, "one, two"), (3, "two")], ""),
    ],
)
def test_a_quote_swallows_no_row(write, lines, expected, detail):
    path = write("\n".join(["filepath,title", *lines]))
    assert [(line, e if isinstance(e, str) else e["title"]) for line, e in read(path)] == expected
    faults = [row.entry.detail for row in TextTable(path, dialect=Dialect()).rows() if isinstance(row.entry, BadRow)]
    assert faults[0].startswith(detail) or detail in faults[0] if detail else not faults


def test_quotes_are_characters_where_a_table_quotes_nothing(write):
    path = write('filepath\ttitle\na.jpg\t"Ground-glass" opacities\nb.jpg\t"Tree-in-bud\nc.jpg\tplain\n', "t.tsv")
    assert [line for line, entry in read(path) if isinstance(entry, str)] == [3 - 1, 3]
    cells = [entry["title"] for _, entry in read(path, quotes="none")]
    assert cells == ['"Ground-glass" opacities', '"Tree-in-bud', "plain"]


def test_quotes_behind_a_backslash(write):
    path = write('filepath,title\na.jpg,"said \\"x\\", here"\nb.jpg,two\n')
    fault = next(TextTable(path, (), Dialect()).rows()).entry
    assert fault.detail.endswith("or say options.quotes=backslash, as the table has them behind one")
    assert [entry["title"] for _, entry in read(path, quotes="backslash")] == ['said "x", here', "two"]


def test_breaks_in_cells_are_no_rows(write):
    report = "FINDINGS: normal,\n\n1, two\nIMPRESSION: second paragraph,\nT2-weighted, axial"
    path = write(f'id,report\np1_s1,"{report}"\np1_s2,short\n')
    assert read(path) == [(2, {"id": "p1_s1", "report": report}), (7, {"id": "p1_s2", "report": "short"})]


def test_breaks_in_first_cells_are_no_rows_unless_rows_are_swallowed(write):
    header = "caption,image_path,split\n"
    genuine = write(header + '"Spindle cells, in\nfascicles.",a.jpg,train\nnext,b.jpg,train\n')
    assert [entry["caption"] for _, entry in read(genuine)] == ["Spindle cells, in\nfascicles.", "next"]
    swallowed = write(header + '"one,a.jpg,train\na tube of 5",b.jpg,train\nnext,c.jpg,train\n')
    assert [(line, e if isinstance(e, str) else e["caption"]) for line, e in read(swallowed)] == [
        *((2, "open_quote"), (3, 'a tube of 5"'), (4, "next"))
    ]


def test_what_a_faulty_row_is_about_can_be_told(write):
    table = TextTable(write('filepath,title\na.jpg,"one\nb.jpg,"two" x\nc.jpg,1,2\n'))
    assert [table.cell(row.entry, "filepath") for row in table.rows()] == ["a.jpg", "b.jpg", "c.jpg"]


def test_lines_beyond_all_measure_are_faults_of_their_own(write, monkeypatch):
    monkeypatch.setattr(encodings, "MAX_LINE_BYTES", 20)
    path = write('a,b\n1,2\n3,45678901234567890123456789\n5,6\n"7\n' + "x\n" * 20 + "8,9\n")
    assert [(line, e if isinstance(e, str) else e["a"]) for line, e in read(path)][:3] == [
        *((2, "1"), (3, "line_too_long"), (4, "5"))
    ]
    assert read(path)[3] == (5, "open_quote")
    assert read(path)[-1] == (26, {"a": "8", "b": "9"})


def test_a_field_beyond_the_modules_own_limit_is_one_rows_fault(write):
    rows = [row.entry for row in TextTable(write(f"a,b\n1,{'x' * 200_000}\n2,y\n"), ["b"]).rows()]
    with pytest.raises(BadRow, match="long_b") as caught:
        fields.text_of(rows[0], "b")
    assert caught.value.detail == "b has 200000 characters, at most 100000 are read"
    assert fields.text_of(rows[1], "b") == "y"


WORDS = "filepath;title\r\nKnöchel.jpg;Ø 5 µm, ±2 °C\r\nb.jpg;Röntgenbild – Außenknöchel\r\nc.jpg;plain\r\n"
TITLES = ["Ø 5 µm, ±2 °C", "Röntgenbild – Außenknöchel", "plain"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-8"])
def test_encodings_with_marks_and_utf_16_without_are_told(write, encoding):
    path = write(WORDS.encode(encoding))
    assert [entry["title"] for _, entry in read(path)] == TITLES
    assert read(path)[0][1]["filepath"] == "Knöchel.jpg"
    assert TextTable(path).columns == ["filepath", "title"]


@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman"])
def test_other_encodings_are_refused_and_read_when_they_are_said(write, encoding):
    path = write(WORDS.encode(encoding))
    with pytest.raises(
        PrepError, match=r"2 of 2 lines with characters beyond ASCII are not UTF-8; save it as UTF-8"
    ) as e:
        list(TextTable(path, (), Dialect()).rows())
    assert "options.encoding=<what it was saved in>, such as cp1252" in str(e.value)
    with pytest.raises(PrepError, match=r"not UTF-8; save it as UTF-8 \(in Excel: CSV UTF-8\)$"):
        list(TextTable(path).rows())
    assert [entry["title"] for _, entry in read(path, encoding=encoding)] == TITLES


def test_damage_in_a_table_is_the_fault_of_its_rows(write):
    content = WORDS.encode() + b"d.jpg;caf\xe9\r\n"
    assert read(write(content))[3] == (5, {"filepath": "d.jpg", "title": "caf\udce9"})
    with pytest.raises(BadRow, match="byte 0xe9 is not UTF-8, in cp1252 'é'"):
        fields.check_utf8("caf\udce9", "title")


def test_an_encoding_that_is_not_that_of_the_file_is_refused(write):
    path = write(WORDS.encode())
    with pytest.raises(PrepError, match=r"is in UTF-8, but options.encoding is cp1252; leave it out"):
        TextTable(path, (), Dialect("cp1252"))
    with pytest.raises(PrepError, match=r"is in UTF-16-LE, but options.encoding is cp1252"):
        TextTable(write(WORDS.encode("utf-16")), (), Dialect("cp1252"))
    with pytest.raises(PrepError, match="the header is not UTF-8"):
        TextTable(write("Schlüssel,b\n1,2\n".encode("latin-1")))


def test_names_of_options(write):
    assert dialect_of("Windows-1252", "tab", "none") == Dialect("cp1252", "\t", "none")
    for wrong, complaint in [
        (("klingon", "", "double"), "options.encoding=klingon is not known; known are utf-8, cp1252"),
        (("rot13", "", "double"), "options.encoding=rot13 is not known"),
        (("", "::", "double"), "options.separator='::' cannot stand between cells"),
        (("", "", "some"), "options.quotes=some is not one of double, backslash, none"),
    ]:
        with pytest.raises(PrepError, match=complaint):
            dialect_of(*wrong)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (",filepath,title\n0,a.jpg,x\n", {"Unnamed: 0": "0", "filepath": "a.jpg", "title": "x"}),
        ("filepath,title,\na.jpg,x,\n", {"filepath": "a.jpg", "title": "x", "Unnamed: 2": ""}),
        ("filepath,title,,\na.jpg,x\n", {"filepath": "a.jpg", "title": "x", "Unnamed: 2": "", "Unnamed: 3": ""}),
        ("filepath,title\na.jpg,x,,\n", {"filepath": "a.jpg", "title": "x"}),
        ("sep=|\nfilepath|title\na.jpg|x\n", {"filepath": "a.jpg", "title": "x"}),
        ("filepath,title\n,\na.jpg,x\n , \n", {"filepath": "a.jpg", "title": "x"}),
        ("\n \nfilepath,title\na.jpg,x\n", {"filepath": "a.jpg", "title": "x"}),
        ("filepath,title\ra.jpg,x\r", {"filepath": "a.jpg", "title": "x"}),
        ('"file;path";title\na.jpg;x\n', {"file;path": "a.jpg", "title": "x"}),
    ],
)
def test_headers_as_people_have_them(write, content, expected):
    ((_, entry),) = read(write(content))
    assert entry == expected


def test_a_separator_that_is_said(write):
    assert read(write("a;b,c\n1;2,3\n"), separator=";") == [(2, {"a": "1", "b,c": "2,3"})]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"PK\x03\x04rest", "is no text but a zip or an Excel workbook; save the sheet as CSV UTF-8"),
        (b"\x1f\x8brest", "compressed with gzip; unpack it"),
        (b"a,b\n", "has the columns a, b; it lacks c"),
        (b"c,c\n", "the header has 'c' more than once"),
        (b'"a,c\n1,2\n', "line 1, the header: the quote that opens in line 1, cell 1, does not close"),
        (codecs.BOM_UTF16_LE, "has the columns ; it lacks c"),
    ],
)
def test_tables_that_are_refused(write, content, complaint):
    with pytest.raises(PrepError, match=complaint):
        TextTable(write(content), ("c",))


@given(
    st.lists(
        st.sampled_from(['a.jpg,"x"', "b.jpg,y", "\n", '"', ",", "\r", "\\", "\0", "é", "\ufeff", "sep=;"]), max_size=20
    )
)
def test_whatever_is_in_a_table_is_rows_faults_or_a_refusal(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    for encoding in ("utf-8", "utf-16", "cp1252"):
        path.write_bytes("".join(["filepath,title\n", *pieces]).encode(encoding, "replace"))
        for dialect in (Dialect(), Dialect(quotes="none"), Dialect(quotes="backslash"), Dialect("cp1252")):
            try:
                table = TextTable(path, (), dialect)
                lines = [row.line for row in table.rows()]
                assert lines == sorted(set(lines))
                read(path, **dialect._asdict())
            except PrepError:
                continue
