"""`medvlp index`: tars of others become a split that reads, checks and verifies like our own, and stay as they are."""

import hashlib
import json
import os
import tarfile

import pytest

from medvlp.shards import BadSample, ShardDataset
from medvlp.shards.foreign.form import ForeignForm
from medvlp.shards.foreign.tars import walk
from medvlp.shards.verify import verify
from medvlp.shards.writer import mark_file
from medvlp.verbs.shards.index import main as index
from medvlp.verbs.shards.verify import main as verify_verb
from tests.datasets import jpeg
from tests.shards.foreign.tars import IMAGE, figure, write_figures, write_tar
from tests.shards.storage.servers import serving


def rows_of(folder):
    return [json.loads(line) for line in (folder / "dropped.jsonl").read_text("utf-8").splitlines()]


def contents(folder, *names):
    return {name: (folder / name).read_bytes() for name in names}


OURS = ("manifest.json", "samples.parquet", "ledger.json", "dropped.jsonl", "00000.idx", "00002.idx")


def test_tars_in_place_and_elsewhere(tmp_path, capsys):
    folder = write_figures(tmp_path / "figures")
    marks = {path: mark_file(path) for path in folder.glob("*.tar")}
    options = ["licence=json.license", "group=json.pmid", "name=biomedica"]
    assert index([str(folder), *options, "workers=1"]) == 0
    assert index([str(folder), *options, "workers=2", f"out={tmp_path}/out"]) == 0
    assert {path: mark_file(path) for path in folder.glob("*.tar")} == marks
    assert contents(folder, *OURS) == contents(tmp_path / "out", *OURS)
    for split in (folder, tmp_path / "out"):
        dataset = ShardDataset(split)
        assert [dataset.read(row).texts for row in range(12)] == [{"caption": f"caption {n}"} for n in range(12)]
        sample = dataset.read(7)
        assert (sample.images, sample.key) == ({"jpg": jpeg(7)}, dataset.key(7))
        assert sample.key.startswith("biomedica__train-00001__007_PMC7-fig-7__0-")
        assert sample.metadata == {"source": "biomedica", "licence": "CC-BY", "modality": "unknown", "group": "7"}
        assert dataset.read_text(7).texts == sample.texts
        assert dataset.image_names(7) == ["jpg"]
        assert dataset.locate(7) == ("00001.tar", 3)
        assert dataset.column("width") == [40] * 12
        assert dataset.column("sha256")[3] == hashlib.sha256(jpeg(3)).hexdigest()
        assert verify(split) == []
    assert not (tmp_path / "out/.indexing").exists()
    capsys.readouterr()
    assert index([str(folder), *options]) == 1
    assert "is a finished split, which `medvlp verify" in capsys.readouterr().err


def test_what_cannot_be_used_is_counted_and_named(tmp_path, capsys):
    members = [
        *figure("good", 1),
        ("no_text.jpg", IMAGE),
        ("no_image.txt", b"a caption"),
        ("empty.jpg", IMAGE),
        ("empty.txt", b" None "),
        ("latin.jpg", IMAGE),
        ("latin.txt", b"caf\xe9"),
        ("damaged.jpg", b"no image"),
        ("damaged.txt", b"a caption"),
        ("good.jpg", IMAGE),
        ("good.npy", b"123"),
        ("._good.jpg", b"x"),
    ]
    write_tar(tmp_path / "tars/a.tar", members)
    write_tar(tmp_path / "tars/sub/b.tar", figure("good", 2))
    with tarfile.open(tmp_path / "tars/c.tar", "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            link = tarfile.TarInfo(f"link{kind.decode()}.jpg")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    assert index([f"{tmp_path}/tars", f"out={tmp_path}/out", "workers=1"]) == 0
    ledger = json.loads((tmp_path / "out/ledger.json").read_text())
    assert ledger["drops"]["index"] == {
        "broken_text": 1,
        "missing_caption": 2,
        "missing_image": 1,
        "no_regular_file": 3,
        "repeated_member": 1,
        "undecodable_image": 1,
    }
    assert ledger["in"] == ledger["out"] + sum(ledger["drops"]["index"].values()) == 11
    assert ledger["ignored"] == {".npy": 1, "what systems leave behind": 1}
    assert ledger["licences"] == {"unknown": 2}
    assert ledger["names_in_several_tars"] == 1
    assert {(row["shard"], row["key"], row["reason"]) for row in rows_of(tmp_path / "out")} >= {
        ("a.tar", "no_text", "missing_caption"),
        ("a.tar", "latin", "broken_text"),
        ("c.tar", "link2.jpg", "no_regular_file"),
    }
    out = capsys.readouterr().out
    assert "LICENCE UNKNOWN: 2 of 2 samples; licence=json.<field> or licence=<licence of all> says it" in out
    assert "1 names are in several tars; their keys hold the tar's name, and stay apart" in out
    assert "TRAINED ON TWICE" not in out
    dataset = ShardDataset(tmp_path / "out")
    assert [dataset.locate(row) for row in range(2)] == [("a.tar", 0), ("sub/b.tar", 0)]
    assert len(set(dataset.keys)) == 2
    assert verify(tmp_path / "out") == []


def test_images_that_come_twice_are_counted_and_splits_share_no_key(tmp_path, capsys):
    for split in ("train", "test"):
        for number in range(2):
            write_tar(tmp_path / f"{split}/{number}.tar", [*figure("0000", number), *figure("0001", 9)])
        assert index([f"{tmp_path}/{split}", f"split={split}", "name=x", "workers=1"]) == 0
        assert "TRAINED ON TWICE: 1 samples have the image of another one, byte for byte" in capsys.readouterr().out
    keys = [ShardDataset(tmp_path / split).keys for split in ("train", "test")]
    assert len({key for split_keys in keys for key in split_keys}) == 8
    ledger = json.loads((tmp_path / "test/ledger.json").read_text())
    assert (ledger["names_in_several_tars"], ledger["images_of_earlier_samples"]) == (2, 1)


def damage_header(path, key):
    data = bytearray(path.read_bytes())
    data[data.index(key.encode()) + 1] ^= 0xFF
    path.write_bytes(bytes(data))


def test_a_broken_tar_gives_what_stands_before_and_is_named(tmp_path, capsys):
    folder = write_figures(tmp_path / "figures", tars=4)
    damage_header(folder / "00000.tar", "002_PMC2.fig.2.jpg")
    data = (folder / "00001.tar").read_bytes()
    (folder / "00001.tar").write_bytes(data[: len(data) // 2])
    (folder / "00003.tar").write_bytes(b"<html>not found</html>" * 100)
    assert index([str(folder), "workers=1"]) == 0
    broken = json.loads((folder / "ledger.json").read_text())["broken_tars"]
    assert broken.keys() == {"00000.tar", "00001.tar", "00003.tar"}
    assert "is damaged" in broken["00000.tar"]
    assert "BROKEN: 00001.tar:" in capsys.readouterr().out
    dataset = ShardDataset(folder)
    assert [dataset.read(row).texts["caption"] for row in range(2)] == ["caption 0", "caption 1"]
    assert dataset.read(len(dataset) - 1).texts["caption"] == "caption 11"
    assert verify(folder) == []


def test_a_member_of_negative_size_ends_a_tar(tmp_path):
    path = write_tar(tmp_path / "a.tar", [*figure("a", 1), ("b.txt", b"caption"), *figure("c", 2)])
    data = bytearray(path.read_bytes())
    start = data.index(b"b.txt")
    data[start + 124 : start + 136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 in binary, which tarfile takes
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    path.write_bytes(bytes(data))
    tar_contents = walk(path)
    assert [member.name for member in tar_contents.members] == ["a.jpg", "a.json", "a.txt"]
    assert "'b.txt' claims -1024 bytes" in tar_contents.broken


def test_nan_in_json_is_no_value():
    form = ForeignForm("s", licence="json.license", labels={"score": "json.score"})
    members = {"jpg": IMAGE, "txt": b"a caption", "json": b'{"license": "CC0-1.0", "score": NaN}'}
    sample = form.sample("k", members)
    assert (sample.metadata["licence"], sample.labels) == ("CC0-1.0", {})


def test_members_that_stand_apart_are_one_sample(tmp_path):
    """As in tars that were not sorted: all images, then all texts."""
    filling = [(f"filling{n}.npy", bytes(2**20)) for n in range(2)]
    images = [(f"{n}.png", IMAGE) for n in range(3)]
    write_tar(tmp_path / "a.tar", [*images, *filling, *((f"{n}.caption", b"caption %d" % n) for n in (2, 0, 1))])
    assert index([str(tmp_path), "workers=1"]) == 0
    dataset = ShardDataset(tmp_path)
    assert [dataset.read(row).texts["caption"] for row in range(3)] == ["caption 0", "caption 1", "caption 2"]
    assert verify(tmp_path) == []


def test_captions_texts_and_labels_by_path(tmp_path):
    members = figure(
        "a", 1, title=["first", "second", "first"], meta={"refs": ["see a", "see b"]}, kind="CT", parts=["x"]
    )
    write_tar(tmp_path / "a.tar", [*members, ("a.alt.txt", b"other"), *figure("c", 3, title="N/A")])
    options = [
        "caption=[json.title,txt]",
        "texts.references=json.meta.refs",
        "labels.parts=json.parts",
        "modality=json.kind",
    ]
    assert index([str(tmp_path), *options, "licence=CC0-1.0", "split=valid", "workers=1"]) == 0
    first, third = (ShardDataset(tmp_path).read(row) for row in range(2))
    assert first.texts == {
        "caption": "first",
        "caption_1": "second",
        "caption_2": "caption 1",
        "references": "see a\nsee b",
    }
    assert (first.labels, first.metadata["modality"], first.metadata["licence"]) == ({"parts": ["x"]}, "CT", "CC0-1.0")
    assert (third.texts, third.labels, third.metadata["modality"]) == ({"caption": "caption 3"}, {}, "unknown")
    assert ShardDataset(tmp_path).manifest.split == "valid"


def test_captions_between_marker_words_are_texts_of_their_own(tmp_path):
    texts = {
        "a": "A view._chexpert_An X-ray._chexpert_",
        "b": "First._mimiccxr_Second._mimiccxr_._mimiccxr_noreportpresent",
        "c": "no marker: _other_",
        "d": "_mimiccxr_noreportpresent",
    }
    members = [
        (f"{key}.{name}", data)
        for key, text in texts.items()
        for name, data in (("jpg", IMAGE), ("txt", text.encode()))
    ]
    write_tar(tmp_path / "a.tar", members)
    assert index([str(tmp_path), "split_at=[_chexpert_,_mimiccxr_]", "workers=1"]) == 0
    dataset = ShardDataset(tmp_path)
    assert [dataset.read(row).texts for row in range(3)] == [
        {"caption": "A view.", "caption_1": "An X-ray."},
        {"caption": "First.", "caption_1": "Second."},
        {"caption": "no marker: _other_"},
    ]
    assert [(row["key"], row["reason"]) for row in rows_of(tmp_path)] == [("d", "missing_caption")]


def test_first_dot_as_webdataset_has_it(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.left.jpg", jpeg(1)), ("a.right.jpg", jpeg(2)), ("a.txt", b"two views")])
    assert index([str(tmp_path), "dots=first", "workers=1"]) == 0
    assert ShardDataset(tmp_path).read(0).images == {"left.jpg": jpeg(1), "right.jpg": jpeg(2)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["caption=[jpg]"], "jpg is an image, and holds no text"),
        (["labels.kind=txt"], "labels of .* are fields of the JSON"),
        (["group=txt"], "group=txt should be a field of the JSON"),
        (["split=../x"], "must be a plain folder name"),
        (["captions=[txt]"], "captions"),
        (["split_at=['']"], "should be a list of marker words"),
    ],
)
def test_descriptions_that_make_no_sense(tmp_path, words, message, capsys):
    import re

    write_figures(tmp_path, tars=1)
    assert index([str(tmp_path), *words, "workers=1"]) == 1
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "manifest.json").exists()


def test_an_index_of_another_program_is_not_written_over(tmp_path, capsys):
    folder = write_figures(tmp_path, tars=1)
    (folder / "00000.idx").write_text("v1.2 4\n")
    assert index([str(folder)]) == 1
    assert "is another program's" in capsys.readouterr().err
    assert (folder / "00000.idx").read_text() == "v1.2 4\n"


def test_what_was_indexed_is_not_read_again(tmp_path, monkeypatch, capsys):
    from medvlp.shards.foreign import dataset

    folder = write_figures(tmp_path / "figures")
    real, visited = dataset.index_shard, []

    def stopping(path, name, *args):
        visited.append(name)
        if len(visited) == 2:
            raise KeyboardInterrupt
        return real(path, name, *args)

    monkeypatch.setattr(dataset, "index_shard", stopping)
    (folder / ".indexing/downloading-x").mkdir(parents=True)  # of a command that was killed
    (folder / ".indexing/downloading-x/downloaded.tar").write_bytes(b"half")
    assert index([str(folder), "workers=1"]) in (3, 130)
    assert not (folder / "manifest.json").exists()
    assert index([str(folder), "workers=1"]) == 0
    assert not (folder / ".indexing").exists()
    assert visited == ["00000.tar", "00001.tar", "00001.tar", "00002.tar"]
    assert "1 of 3 tars were indexed before" in capsys.readouterr().out
    write_figures(tmp_path / "again")
    os.rename(tmp_path / "again", tmp_path / "other")
    assert index([f"{tmp_path}/other", "workers=1", "name=figures"]) == 0
    assert contents(tmp_path / "other", *OURS) == contents(folder, *OURS)


def test_two_commands_at_once_are_refused(tmp_path, capsys):
    import fcntl

    folder = write_figures(tmp_path, tars=1)
    (folder / ".indexing").mkdir()
    with open(folder / ".indexing/lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert index([str(folder)]) == 1
    assert "another `medvlp index` is at work" in capsys.readouterr().err


def test_damage_after_indexing_is_told_as_in_our_own(tmp_path, capsys):
    folder = write_figures(tmp_path)
    assert index([str(folder), "workers=1"]) == 0
    dataset = ShardDataset(folder)
    data = bytearray((folder / "00001.tar").read_bytes())
    position = data.index(b"caption 5")
    data[position] ^= 1
    (folder / "00001.tar").write_bytes(bytes(data))
    with pytest.raises(BadSample) as raised:
        dataset.read(5)
    assert (raised.value.reason, raised.value.shard) == ("checksum_mismatch", "00001.tar")
    assert [(finding.file, finding.problem) for finding in verify(folder)] == [("00001.tar", "checksum_mismatch")]
    (folder / "00002.tar").unlink()
    assert verify_verb([str(folder)]) == 1
    assert {(f.file, f.problem) for f in verify(folder)} == {
        ("00001.tar", "checksum_mismatch"),
        ("00002.tar", "missing_file"),
    }


def test_tars_behind_addresses(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path / "cache"))
    write_figures(tmp_path / "web/my figures")
    options = ["name=figures", "workers=1"]
    assert index([str(tmp_path / "web/my figures"), *options]) == 0
    with serving(tmp_path / "web") as web:
        tars = f"{web.url}/my figures/{{00000..00002}}.tar"
        assert index([tars, *options]) == 1
        assert "give a folder for their index, out=<folder>" in capsys.readouterr().err
        web.fault = lambda path, count: "drop" if path.endswith("00001.tar") and count == 1 else ""
        assert index([tars, *options, f"out={tmp_path}/out"]) == 0
        assert contents(tmp_path / "out", *OURS) == contents(tmp_path / "web/my figures", *OURS)
        dataset = ShardDataset(tmp_path / "out")
        assert dataset.read(9) == ShardDataset(tmp_path / "web/my figures").read(9)
        assert verify(tmp_path / "out") == []
        moved = ShardDataset(tmp_path / "out", tars=str(tmp_path / "web/my figures"))
        assert (moved.read(2), moved.manifest_hash) == (dataset.read(2), dataset.manifest_hash)
        absent = f"{web.url}/my figures/{{00000..00009}}.tar"
        assert index([absent, *options, f"out={tmp_path}/absent"]) == 1
        assert "00003.tar is not there" in capsys.readouterr().err
