"""The folder that sweeps of the tests run in."""

import pytest

from tests.sweep.world import make_world


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def sweep_folder(world, monkeypatch):
    """The world as the working folder."""
    monkeypatch.chdir(world)
    return world
