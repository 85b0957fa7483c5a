"""Every name that becomes a folder or a file is checked by one rule."""

import dataclasses

import pytest

from medvlp.config import ConfigError, RetrievalConfig, SourceConfig, compose, load_task
from medvlp.config.rules import fault_of

ESCAPES = ["../../esc", "a/b", "..", ".", "", " a", "a\\..\\b", "a\0b", "a\nb", ".hidden", "-rf", "é" * 80, "\ud800"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_elsewhere(name):
    assert fault_of(name)


@pytest.mark.parametrize("name", ["run", "lr-0.1__seed-3", "Röntgen 2", "a..b", "a=b,c", "胸片", "x" * 150])
def test_names_that_stay_where_they_are_put(name, tmp_path):
    assert fault_of(name) == ""
    (tmp_path / name).mkdir()
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()


@pytest.mark.parametrize("name", ["../../esc", "..", "a/b", ""])
@pytest.mark.parametrize("key", ["run_name", "stages", "data.sources"])
def test_a_run_refuses_them(key, name):
    config = compose("train", ["recipes=clip_rocov2"])
    source = next(iter(config.data.sources.values()))
    changes = {
        "run_name": {"run_name": name},
        "stages": {"stages": {name: []}},
        "data.sources": {"data": dataclasses.replace(config.data, sources={name: source})},
    }[key]
    assert isinstance(source, SourceConfig)
    with pytest.raises(ConfigError, match=f"{key}=.* must be a plain folder name"):
        dataclasses.replace(config, **changes).check()


def test_a_task_refuses_them(tmp_path, monkeypatch):
    (tmp_path / "configs/task").mkdir(parents=True)
    (tmp_path / "configs/task/mine.yaml").write_text("name: ../../esc\nkind: retrieval\ndata: d\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"a task's name='\.\./\.\./esc' must be a plain folder name"):
        load_task("mine")
    with pytest.raises(ConfigError):
        RetrievalConfig(name="..", data="d").check()


def test_a_recipe_that_names_evals_folder_refuses_them():
    with pytest.raises(ConfigError, match=r"recipes='\.\.' must be a plain folder name"):
        compose("eval", ["recipes=../x"])
