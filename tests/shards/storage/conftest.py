"""A prepared data set behind a web server on loopback, and pauses that no test waits for."""

import pytest

from medvlp.shards.storage import RemoteSettings, transport
from tests.shards.folders import write_dataset
from tests.shards.storage.servers import serving


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(transport, "FIRST_PAUSE", 0.001)


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory):
    """Splits train and test of `write_dataset` in `made`."""
    folder = tmp_path_factory.mktemp("served")
    write_dataset(folder / "made")
    return folder


@pytest.fixture
def web(served_folder):
    with serving(served_folder) as server:
        yield server


@pytest.fixture
def settings(tmp_path):
    """With three tries, and a cache of the test's own."""
    return RemoteSettings(folder=tmp_path / "cache", attempts=3, timeout=2)
