"""Training on shards behind a server that fails now and then: the keys and weights of the same run on local shards."""

import copy
import json
import time

import pytest

from tests.assistants import TINY
from tests.datasets import pairs, write_split
from tests.distributed.ranks import start_train, train_on_ranks
from tests.runs import equal, finish, rows, tiny_words, wait_for_step, weights
from tests.shards.storage.servers import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny architecture, and 40 samples in five shards."""
    made = tmp_path_factory.mktemp("remote")
    (made / "tiny-clip.json").write_text(json.dumps(copy.deepcopy(TINY)))
    write_split(made / "made/train", pairs(40))
    return made


@pytest.mark.parametrize("options", [[], ["data.shuffle_block=8", "data.shuffle_window=2"]], ids=["full", "blocks"])
def test_a_killed_run_on_remote_shards_goes_on_as_the_local_one_went(folder, tmp_path, options):
    """The cache holds three of the five shards, so that shards come, go, and come again; every third answer breaks off."""
    sizes = [path.stat().st_size for path in (folder / "made/train").iterdir()]
    words = [*tiny_words(folder), *options, f"run_root={tmp_path}/runs"]
    assert finish(start_train([*words, "run_name=local"]))[0] == 0
    with serving(folder) as web:
        web.fault = lambda path, count: "drop" if path.endswith(".tar") and count % 3 == 0 else ""
        remote = [
            *words,
            f"data.sources.made.path={web.url}/made/train",
            f"data.remote.cache={tmp_path}/cache",
            f"data.remote.max_gb={3.5 * max(sizes) / 1e9}",
            "data.workers=2",
        ]
        first = start_train([*remote, "run_name=remote"])
        wait_for_step(first, tmp_path / "runs/remote", 7)
        first.kill()
        finish(first)
        assert finish(start_train([*remote, "run_name=remote", "resume=auto", "data.workers=1"]))[0] == 0
        code, output = train_on_ranks([[*remote, "run_name=ranks", "data.remote.read=sample"]])
        assert code == 0, output
    local = tmp_path / "runs/local"
    for run in ("remote", "ranks"):
        assert rows(tmp_path / f"runs/{run}/samples.jsonl") == rows(local / "samples.jsonl")
        assert not (tmp_path / f"runs/{run}/bad_samples.jsonl").exists()
    assert equal(weights(tmp_path / "runs/remote"), weights(local))
    assert sum(path.stat().st_size for path in (tmp_path / "cache/files").rglob("*.*")) <= 3.5 * max(sizes)
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_server_that_stays_away_stops_the_run_with_its_address(folder, tmp_path):
    words = [*tiny_words(folder), f"run_root={tmp_path}/runs", f"data.remote.cache={tmp_path}/cache", "data.workers=1"]
    with serving(folder) as web:
        web.fault = lambda path, count: "503" if path.endswith("000002.tar") else ""
        remote = [*words, f"data.sources.made.path={web.url}/made/train", "data.remote.attempts=2", "run_name=away"]
        begin = time.monotonic()
        code, output = finish(start_train(remote))
    assert code == 1, output
    assert f"{web.url}/made/train/000002.tar cannot be read, 2 times in a row: 503" in output
    assert "Traceback" not in output
    assert time.monotonic() - begin < 300
