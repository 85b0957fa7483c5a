"""Tars of samples: what the webdataset library writes, and what nobody should."""

import io
import os
import tarfile
from collections import Counter

import pytest
import webdataset

from data_prep.errors import BadRow, PrepError
from data_prep.readers import webdataset as module
from data_prep.readers.clutter import COUNTED
from data_prep.readers.webdataset import find_tars, tar_samples


def add(archive, name, data=b"x", **header):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in header.items():
        setattr(member, field, value)
    archive.addfile(member, io.BytesIO(data))


def write(path, *members):
    """Members as (name, data) or (name, data, header)."""
    with tarfile.open(path, "w") as archive:
        for name, data, *header in members:
            add(archive, name, data, **(header[0] if header else {}))
    return path


def read(path, texts=("txt", "json")):
    return [
        (sample.key, sample.fault.reason if sample.fault else sample.members) for sample in tar_samples(path, texts)
    ]


def test_what_webdataset_writes(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for key in ("1_0-PMC1-0-pone.0127203.g002", "sub/folder"):
            writer.write({"__key__": key, "jpg": b"image", "txt": "text", "json": b"{}", "cls": b"7"})
    members = {"image": b"image", "json": b"{}", "txt": b"text"}
    assert read(tmp_path / "a.tar") == [("1_0-PMC1-0-pone.0127203.g002", members), ("sub/folder", members)]
    assert read(tmp_path / "a.tar", ("txt",))[0][1] == {"image": b"image", "txt": b"text"}


def test_extensions_in_capitals_and_members_that_belong_to_no_sample(tmp_path):
    path = write(
        tmp_path / "a.tar",
        ("__len__", b"1"),
        ("k.PNG", b"i"),
        ("k.npy", b"0"),
        ("k.TXT", b"t"),
        ("d", b"", {"type": tarfile.DIRTYPE}),
    )
    assert read(path) == [("k", {"image": b"i", "txt": b"t"})]


def test_members_that_are_missing(tmp_path):
    path = write(tmp_path / "a.tar", ("1.jpg", b"i"), ("2.txt", b"t"))
    first, second = tar_samples(path, ("txt",))
    with pytest.raises(BadRow) as caught:
        first.member("txt")
    assert (caught.value.reason, caught.value.detail) == ("missing_txt", "1 has image only")
    with pytest.raises(BadRow, match="missing_image"):
        second.member("image")


def test_keys_that_come_again(tmp_path):
    path = write(
        tmp_path / "a.tar", ("1.jpg", b"a"), ("1.txt", b"t"), ("1.jpg", b"b"), ("2.jpg", b"c"), ("1.txt", b"u")
    )
    assert read(path, ("txt",)) == [
        ("1", {"image": b"a", "txt": b"t"}),
        ("1", "repeated_member"),
        ("2", {"image": b"c"}),
        ("1", "repeated_key"),
    ]


def test_a_member_twice_costs_no_other_member(tmp_path):
    path = write(tmp_path / "a.tar", ("1.jpg", b"a"), ("1.jpg", b"b"), ("1.txt", b"t"))
    sample, again = tar_samples(path, ("txt",))
    assert sample.members == {"image": b"a", "txt": b"t"}
    assert again.fault.detail == "1.jpg is in a.tar before; the first counts"


def test_members_that_stand_apart_are_one_drop_a_sample(tmp_path):
    names = [f"{key}.{kind}" for kind in ("jpg", "txt") for key in "123"]
    path = write(tmp_path / "a.tar", *[(name, b"x") for name in names], ("4.jpg", b"i"), ("4.txt", b"t"))
    *apart, whole = tar_samples(path, ("txt",))
    assert [sample.fault.reason for sample in apart] == ["members_apart"] * 3
    assert apart[0].fault.detail == "its txt stand apart from it in a.tar; sort the tar by name"
    assert whole.members == {"image": b"i", "txt": b"t"}


def test_what_systems_leave_behind_and_members_of_other_kinds_are_counted(tmp_path):
    path = write(
        tmp_path / "a.tar",
        ("._1.jpg", b"mac"),
        ("./1.jpg", b"i"),
        ("__MACOSX/._1.txt", b"mac"),
        ("./1.txt", b"t"),
        ("./1.cls", b"7"),
        (".DS_Store", b"mac"),
        ("Thumbs.db", b"windows"),
    )
    counts = Counter()
    (sample,) = tar_samples(path, ("txt",), counts)
    assert (sample.key, sample.members) == ("1", {"image": b"i", "txt": b"t"})
    assert counts == {COUNTED: 4, ("read", "fields ignored: .cls"): 1}
    for name in ("._a.tar", "__MACOSX/b.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mac")
    assert find_tars(tmp_path) == (["a.tar"], {"files passed by: left by a system": 2})


def test_members_that_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 1000)
    monkeypatch.setattr(module, "MAX_TEXT_BYTES", 10)
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    path = write(
        tmp_path / "a.tar",
        ("link.jpg", b"", link),
        ("link.txt", b"t"),
        ("hard.jpg", b"", {"type": tarfile.LNKTYPE, "linkname": "large.jpg"}),
        ("device.jpg", b"", {"type": tarfile.CHRTYPE}),
        ("large.jpg", b"x" * 1001),
        ("long.txt", b"x" * 11),
        ("caf\udce9.jpg", b"x"),
        ("../../up.jpg", b"only a name"),
    )
    assert read(path) == [
        ("link", "bad_path"),
        ("hard", "bad_path"),
        ("device", "bad_path"),
        ("large", "image_too_large"),
        ("long", "member_too_large"),
        ("caf\udce9", "not_utf8"),
        ("../../up", {"image": b"only a name"}),
    ]


def test_a_sparse_file_of_a_terabyte(tmp_path):
    header = bytearray(tarfile.TarInfo("s.jpg").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[483:495] = tarfile.itn(2**40, 12, tarfile.GNU_FORMAT)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    (tmp_path / "a.tar").write_bytes(bytes(header) + b"\0" * 1024)
    assert read(tmp_path / "a.tar") == [("s", "bad_path")]


def test_an_extended_header_that_asks_for_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_IMAGE_BYTES", 10_000)
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        add(archive, "a.jpg")
        add(archive, "b.jpg", pax_headers={"comment": "x" * 20_000})
    with pytest.raises(PrepError, match=r"a\.tar cannot be read \(ValueError: a header asks for 20"):
        read(path)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (
            lambda data: data[: 512 * 2],
            r"ends without an end-of-archive mark: it was cut off at byte 1024; download the",
        ),
        (lambda data: data[:600], r"a\.tar (is cut off inside 1\.jpg|cannot be read)"),
        (lambda data: data[:1024] + b"\xff" + data[1025:], "has a damaged header at byte 1024"),
        (lambda data: b"no tar at all" * 100, r"a\.tar cannot be read \(ReadError"),
        (lambda data: b"", r"a\.tar cannot be read \(ReadError: empty file"),
        (lambda data: b"\x1f\x8b" + data, r"a\.tar cannot be read \(ReadError"),
    ],
    ids=["between members", "inside a member", "header", "another file", "empty", "gzip"],
)
def test_tars_that_are_damaged(tmp_path, damage, complaint):
    path = write(tmp_path / "a.tar", ("1.jpg", b"x" * 500), ("2.jpg", b"y"))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PrepError, match=complaint):
        read(path)


def test_tars_are_found_in_order(tmp_path):
    for name in ("b/2.tar", "b/10.tar", "a.tar", "b/c/1.tar", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_tars(tmp_path) == (["a.tar", "b/10.tar", "b/2.tar", "b/c/1.tar"], {})


def test_headers_are_not_kept(tmp_path):
    path = write(tmp_path / "a.tar", *((f"{n}.jpg", b"x") for n in range(50)))
    with open(path, "rb") as file, tarfile.open(fileobj=file) as archive:
        assert len(archive.getmembers()) == 50
    counts = [len(archive.members) for _, _, _, archive in module._members(path, (), Counter())]
    assert counts == [0] * 50


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file(tmp_path, make):
    make(tmp_path / "a.tar")
    with pytest.raises(BadRow, match="bad_path"):
        read(tmp_path / "a.tar")
