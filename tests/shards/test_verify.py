import json
import os
import re
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvlp.shards import BadSample, ShardDataset, ShardError, verify
from medvlp.verbs.shards.verify import main
from tests.shards.folders import make_sample, rebuild_index, rebuild_tar, sign_again, write_folder


def findings(folder):
    return [(f.file, f.problem, f.detail) for f in verify(folder)]


def only(folder):
    """The one finding: a fault is reported once."""
    faults = findings(folder)
    assert len(faults) == 1, faults
    return faults[0]


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def index_of(dataset, shard="000000"):
    return np.load(dataset / "train" / f"{shard}.idx", allow_pickle=False)


def test_nothing_wrong(dataset):
    assert verify(dataset) == verify(dataset / "train") == []


def test_every_byte_of_a_shard_is_watched(dataset):
    path = dataset / "test" / "000000.tar"
    data = path.read_bytes()
    for at in range(0, len(data), 997):
        flip(path, at)
        assert [f.file for f in verify(dataset / "test")] == ["000000.tar"], at
        path.write_bytes(data)


def test_a_flipped_byte_is_named_by_member(dataset):
    row = index_of(dataset)[4]
    flip(dataset / "train" / "000000.tar", int(row["offset"]) + 2)
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/000000.tar", "checksum_mismatch")
    assert detail.startswith(f"made__a001__f0__0.txt, {row['size']} bytes at {row['offset']}")


def test_a_flipped_byte_in_the_padding(dataset):
    flip(dataset / "train" / "000000.tar", -1)
    assert only(dataset)[:2] == ("train/000000.tar", "changed_file")


def test_a_broken_header(dataset):
    flip(dataset / "train" / "000000.tar", int(index_of(dataset)[3]["offset"]) - 512)
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/000000.tar", "broken_tar")
    assert "after 3 members" in detail


@pytest.mark.parametrize("member", ["jpg", "txt", "json"])
def test_a_member_taken_from_the_tar(dataset, member):
    rebuild_tar(dataset / "train" / "000000.tar", f"made__a002__f0__0.{member}")
    assert only(dataset) == (
        "train/000000.tar",
        "missing_member",
        f"made__a002__f0__0.{member} is in the index, but not in the tar",
    )


@pytest.mark.parametrize("member", ["jpg", "txt", "json"])
def test_a_member_that_was_never_written(dataset, member):
    train = dataset / "train"
    rebuild_tar(train / "000000.tar", f"made__a002__f0__0.{member}")
    rebuild_index(train / "000000.tar", ShardDataset(train).keys)
    sign_again(train)
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/000000.tar", "missing_member")
    assert f"made__a002__f0__0.{member}" in detail


def test_a_truncated_shard(dataset):
    os.truncate(dataset / "train" / "000000.tar", int(index_of(dataset)[7]["offset"]))
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/000000.tar", "truncated_shard")
    assert detail.startswith("5 members, from made__a002__f0__0.txt on")


@pytest.mark.parametrize("signed", [False, True])
def test_a_wrong_row_of_the_index(dataset, signed):
    index = index_of(dataset)
    index["offset"][4] += 1
    np.save(dataset / "train" / "x.npy", index)
    os.replace(dataset / "train" / "x.npy", dataset / "train" / "000000.idx")
    if signed:
        sign_again(dataset / "train")
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/000000.idx", "wrong_index")
    assert detail.startswith("row 4: made__a001__f0__0.txt is at byte")


def test_a_shard_cut_between_two_members(dataset):
    os.truncate(dataset / "train" / "000000.tar", int(index_of(dataset)[6]["offset"]) - 512)
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/000000.tar", "truncated_shard")
    assert detail.startswith("6 members, from made__a002__f0__0.jpg on")


def test_a_wrong_checksum_in_the_index(dataset):
    index = index_of(dataset)
    index["crc32"][4] += 1
    np.save(dataset / "train" / "x.npy", index)
    os.replace(dataset / "train" / "x.npy", dataset / "train" / "000000.idx")
    detail = "the CRC-32 of made__a001__f0__0.txt is not its data's"
    assert only(dataset) == ("train/000000.idx", "wrong_index", detail)


def test_an_unfinished_split(dataset):
    (dataset / "train" / "manifest.json").unlink()
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/manifest.json", "unfinished")
    assert "run the same `medvlp prep` again" in detail
    with pytest.raises(ShardError, match="unfinished"):
        verify(dataset / "train")


@pytest.mark.parametrize("name", ["000001.tar", "000001.idx", "samples.parquet"])
def test_a_missing_file(dataset, name):
    (dataset / "train" / name).unlink()
    assert only(dataset)[:2] == (f"train/{name}", "missing_file")


def test_files_that_do_not_belong(dataset):
    (dataset / "train" / "000009.tar").write_bytes(b"")
    (dataset / "train" / ".000001.tar.17.partial").write_bytes(b"")
    (dataset / "train" / "lengths.npy").write_bytes(b"")  # a cache beside the shards is welcome
    assert [f[:2] for f in findings(dataset)] == [
        ("train/.000001.tar.17.partial", "extra_file"),
        ("train/000009.tar", "extra_file"),
    ]


def change_table(dataset, column, value, row=3):
    path = dataset / "train" / "samples.parquet"
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[row] = value
    field = table.schema.field(column)
    pq.write_table(table.set_column(table.schema.get_field_index(column), field, pa.array(values, field.type)), path)
    sign_again(dataset / "train")


@pytest.mark.parametrize(("column", "value"), [("sha256", "0" * 64), ("sha256", ""), ("caption_length", 99)])
def test_a_table_that_disagrees_with_the_tar(dataset, column, value):
    change_table(dataset, column, value)
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/samples.parquet", "wrong_table")
    assert re.match(f"made__a003__f0__0: the table's {column}", detail)


def test_a_key_that_the_tar_does_not_have(dataset):
    change_table(dataset, "key", "made__other__f0__0")
    assert ("train/samples.parquet", "wrong_table") in {f[:2] for f in findings(dataset)}
    assert any("made__a003__f0__0" in f[2] for f in findings(dataset))


def test_a_table_with_a_row_less(dataset):
    path = dataset / "train" / "samples.parquet"
    pq.write_table(pq.read_table(path).slice(0, 7), path)
    details = [f[2] for f in findings(dataset)]
    assert "7 rows, the manifest says 8 samples" in details
    assert "made__a007__f0__0" not in details[0]


def test_a_key_in_two_splits(dataset):
    write_folder(dataset / "valid", [make_sample(1)])
    ledger = json.loads((dataset / "ledger.json").read_text())
    ledger["splits"]["valid"] = {"in": 1, "out": 1, "drops": {}}
    ledger["in"], ledger["out"] = 14, 13
    (dataset / "ledger.json").write_text(json.dumps(ledger))
    assert only(dataset) == ("valid/000000.tar", "duplicate_key", "made__a001__f0__0 is also in train/000000.tar")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"in": 13', '"in": 14', "all splits: in 14 is not out 12 + dropped 1"),
        ('"in": 4, "out": 4', '"in": 5, "out": 5', "test: out 5, but the split's manifest says 4 samples"),
        ('"splits"', '"shards"', "not a ledger: KeyError 'splits'"),
    ],
)
def test_a_ledger_that_does_not_add_up(dataset, old, new, complaint):
    path = dataset / "ledger.json"
    path.write_text(path.read_text().replace(old, new))
    assert only(dataset) == ("ledger.json", "ledger", complaint)


def test_the_command(dataset, capsys):
    assert main([str(dataset)]) == 0
    assert capsys.readouterr().out == "ok: 12 samples in 3 shards\n"
    (dataset / "train" / "000001.idx").unlink()
    assert main([str(dataset)]) == 1
    assert capsys.readouterr().out.startswith("train/000001.idx  missing_file  named in the manifest")
    assert main([str(dataset / "nowhere")]) == 1
    assert "is not a folder" in capsys.readouterr().err
    assert main([]) == main(["a", "b"]) == main(["--what"]) == main([""]) == 2
    assert main(["--help"]) == 0


def sample_or_reason(folder):
    try:
        return ShardDataset(folder).read(1)
    except BadSample as bad:
        return bad.reason


@pytest.mark.parametrize("mask", [0x01, 0x10])
def test_a_damaged_header_of_the_index(dataset, mask):
    """Every byte of it: verify names the index, and reading a sample gives the sample or a BadSample."""
    path = dataset / "test" / "000000.idx"
    data = path.read_bytes()
    for at in range(128):
        path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
        assert "000000.idx" in {f[0] for f in findings(dataset / "test")}, at
        assert sample_or_reason(dataset / "test") in (make_sample(9), "broken_index"), at


def test_an_index_that_is_an_archive(dataset):
    with open(dataset / "test" / "000000.idx", "wb") as file:
        np.savez(file, np.zeros(3))
    assert only(dataset)[:2] == ("test/000000.idx", "wrong_index")
    sign_again(dataset / "test")
    with pytest.raises(BadSample, match=r"broken_index .*archive of arrays"):
        ShardDataset(dataset / "test").read(0)


@pytest.mark.parametrize(("row", "size"), [(2, 2**62), (2, 2**63 + 5)])
def test_an_index_with_a_huge_size(dataset, row, size):
    index = np.load(dataset / "test" / "000000.idx", allow_pickle=False)
    index["size"][row] = size
    with open(dataset / "test" / "000000.idx", "wb") as file:
        np.save(file, index)
    with pytest.raises(BadSample) as caught:
        ShardDataset(dataset / "test").read(0)
    assert caught.value.reason == "broken_index"
    assert {f[0] for f in findings(dataset)} == {"test/000000.idx"}


def test_a_manifest_and_an_index_with_a_huge_size(dataset):
    index = np.load(dataset / "test" / "000000.idx", allow_pickle=False)
    index["size"][2] = 2**50
    with open(dataset / "test" / "000000.idx", "wb") as file:
        np.save(file, index)
    sign_again(dataset / "test")
    change_manifest(dataset / "test", lambda content: content["files"]["000000.tar"].update(size=2**60))
    with pytest.warns(UserWarning, match="its manifest says"), pytest.raises(BadSample) as caught:
        ShardDataset(dataset / "test").read(0)
    assert caught.value.reason == "truncated_shard"


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE])
def test_a_tar_with_a_huge_member(dataset, kind):
    path = dataset / "test" / "000000.tar"
    header = tarfile.TarInfo("made__a099__f0__0.jpg")
    header.size, header.type = 2**62, kind
    with open(path, "r+b") as file:
        file.seek(int(np.load(path.with_suffix(".idx"), allow_pickle=False)[3]["offset"]) - 512)
        file.write(header.tobuf(tarfile.GNU_FORMAT))
    file_, problem, detail = only(dataset)
    assert (file_, problem) == ("test/000000.tar", "broken_tar")
    assert "4611686018427387904 bytes" in detail or "after 3 members" in detail


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("key", pa.array([None] * 8, pa.string())),
        ("shard", pa.array(range(8))),
        ("caption_length", pa.array(["9"] * 8)),
        ("sha256", pa.array([None] * 8, pa.string())),
        ("key", pa.array([["a"]] * 8)),
    ],
)
def test_a_table_with_values_of_another_type(dataset, column, values):
    path = dataset / "train" / "samples.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(column), column, values), path)
    sign_again(dataset / "train")
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/samples.parquet", "broken_table")
    assert detail.startswith(f"row 0: {column} is {values[0].as_py()!r}, expected")


def test_a_plan_without_a_ledger(dataset):
    (dataset / ".plan.json").write_text("{}")
    assert verify(dataset) == []
    (dataset / "ledger.json").unlink()
    file, problem, detail = only(dataset)
    assert (file, problem) == ("ledger.json", "unfinished")
    assert "run the same `medvlp prep` again" in detail


def test_parts_beside_a_manifest(dataset):
    (dataset / ".parts").mkdir()
    assert only(dataset)[:2] == (".parts", "unfinished")


@pytest.mark.parametrize("remaining", [[], ["samples.parquet"]])
def test_a_split_that_is_gone(dataset, remaining):
    for path in (dataset / "test").iterdir():
        if path.name not in remaining:
            path.unlink()
    if not remaining:
        (dataset / "test").rmdir()
    detail = "ledger.json names the split test, but it is not there"
    assert only(dataset) == ("test/manifest.json", "missing_split", detail)


def change_manifest(folder, change):
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_manifest_that_the_ledger_did_not_sign(dataset):
    ledger = json.loads((dataset / "ledger.json").read_text())
    for split, page in ledger["splits"].items():
        page["manifest_sha256"] = ShardDataset(dataset / split).manifest_hash
    (dataset / "ledger.json").write_text(json.dumps(ledger))
    assert verify(dataset) == []
    change_manifest(dataset / "train", lambda content: content["tools"].update(numpy="0.1"))
    file, problem, detail = only(dataset)
    assert (file, problem) == ("train/manifest.json", "changed_file")
    assert detail.endswith(f"ledger.json says {ledger['splits']['train']['manifest_sha256'][:12]}…")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda content: content["stages"].append({"stage": "other"}), "is not the hash of its stages"),
        (lambda content: content["files"].update({"../x": {"sha256": "", "size": 0}}), "'../x' is not the name"),
        (
            lambda content: content["shards"].update({"/tmp/000000.tar": content["shards"].pop("000000.tar")}),
            "'/tmp/000000.tar' is not the name of a file in the folder",
        ),
    ],
)
def test_a_manifest_that_is_refused(dataset, change, complaint):
    change_manifest(dataset / "test", change)
    with pytest.raises(ShardError, match=complaint):
        ShardDataset(dataset / "test")
    file, problem, detail = only(dataset)
    assert (file, problem) == ("test/manifest.json", "broken_manifest")
    assert complaint in detail
