import json
import os
import time

import pytest

from medvlp import cli
from medvlp.eval.store.folder import ENTRY, IMAGES, TEXTS, StoreFolder
from medvlp.eval.store.responses import ResponseLog
from medvlp.eval.store.root import MARKER, open_root
from medvlp.models.digests import FileFacts, sha256_of

OLD = time.time() - 10 * 86400


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A store with embeddings of images, used long ago, and of texts, with responses and hashes; next to it another's file."""
    (tmp_path / "thesis.tex").write_text("mine")
    root = open_root(tmp_path / "cache")
    folder = StoreFolder(root, 10**6)
    write = {"embeddings.npy": lambda file: file.write(b"x" * 1500)}
    entry = folder.publish(
        {"kind": IMAGES, "encoder": "abc", "data": "0f"}, write, {"data": "data/\x1b[2J", "images": 3}
    )
    os.utime(entry.path / ENTRY, (OLD, OLD))
    folder.publish({"kind": TEXTS, "encoder": "abc"}, write, {"texts": 7})
    for name, lines in (
        ("responses/a.jsonl", [{"parts": {"model": "m"}}, {"text": "yes"}]),
        ("responses/local/b.jsonl", [{"parts": {"content": "c0ffee"}}, {"text": "yes"}, {"text": "no"}]),
        ("digests/files.jsonl", [["k", "v"]]),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("MEDVLP_CACHE", str(root))
    yield root
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def kinds(root):
    entries = {entry.parts["kind"] for entry in StoreFolder(root, 0).entries()}
    return entries | {path.parent.name for path in root.rglob("*.jsonl")}


ALL = {IMAGES, TEXTS, "responses", "local", "digests"}


def test_shards_that_were_downloaded_are_of_the_folder(tmp_path, monkeypatch, capsys):
    path = tmp_path / "shards/files/ab/abc.tar"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(2000))
    monkeypatch.setenv("MEDVLP_CACHE", str(tmp_path))
    assert cli.main(["cache"]) == 0
    assert "2.0 kB  shards     abc.tar       .tar file of a split behind an address" in capsys.readouterr().out
    assert open_root(tmp_path) == tmp_path  # an evaluation may use it
    assert cli.main(["cache", "clear", "kind=images"]) == 0
    assert path.exists()
    assert cli.main(["cache", "clear", "kind=shards"]) == 0
    assert not path.exists()


def test_it_shows_what_there_is(root, capsys):
    assert cli.main(["cache"]) == 0
    output = capsys.readouterr().out
    assert "1.5 kB  images" in output
    assert "data/\\x1b[2J, 3 images" in output  # what data are called steers no terminal
    assert "1 responses" in output
    assert "2 answers" in output
    assert "content c0ffee" in output
    assert f"{root}: 5 kept, 3." in output
    (entry,) = [entry for entry in StoreFolder(root, 0).entries() if entry.parts["kind"] == TEXTS]
    assert cli.main(["cache", entry.key[:12]]) == 0
    assert json.loads(capsys.readouterr().out.split("\n", 1)[1]) == entry.parts
    assert cli.main(["cache", "zzz"]) == 1
    assert kinds(root) == ALL


@pytest.mark.parametrize(
    ("args", "remaining"),
    [
        ([], {"responses"}),
        (["kind=all"], set()),
        (["kind=images"], ALL - {IMAGES}),
        (["kind=texts"], ALL - {TEXTS}),
        (["kind=responses"], ALL - {"responses"}),
        (["kind=answers"], ALL - {"local"}),
        (["kind=hashes"], ALL - {"digests"}),
        (["older_than=9"], ALL - {IMAGES}),
        (["older_than=9", "kind=texts"], ALL),
    ],
)
def test_it_clears_what_is_asked_for(root, args, remaining, capsys):
    assert cli.main(["cache", "clear", *args]) == 0
    assert kinds(root) == remaining
    assert (root / MARKER).is_file()
    assert ("responses of 1 models" in capsys.readouterr().out) == (not args)


def test_everything_is_also_what_is_damaged_or_was_begun(root, capsys):
    torn, begun = root / "entries" / "aa" / ("aa" + "0" * 62), root / "temporary"
    for folder in (torn, begun / "killed", begun / "alive"):
        folder.mkdir(parents=True)
        (folder / "embeddings.npy").write_bytes(b"x" * 1000)
    os.utime(begun / "killed", (OLD, OLD))
    assert cli.main(["cache"]) == 0
    assert "1.0 kB  others     aa0000000000  damaged" in capsys.readouterr().out
    assert cli.main(["cache", "clear", "kind=images"]) == 0
    assert torn.exists()
    assert cli.main(["cache", "clear", "kind=all"]) == 0
    assert not torn.exists()
    assert [path.name for path in begun.iterdir()] == ["alive"]  # its writer may still be there


def test_what_was_read_today_was_used_today(root):
    parts = {"server": "u", "model": "m"}
    log = ResponseLog(root, parts)
    log.add({"k": {"text": "paid for"}})
    weights = root.parent / "weights"
    weights.touch()
    for path in (log.path, root / "digests/files.jsonl"):
        os.utime(path, (OLD, OLD))
    ResponseLog(root, parts)  # as an evaluation opens it whose answers are all there
    sha256_of(weights, FileFacts(root))
    assert cli.main(["cache", "clear", "kind=all", "older_than=9"]) == 0
    assert log.path.exists()
    assert (root / "digests/files.jsonl").exists()


def test_no_folder_of_others_is_cleared(root, tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "thesis.tex"):
        assert cli.main(["cache", "clear", f"dir={folder}", "kind=all"]) == 1
    assert cli.main(["cache", "clear", f"dir={tmp_path / 'nowhere'}"]) == 0
    assert "nothing is kept there" in capsys.readouterr().out
    assert not (tmp_path / "nowhere").exists()


def test_links_lead_nowhere(root, tmp_path):
    outside = tmp_path / "outside"
    (outside / ("ab" + "0" * 62)).mkdir(parents=True)
    (outside / "log.jsonl").write_text("{}\n")
    (root / "entries" / "ab").symlink_to(outside)
    (root / "responses" / "link.jsonl").symlink_to(outside / "log.jsonl")
    StoreFolder(root, 10**6).evict()
    assert cli.main(["cache", "clear", "kind=all"]) == 0
    assert sorted(path.name for path in outside.iterdir()) == ["ab" + "0" * 62, "log.jsonl"]


@pytest.mark.parametrize(
    "args", [["clear", "everything"], ["--all"], ["kind=sofas"], ["older_than=-1"], ["clear", "dri=x"]]
)
def test_what_it_does_not_know_is_refused(root, args):
    assert cli.main(["cache", *args]) in (1, 2)
    assert kinds(root) == ALL
