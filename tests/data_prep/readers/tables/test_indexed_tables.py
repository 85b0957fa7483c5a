"""Rows that are found again by their place; images of formats that shards do not hold."""

import io

import pytest
from PIL import Image

from data_prep.errors import BadRow, PrepError
from data_prep.readers import guarded
from data_prep.readers.fields import plain
from data_prep.readers.guarded import read_json_lines, read_json_list
from data_prep.readers.image_files import check_format, shard_image
from data_prep.readers.tables.indexed_tables import JsonLines
from tests.data_prep.folders import jpeg


def test_json_lines_are_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(guarded, "MAX_LINE_BYTES", 12)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n["too long for it"]\n{"a": 2}\n{\n{"a": 3}')
    table = JsonLines(path)
    located = list(table.rows())
    assert [(number, offset) for number, offset, _ in located] == [(1, 0), (3, 10), (4, 30), (5, 39), (6, 41)]
    assert [e if isinstance(e, dict) else e.reason for _, _, e in located] == [
        *({"a": 1}, "line_too_long", {"a": 2}, "bad_json", {"a": 3})
    ]
    with open(path, "rb") as file:
        assert [table.at(file, offset, 1) for offset in (41, 30, 0)] == [{"a": 3}, {"a": 2}, {"a": 1}]
        assert table.at(file, 10, 3).reason == "line_too_long"
    assert [number for number, _ in read_json_lines(path)] == [1, 3, 4, 5, 6]


def test_json_in_utf_16_is_read_where_it_is_one_piece_and_refused_where_it_is_lines(tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes('[{"a": "Ö"}]'.encode("utf-16"))
    assert read_json_list(path) == [(1, {"a": "Ö"})]
    with pytest.raises(PrepError, match=r"t\.json is in UTF-16; save it as UTF-8"):
        list(read_json_lines(path))
    path.write_bytes('\ufeff{"a": "Ö"}\n'.encode())
    assert list(read_json_lines(path)) == [(1, {"a": "Ö"})]


def encoded(mode, format, **options):
    image = Image.frombytes(mode, (5, 4), bytes(range(5 * 4 * len(Image.new(mode, (1, 1)).tobytes()))))
    if mode == "P":
        image.putpalette([(7 * n) % 256 for n in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return image, buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "format", "name"),
    [("RGB", "TIFF", "tif"), ("L", "TIFF", "tif"), ("I;16", "TIFF", "tif"), ("P", "GIF", "gif"), ("RGB", "BMP", "bmp")],
)
def test_formats_that_become_png_keep_their_pixels(mode, format, name):
    image, data = encoded(mode, format)
    picture = shard_image("a.img", data)
    assert (picture.extension, picture.reencoded_from) == ("png", name)
    assert check_format("a.img", picture.data) == "png"
    again = Image.open(io.BytesIO(picture.data))
    assert (
        again.convert("RGB" if mode != "I;16" else "I").tobytes()
        == image.convert("RGB" if mode != "I;16" else "I").tobytes()
    )


def test_formats_of_shards_stay_as_they_are():
    assert shard_image("a.tif", jpeg(1)) == ("jpg", jpeg(1), "", (1.0, 0.0))


def animation():
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.4", "image_format"),
        (animation(), "image_format"),
        (encoded("CMYK", "TIFF")[1], "image_format"),
        (encoded("RGB", "TIFF")[1][:40], "broken_image"),
        (b"GIF89a" + b"\xff" * 30, "broken_image"),
        (b"BM" + b"\0" * 12 + b"\x28\0\0\0" + b"\xff\xff\xff\x7f" * 2 + b"\1\0\x18\0" + b"\0" * 30, "broken_image"),
    ],
    ids=["pdf", "animation", "cmyk", "truncated", "noise", "bomb"],
)
def test_images_that_cannot_become_png(data, reason):
    with pytest.raises(BadRow, match=reason):
        shard_image("a", data)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" a ", "a"),
        ("\ud800", None),
        ("x" * 100_001, None),
        (float("nan"), None),
        (1.5, 1.5),
        (7, 7),
        (True, True),
        (None, None),
        ({"a": 1}, None),
        (["a", None, "\udcff", ["b"], 2], ["a", 2]),
    ],
)
def test_values_that_a_sample_can_hold(value, expected):
    assert plain(value) == expected
