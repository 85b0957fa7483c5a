import pytest
import torch

from medvlp.builders.clip import build_clip, description_of, fill, model_kind
from medvlp.config import ConfigError, compose
from medvlp.models.weights import WeightsError
from medvlp.training.checkpoints import CheckpointError


def test_a_named_architecture_with_its_changes(clip_words):
    clip = build_clip(compose("train", [*clip_words, "model.image.size=32"]).model)
    assert clip.size == 32


def test_weights_that_do_not_fit_are_named(clip_words):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError, match=r"missing \['bias'\], not in the model \['more'\]"):
        fill(model, {"weight": torch.zeros(2, 2), "more": torch.zeros(1)})


@pytest.mark.parametrize("error", [WeightsError("a size"), ConfigError("a key"), KeyError("preprocess")])
def test_a_wrong_description_is_the_checkpoints_fault(error):
    with pytest.raises(CheckpointError, match=r"checkpoint a\.ckpt: "), description_of("a.ckpt"):
        raise error


def test_a_file_that_is_no_checkpoint_has_no_kind(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"text")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        model_kind(tmp_path / "a.ckpt")
