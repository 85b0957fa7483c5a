import pytest

from medvlp.builders import build_objective
from medvlp.builders.objectives.instruction import check_window, image_inputs
from medvlp.config import ConfigError, compose
from medvlp.data.chat.images import Processed
from medvlp.data.images.feature_cache import FeatureCache


def test_building_measures_nothing_and_writes_nothing(llava_words, tmp_path):
    """Token lengths, features and the test of the supervision are the data module's."""
    cache = [f"objective.feature_cache={tmp_path}/features", "optim.parts.vision.freeze=true"]
    absent = f"data.sources.made.path={tmp_path}/absent"
    objective = build_objective(compose("train", [*llava_words, *cache, absent, "objective.packing=sequence"]))
    pipeline = objective.pipeline
    assert (pipeline.packed, pipeline.collate.tree, pipeline.replaces_bad) == (True, False, False)
    assert isinstance(pipeline.images, FeatureCache)
    assert objective.module.from_features
    assert list(tmp_path.iterdir()) == []


def test_images_are_pixels_or_features_in_a_folder(assistant, tmp_path):
    assert isinstance(image_inputs(assistant, "", 100), Processed)
    cache = image_inputs(assistant, str(tmp_path), 100)
    assert set(cache.identity) == {"tower", "transform"}
    assert cache.blank_shape == (1, 3, 32, 32)


def test_rows_longer_than_the_attention_reaches_are_refused(assistant, monkeypatch):
    check_window(assistant, 10**6)
    monkeypatch.setattr("medvlp.builders.objectives.instruction.sliding_window", lambda model: 128)
    check_window(assistant, 128)
    with pytest.raises(ConfigError, match=r"set objective\.max_length=128"):
        check_window(assistant, 129)
