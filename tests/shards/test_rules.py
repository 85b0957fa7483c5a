"""What the writer never writes is found on reading, however well index, table and manifest agree with it."""

import json
import os
import shutil
import subprocess
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvlp.shards import BadSample, ShardDataset, ShardError, read_manifest, verify
from medvlp.shards.index import open_index
from medvlp.shards.sums import SUMS, write_sums
from medvlp.verbs.shards.verify import main
from tests.shards.folders import make_sample, plant, rebuild_index, rebuild_tar, sign_again, write_folder

KEY = "made__a008__f0__0"
"""Of the first sample of test."""


def problems(folder):
    return {(f.file, f.problem) for f in verify(folder)}


def of_first(name: str, data: bytes):
    """Give the first sample another member of its own, or other bytes for one."""

    def change(members):
        position = next((i for i, (header, _) in enumerate(members) if header.name == f"{KEY}.{name}"), None)
        header = tarfile.TarInfo(f"{KEY}.{name}")
        if position is None:
            members.insert(3, (header, data))
        else:
            members[position] = (header, data)

    return change


def json_of(dataset, change=lambda text: text) -> bytes:
    with tarfile.open(dataset / "test/000000.tar") as tar:
        return change(tar.extractfile(f"{KEY}.json").read().decode()).encode()


@pytest.mark.parametrize(
    "name", ["pkl", "pyd", "exe.jpg.sh", "npy", "cls", "../x.jpg", "/jpg", "\x1b[2J.jpg", "txt.png"]
)
def test_members_that_no_sample_has(dataset, name):
    plant(dataset / "test", of_first(name, b"x"))
    assert ("test/000000.tar", "unexpected_member") in problems(dataset)
    with pytest.raises(BadSample, match="unexpected_member"):
        ShardDataset(dataset / "test").read(0)
    assert ShardDataset(dataset / "test").read(1) == make_sample(9)


@pytest.mark.parametrize("key", ["/etc/passwd", "a\x1b[31m", "a b", "", "x" * 151, "a\nb", "ä"])
def test_keys_that_the_writer_never_gives(dataset, key, capsys):
    def rename(members):
        for header, _ in members[:3]:
            header.name = header.name.replace(KEY, key)

    plant(dataset / "test", rename, [key])
    assert ("test/000000.tar", "broken_key") in problems(dataset)
    with pytest.raises(BadSample, match="broken_key"):
        ShardDataset(dataset / "test").read(0)
    assert main([str(dataset)]) == 1
    assert capsys.readouterr().out.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"labels"', '"labels":{"kind":1},"labels"', "the field 'labels' comes twice"),
        ('"kind":2', '"kind":1,"kind":2', "the field 'kind' comes twice"),
        ('"title 8"', '"title \\ud83d"', "half of a surrogate pair"),
        ('"title 8"', '"\\udcff\\u0041"', "half of a surrogate pair"),
        ('"kind":2', '"kind":NaN', "NaN is not JSON"),
        ('"jpg"', '{"jpg":1}', "expected a list of names"),
        ('"kind":2', '"kind":' + "[" * 5000 + "]" * 5000, "recursion"),
    ],
)
def test_json_that_readers_take_in_different_ways(dataset, old, new, complaint):
    data = json_of(dataset, lambda text: text.replace(old, new, 1))
    assert new.encode() in data
    plant(dataset / "test", of_first("json", data))
    faults = [f for f in verify(dataset) if f.problem == "broken_json"]
    assert [f.file for f in faults] == ["test/000000.tar"]
    assert complaint in faults[0].detail
    with pytest.raises(BadSample, match="broken_json"):
        ShardDataset(dataset / "test").read(0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"texts":{', '"texts":{"caption":"another","'[:-1]),
        (":", ": "),
        ('"title 8"', '"\\u0074itle 8"'),
        ('"role":"user"', '"role":"user","weight":0'),
        ('"labels":{"codes":["C1","C2"],"kind":2}', '"labels":{"kind":2,"codes":["C1","C2"]}'),
    ],
)
def test_json_in_another_form_than_the_writers(dataset, old, new):
    data = json_of(dataset, lambda text: text.replace(old, new, 1))
    assert data != json_of(dataset)
    plant(dataset / "test", of_first("json", data))
    assert problems(dataset) == {("test/000000.tar", "not_as_written")}


@pytest.mark.parametrize(
    "change",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"mode": 0o4755},
        {"uid": 1000, "uname": "somebody"},
        {"mtime": 1_700_000_000},
    ],
)
def test_headers_that_the_writer_never_writes(dataset, change):
    def alter(members):
        for name, value in change.items():
            setattr(members[0][0], name, value)

    tar = dataset / "test/000000.tar"
    if "type" in change:  # a link has no data: beside the sample's own members
        with tarfile.open(tar, "a") as opened:
            header = tarfile.TarInfo(f"{KEY}.left.jpg")
            alter([(header, b"")])
            opened.addfile(header)
        sign_again(dataset / "test")
    else:
        plant(dataset / "test", alter)
    details = [f.detail for f in verify(dataset) if f.problem == "not_as_written"]
    assert any("its header has a type, owner, time or mode that the writer never gives" in d for d in details)


def behind_the_index(folder):
    with open(folder / "000000.idx", "ab") as file:
        file.write(b"payload")


def behind_the_tar(folder):
    with open(folder / "000000.tar", "ab") as file:
        file.write(b"payload".ljust(tarfile.RECORDSIZE, b"\0"))


def in_the_last_record(folder):
    with open(folder / "000000.tar", "r+b") as file:
        file.seek(-7, os.SEEK_END)
        file.write(b"payload")


def between_members(folder):
    with open(folder / "000000.tar", "r+b") as file:
        file.seek(open_index(folder / "000000.idx")[1]["offset"] - 3 * tarfile.BLOCKSIZE // 2)
        file.write(b"payload")


@pytest.mark.parametrize(
    ("hide", "file"),
    [(behind_the_index, "idx"), (behind_the_tar, "tar"), (in_the_last_record, "tar"), (between_members, "tar")],
)
def test_bytes_where_no_reader_looks(dataset, hide, file):
    hide(dataset / "test")
    sign_again(dataset / "test")
    assert problems(dataset) == {(f"test/000000.{file}", "not_as_written")}


def test_notes_in_the_table(dataset):
    path = dataset / "test/samples.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"author": "somebody"}), path)
    sign_again(dataset / "test")
    assert problems(dataset) == {("test/samples.parquet", "broken_table")}


def test_members_in_another_order(dataset):
    plant(dataset / "test", lambda members: members.insert(0, members.pop(1)))
    assert problems(dataset) == {("test/000000.tar", "not_as_written")}


def change_table(folder, change):
    path = folder / "samples.parquet"
    rows = pq.read_table(path).to_pylist()
    changed = change(rows) or rows
    pq.write_table(pa.Table.from_pylist(changed, pq.read_schema(path)), path)
    sign_again(folder)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("licence", "CC-BY-4.0"),
        ("group", "another"),
        ("modality", "MRI"),
        ("caption_length", 1),
        ("sha256", "0" * 64),
        ("sha256", "x" * 64),
        ("perceptual_hash", "not a hash"),
        ("width", -1),
        ("split", "train"),
    ],
)
def test_a_table_that_contradicts_the_samples(dataset, column, value):
    change_table(dataset / "test", lambda rows: rows[2].update({column: value}))
    faults = [f for f in verify(dataset) if f.file == "test/samples.parquet"]
    assert faults
    assert column in faults[0].detail
    assert problems(dataset) <= {("test/samples.parquet", p) for p in ("wrong_table", "broken_table")}


def test_rows_out_of_the_shards_order(dataset):
    change_table(dataset / "train", lambda rows: rows[4:] + rows[:4])
    assert any("do not stand shard by shard" in f.detail for f in verify(dataset))


def test_a_column_that_the_writer_does_not_write(dataset):
    path = dataset / "test/samples.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("script", pa.array(["x"] * 4)), path)
    sign_again(dataset / "test")
    assert [(f.file, f.detail) for f in verify(dataset)] == [
        ("test/samples.parquet", "has columns that the writer does not write: 'script'")
    ]


WEIRD = (None, True, -1, 2**70, 1.5, "", "x", "\x1b[2J", [], [1], {}, {"a": 1}, {"../x": 1})


def leaves(content, path=()):
    yield path
    if isinstance(content, dict):
        for name, value in content.items():
            yield from leaves(value, (*path, name))


def test_a_manifest_of_any_shape_is_read_or_refused(dataset):
    path = dataset / "test/manifest.json"
    whole = path.read_text()
    refused = 0
    for leaf in leaves(json.loads(whole)):
        for value in WEIRD:
            content = json.loads(whole)
            if leaf:
                inner = content
                for name in leaf[:-1]:
                    inner = inner[name]
                inner[leaf[-1]] = value
            path.write_text(json.dumps(content if leaf else value))
            try:
                read_manifest(dataset / "test")
            except ShardError:
                refused += 1
    path.write_text("[" * 100_000)
    with pytest.raises(ShardError, match="is not a manifest"):
        read_manifest(dataset / "test")
    path.write_text(whole.replace('"samples": 4', '"samples": 4, "samples": 4', 1))
    with pytest.raises(ShardError, match="comes twice"):
        read_manifest(dataset / "test")
    assert refused > 150


def change_manifest(folder, change):
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_manifest_that_lists_what_no_split_has(dataset):
    (dataset / "test/model.pkl").write_bytes(b"x")
    change_manifest(
        dataset / "test", lambda content: content["files"].update({"model.pkl": content["files"]["000000.tar"]})
    )
    sign_again(dataset / "test")
    assert [(f.file, f.detail) for f in verify(dataset)] == [
        ("test/manifest.json", "it lists 'model.pkl', which is none of a split's files")
    ]


def test_shards_that_are_not_numbered_through(dataset):
    for suffix in (".tar", ".idx"):
        os.rename(dataset / f"test/000000{suffix}", dataset / f"test/000007{suffix}")

    def renumber(content):
        for name in ("000000.tar", "000000.idx"):
            content["files"][name.replace("0.", "7.")] = content["files"].pop(name)
        content["shards"] = {"000007.tar": 4}

    change_manifest(dataset / "test", renumber)
    change_table(dataset / "test", lambda rows: [row | {"shard": "000007.tar"} for row in rows])
    assert [f.problem for f in verify(dataset)] == ["wrong_manifest"]


def test_a_shard_replaced_together_with_its_index_is_not_read(dataset, tmp_path):
    write_folder(tmp_path / "other/test", [make_sample(n) for n in range(20, 24)])
    for name in ("000000.tar", "000000.idx"):
        shutil.copy(tmp_path / "other/test" / name, dataset / "test" / name)
    assert os.path.getsize(dataset / "test/000000.tar") == read_manifest(dataset / "test")[0].files["000000.tar"].size
    with pytest.raises(BadSample, match=r"broken_index .*not the one that the manifest was written for"):
        ShardDataset(dataset / "test").read(0)


def test_an_image_that_is_not_the_tables_is_not_read_though_its_checksum_fits(dataset):
    rebuild_tar(dataset / "test/000000.tar", change=of_first("jpg", b"another"))
    rebuild_index(dataset / "test/000000.tar", ShardDataset(dataset / "test").keys)
    sign_again(dataset / "test")
    opened = ShardDataset(dataset / "test")
    with pytest.raises(BadSample, match=r"checksum_mismatch .*not the one that the table names"):
        opened.read(0)
    assert opened.read(1) == make_sample(9)


@pytest.mark.parametrize("same_size", [True, False])
def test_another_table_under_the_manifest_is_not_read(dataset, same_size):
    path = dataset / "test/samples.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if same_size else data + b"x")
    with pytest.raises(ShardError, match=r"is not the table that manifest\.json was written for .*`medvlp verify "):
        ShardDataset(dataset / "test").read(0)


def test_what_is_compared_once_is_not_compared_again_in_a_process(dataset, monkeypatch):
    opened = ShardDataset(dataset / "test")
    opened.read(0)
    monkeypatch.setattr("medvlp.shards.reader.mark_file", None)
    monkeypatch.setattr(opened, "_compare_image", None)
    opened._open.clear()
    assert opened.read(1) == make_sample(9)


ABOVE = ("dropped.jsonl", "copies.jsonl", "croissant.json", "ATTRIBUTION.md", "README.md")


@pytest.fixture
def signed(dataset):
    """With files above the splits, as a preparation leaves them."""
    for name in (*ABOVE, "run.json", "report.html", ".lock"):
        (dataset / name).write_text(f"{name}\n")
    ledger = json.loads((dataset / "ledger.json").read_text())
    (dataset / "ledger.json").write_text(json.dumps(ledger | {"checksums": SUMS}))
    write_sums(dataset)
    return dataset


def test_the_sums_are_those_of_sha256sum(signed):
    assert verify(signed) == []
    ran = subprocess.run(["sha256sum", "-c", SUMS], cwd=signed, capture_output=True, text=True)
    assert ran.returncode == 0
    names = [line.partition("  ")[2] for line in (signed / SUMS).read_text().splitlines()]
    assert names == sorted([*ABOVE, "ledger.json", "test/manifest.json", "train/manifest.json"])


@pytest.mark.parametrize("name", [*ABOVE, "ledger.json"])
def test_files_above_the_splits_are_watched(signed, name):
    path = signed / name
    path.write_text(path.read_text() + " ")
    assert problems(signed) == {(name, "changed_file")}
    path.unlink()
    if name != "ledger.json":  # without it the folder is no data set's
        assert problems(signed) == {(name, "missing_file")}


@pytest.mark.parametrize("name", ["run.json", "report.html", "notes.txt"])
def test_what_tells_of_the_run_or_is_the_persons_is_not(signed, name):
    (signed / name).write_text("other")
    assert verify(signed) == []


@pytest.mark.parametrize("line", ["x", "0" * 64 + "  ../../etc/passwd", "0" * 64 + "  /etc/passwd", "\x1b[2J"])
def test_sums_that_are_none(signed, line):
    (signed / SUMS).write_text(line + "\n")
    assert problems(signed) == {(SUMS, "broken_sums")}


def test_sums_that_are_gone(signed):
    (signed / SUMS).unlink()
    assert [(f.file, f.problem) for f in verify(signed)] == [(SUMS, "missing_file")]


def test_a_split_without_its_own_manifest_hash_in_the_ledger_is_signed_too(signed):
    change_manifest(signed / "test", lambda content: content["tools"].update(numpy="0.1"))
    assert problems(signed) == {("test/manifest.json", "changed_file")}


def test_a_ledger_nested_without_end(dataset):
    (dataset / "ledger.json").write_text("[" * 100_000)
    assert problems(dataset) == {("ledger.json", "ledger")}


def test_the_index_is_an_array_of_numbers_only(dataset):
    """An index of Python objects would be unpickled."""
    path = dataset / "test/000000.idx"
    with open(path, "wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    sign_again(dataset / "test")
    with pytest.raises(BadSample, match="broken_index"):
        ShardDataset(dataset / "test").read(0)
    assert ("test/000000.idx", "wrong_index") in problems(dataset)
