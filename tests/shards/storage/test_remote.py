"""Splits behind a web server that misbehaves: what is read is what a local reader reads, or an error says why not."""

import dataclasses
import pickle

import pytest

from medvlp.shards import BadSample, ShardDataset, ShardError
from medvlp.shards.storage import split_folder
from medvlp.shards.storage.splits import _downloaded
from medvlp.shards.storage.transport import NotRanged, Transport
from medvlp.shards.verify import verify
from tests.shards.folders import make_sample

SAMPLES = [make_sample(number) for number in range(8)]
TARS = (".tar",)  # that are served


@pytest.fixture(autouse=True)
def no_manifests():
    _downloaded.cache_clear()


def opened(web, settings, split="made/train"):
    return ShardDataset(split_folder(f"{web.url}/{split}", settings), remote=settings)


def of_tars(*answers):
    """A fault of the first requests for each tar."""
    return lambda path, count: answers[count] if path.endswith(TARS) and count < len(answers) else ""


@pytest.mark.parametrize("read", ["shard", "sample"])
@pytest.mark.parametrize("fault", ["", "drop", "short", "wrong", "503", "429", "other"])
def test_samples_are_those_of_the_disk_whatever_the_server_does_once(web, settings, read, fault):
    web.fault = of_tars(fault) if fault != "wrong" else of_tars("wrong", "wrong")
    dataset = opened(web, dataclasses.replace(settings, read=read))
    assert [dataset.read(row) for row in range(8)] == SAMPLES
    assert dataset.read_text(5) == dataclasses.replace(SAMPLES[5], images={})
    assert dataset.manifest_hash == ShardDataset(web.folder / "made/train").manifest_hash


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("drop", "cannot be read, 3 times in a row"),
        ("503", "cannot be read, 3 times in a row: 503"),
        ("403", "cannot be read: 403"),
        ("wrong", "is not what its manifest says: sha256 "),
        ("stall", "cannot be read, 3 times in a row"),
    ],
)
def test_what_stays_wrong_stops_with_an_address_and_leaves_nothing(web, settings, fault, message):
    web.fault = lambda path, count: fault if path.endswith("000000.tar") and (fault != "drop" or count) else ""
    if fault == "drop":  # not a byte more after the first answer
        web.fault = lambda path, count: ("drop", "503", "503", "503")[min(count, 3)] if path.endswith(".tar") else ""
    dataset = opened(web, dataclasses.replace(settings, timeout=0.2))
    with pytest.raises(ShardError, match=message) as raised:
        dataset.read(0)
    assert f"{web.url}/made/train/000000.tar" in str(raised.value)
    files = [path for path in settings.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files if "files" in path.parts} == {".parquet", ".idx"}


def test_a_server_that_closes_over_and_over_is_read(web, settings):
    web.fault = lambda path, count: "drop" if path.endswith(TARS) and count < 7 else ""
    assert opened(web, dataclasses.replace(settings, attempts=8)).read(0) == SAMPLES[0]


@pytest.mark.parametrize(
    ("answers", "asked", "error"),
    [
        ([b"abc", b"de", b"fghij"], [(0, 10), (3, 10), (5, 10)], ""),  # each closes early
        ([b"abc", b"", b"", b"defghij"], [(0, 10), (3, 10), (3, 10), (3, 10)], ""),
        (
            [b"abc", b"", b"", b""],
            [(0, 10), (3, 10), (3, 10), (3, 10)],
            "cannot be read, 3 times in a row: .* 7 bytes early",
        ),
        ([b"ab", NotRanged(), b"abcdefghij"], [(0, 10), (2, 10), (0, 10)], ""),
        ([b"ab", NotRanged(), b"a", NotRanged(), b"ab", NotRanged(), b"a"], None, "cannot be read, 3 times in a row"),
        ([PermissionError("no")], [(0, 10)], "cannot be read: no"),
        ([ZeroDivisionError("ours")], [(0, 10)], ZeroDivisionError),
    ],
)
def test_a_download_is_taken_up_where_it_broke(settings, monkeypatch, answers, asked, error):
    requests, received, pending = [], [], list(answers)

    def stream(self, url, begin, end):
        requests.append((begin, end))
        answer = pending.pop(0)
        if isinstance(answer, Exception):
            raise answer
        yield answer

    monkeypatch.setattr(Transport, "_stream", stream)

    def download():
        Transport(settings).download("s3://bucket/x", 10, received.append, received.clear)

    if error:
        kind, message = (ShardError, error) if isinstance(error, str) else (error, "ours")
        with pytest.raises(kind, match=message):
            download()
    else:
        download()
        assert b"".join(received) == b"abcdefghij"
    assert asked is None or requests == asked


def test_a_server_without_ranges_gives_whole_shards_and_no_single_samples(web, settings):
    web.fault = lambda path, count: ("drop" if count == 0 else "whole") if path.endswith(TARS) else ""
    assert opened(web, settings).read(0) == SAMPLES[0]
    dataset = opened(web, dataclasses.replace(settings, read="sample"))
    with pytest.raises(ShardError, match=r"whole files only, and no ranges; set data\.remote\.read=shard"):
        dataset.read(1)


def test_wrong_bytes_of_single_samples_are_read_again_and_then_named(web, settings):
    web.fault = of_tars("wrong", "wrong")
    dataset = opened(web, dataclasses.replace(settings, read="sample"))
    assert dataset.read(0) == SAMPLES[0]
    web.fault = lambda path, count: "wrong" if path.endswith(TARS) else ""
    with pytest.raises(BadSample) as raised:
        dataset.read(1)
    assert (raised.value.reason, raised.value.shard) == ("checksum_mismatch", "000000.tar")


def test_what_is_not_there_is_told_as_on_disk(web, settings):
    with pytest.raises(ShardError, match=r"made/valid has no manifest\.json"):
        opened(web, settings, "made/valid")
    web.fault = lambda path, count: "404" if path.endswith(TARS) else ""
    for read in ("shard", "sample"):
        with pytest.raises((BadSample, ShardError), match="000000"):
            opened(web, dataclasses.replace(settings, read=read)).read(0)
    with pytest.raises(BadSample) as raised:
        opened(web, settings).read(0)
    assert raised.value.reason == "missing_shard"


def test_single_samples_cost_their_bytes_and_shards_one_download_each(web, settings):
    dataset = opened(web, settings)
    for row in [*range(8), *range(8)]:
        dataset.read(row)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.read(3) == SAMPLES[3]
    assert web.bodies(".tar") == 2
    web.requests.clear()
    dataset = opened(web, dataclasses.replace(settings, read="sample"))
    dataset.read(2)
    (tar_range,) = [span for path, span in web.requests if path.endswith(TARS)]
    begin, end = map(int, tar_range.removeprefix("bytes=").split("-"))
    assert end - begin < 4_000


def test_a_copy_of_the_manifest_stays_with_its_version(web, settings, served_folder, tmp_path):
    folder = split_folder(f"{web.url}/made/train", settings)
    assert (folder / "manifest.json").read_bytes() == (served_folder / "made/train/manifest.json").read_bytes()
    assert split_folder(f"{web.url}/made/train/", settings) == folder
    test = split_folder(f"{web.url}/made/test", settings)
    assert (test != folder, test.parent) == (True, folder.parent)  # of one preparation, as on disk
    assert split_folder(tmp_path) == tmp_path


def test_a_remote_split_is_verified(web, settings, monkeypatch):
    monkeypatch.setenv("MEDVLP_CACHE", str(settings.folder))
    folder = split_folder(f"{web.url}/made/train", settings)
    assert verify(folder) == []
    web.fault = lambda path, count: "404" if path.endswith("000001.tar") else ""
    for path in (settings.folder / "shards/files").rglob("*.tar"):
        path.unlink()
    assert [(finding.file, finding.problem) for finding in verify(folder)] == [("000001.tar", "missing_file")]


def test_tokens_of_the_hub_go_to_the_hub_alone(web, settings, monkeypatch, served_folder):
    """`hf://` is a web address of the hub's, with the user's token."""
    import huggingface_hub.constants as constants

    pages = served_folder / "datasets/me/set/resolve/v2"
    if not pages.exists():
        pages.parent.mkdir(parents=True)
        pages.symlink_to(served_folder / "made", target_is_directory=True)
    monkeypatch.setattr(constants, "ENDPOINT", web.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", web.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    dataset = ShardDataset(split_folder("hf://datasets/me/set@v2/train", settings), remote=settings)
    assert dataset.read(7) == SAMPLES[7]
    assert {headers.get("Authorization") for headers in web.headers} == {"Bearer hf_secret"}
    web.headers.clear()
    opened(web, dataclasses.replace(settings, attempts=2)).read(0)
    assert {headers.get("Authorization") for headers in web.headers} == {None}
