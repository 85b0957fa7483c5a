"""Lines that are whole, whatever ended the process that wrote them."""

import json
import math
import os
import resource
import signal

import pytest

from medvlp.jsonl import Appender, BrokenLine, encode_row, read_rows, torn_bytes, write_rows
from medvlp.shards import ShardError


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (
            {"a": math.nan, "b": [1.5, math.inf], "c": {"d": -math.inf}},
            '{"a": null, "b": [1.5, null], "c": {"d": null}}',
        ),
        ({"text": "Röntgen\u2028\x85\n"}, '{"text": "Röntgen\u2028\x85\\n"}'),
        ({"name": os.fsdecode(b"a\xff.png")}, '{"name": "a\\udcff.png"}'),
    ],
)
def test_a_row_is_one_line_of_strict_json(tmp_path, row, line):
    assert encode_row(row) == line.encode() + b"\n"
    write_rows(tmp_path / "a.jsonl", [row], [row])
    assert list(read_rows(tmp_path / "a.jsonl")) == [json.loads(line)] * 2


@pytest.mark.parametrize(
    ("content", "rows", "torn"),
    [
        (b'{"a": 1}\n{"a": "\xc3', [{"a": 1}], 8),
        (b'{"a": 1}\n\0\0\0', [{"a": 1}], 3),
        (b'{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}], 0),
        (b'{"a": NaN}\n\n', [{"a": None}], 0),
        (b'{"a": ' + b"1" * 200_000, [], 200_006),
        (b"", [], 0),
    ],
)
def test_a_torn_line_is_left_out_and_cut_off_before_the_next(tmp_path, content, rows, torn):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert list(read_rows(path)) == rows
    assert torn_bytes(path) == torn
    Appender(path).append({"a": "ü"}, {"a": math.nan})
    assert list(read_rows(path)) == [*rows, {"a": "ü"}, {"a": None}]
    assert path.read_bytes().startswith(content[: len(content) - torn])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b"[1]", "expected an object, found list"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"[" * 100_000, "recursion"),
        (b'{"a": ' * 101 + b"1" + b"}" * 101, "more than 100 deep"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(BrokenLine, match=r"a\.jsonl, line 2: not a JSON object") as error:
        list(read_rows(path))
    assert said in str(error.value)


def test_an_absent_file_has_no_rows(tmp_path):
    assert list(read_rows(tmp_path / "absent.jsonl")) == []
    Appender(tmp_path / "absent.jsonl").append()
    assert not (tmp_path / "absent.jsonl").exists()


def test_a_full_disk_leaves_the_earlier_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    Appender(path).append({"a": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(ShardError, match=r"cannot write .*a\.jsonl: .*; its earlier lines are whole"):
            Appender(path).append({"a": "x" * 40})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert path.read_bytes() == b'{"a": 1}\n'


def test_a_row_may_be_a_hundred_deep_and_have_brackets_in_its_texts(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": ' * 100 + b"1" + b"}" * 100 + b"\n" + b'{"a": "' + b"[" * 1000 + b'"}\n')
    assert len(list(read_rows(path))) == 2
