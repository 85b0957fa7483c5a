"""Lightning's trainer and loggers."""

import importlib.util

import pytest

from medvlp.config import ConfigError, compose
from medvlp.training.trainer import build_loggers


def test_a_logger_that_is_not_installed_is_refused_with_its_extra(tmp_path, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name))
    config = compose("train", ["recipes=clip_rocov2", "trainer.loggers=[tensorboard]"])
    with pytest.raises(ConfigError, match=r"trainer\.loggers=\[tensorboard\] .* pip install 'medvlp\[tensorboard\]'"):
        build_loggers(config, tmp_path, None)
    assert list(tmp_path.iterdir()) == []
