"""Addresses that are read, and those that lead elsewhere."""

import json

import pytest

from medvlp.shards import ShardDataset, ShardError
from medvlp.shards.manifest import is_name
from medvlp.shards.storage.location import Location, read_location, write_location
from medvlp.shards.storage.urls import check_url, is_url, join_url


@pytest.mark.parametrize(
    "url", ["https://host/a b/train", "s3://bucket", "gs://bucket/x", "hf://datasets/me/set@v1/train/"]
)
def test_addresses_that_are_read(url):
    assert is_url(url)
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "pipe:cat /etc/passwd",
        "file:///etc",
        "ftp://host/x",
        "simplecache::s3://bucket/x",
        "s3://bucket/x::file:///etc",
        "https://me:secret@host/x",
        "https://host/x?token=1",
        "https://host/x#part",
        "https://host/a/../b",
        "https://host/a/%2e%2e/b",
        "https://host/a/%2Fetc",
        "https://host/a//b",
        "https://",
        "github://me:set@main/x",
    ],
)
def test_addresses_that_are_refused(url):
    assert is_url(url)
    with pytest.raises(ShardError, match="is not read"):
        check_url(url)


@pytest.mark.parametrize("name", ["../a.tar", "/a.tar", "a/../../b.tar", "a//b.tar", "a\\b.tar", "", "a/.", "x\n.tar"])
def test_names_that_leave_their_folder(name):
    assert not is_name(name)
    with pytest.raises(ShardError, match="is not the name of a file below"):
        join_url("s3://bucket", name)


def test_names_are_quoted_for_the_web_alone():
    assert join_url("https://host/x", "a b#1/c.tar") == "https://host/x/a%20b%231/c.tar"
    assert join_url("s3://bucket", "a b#1/c.tar") == "s3://bucket/a b#1/c.tar"


def test_a_location_is_read_as_it_was_written(tmp_path):
    assert read_location(tmp_path) == Location()
    write_location(tmp_path, Location(tars="s3://bucket/x"))
    assert read_location(tmp_path) == Location(tars="s3://bucket/x")


@pytest.mark.parametrize("content", ["[]", '{"tars": 3}', '{"other": "x"}', '{"tars": "pipe:ls"}', "{"])
def test_a_location_of_another_form_is_refused(tmp_path, content):
    (tmp_path / "location.json").write_text(content)
    with pytest.raises(ShardError):
        read_location(tmp_path)


def test_a_prepared_manifest_names_no_file_elsewhere(dataset):
    path = dataset / "train/manifest.json"
    content = json.loads(path.read_text())
    content["files"]["../test/000000.tar"] = content["files"]["000000.tar"]
    path.write_text(json.dumps(content))
    with pytest.raises(ShardError, match="is not the name of a file in the folder"):
        ShardDataset(dataset / "train")
