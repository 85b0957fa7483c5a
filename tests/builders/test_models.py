"""Models by name: their kind, the identity of their content, and that open_clip's are open_clip's own."""

import json
import shutil

import open_clip
import pytest
import torch

from medvlp.builders.models import identity_of, model_kind_of, open_model
from medvlp.config import EvalConfig
from medvlp.config.model_names import parse_model_name
from medvlp.export.open_clip import export_clip
from medvlp.models.clip.sources import named
from medvlp.models.weights import WeightsError
from tests.models.tiny import tiny_architecture

CONFIG = EvalConfig(checkpoints=["x"], tasks=["x"], batch_size=2, workers=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A tiny CLIP as a folder in open_clip's format."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    export_clip(named(str(tiny_architecture(folder))), "0" * 64, folder / "exported")
    return folder / "exported"


def test_a_folder_gives_open_clips_own_embeddings(exported):
    name = parse_model_name(f"open_clip:{exported}")
    assert model_kind_of(name).offers == ("encode_image", "encode_text")
    encoder = open_model(name, "cpu", CONFIG).encoder
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{exported}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{exported}")
    pixels, texts = torch.randn(2, 3, 32, 32), ["a chest X-ray", "a scan of the liver"]
    with torch.no_grad():
        assert torch.equal(encoder.encode_image(pixels), model.eval().encode_image(pixels, normalize=True))
        theirs = model.encode_text(tokenizer(texts), normalize=True)
    assert torch.allclose(encoder.encode_text(texts), theirs, atol=1e-6)
    assert str(encoder.transform) == str(transform)


def test_identity_is_of_content_not_of_names(exported, tmp_path):
    copy = tmp_path / "a copy"
    shutil.copytree(exported, copy)
    assert identity_of(parse_model_name(f"open_clip:{copy}")) == identity_of(parse_model_name(f"open_clip:{exported}"))
    identities = {identity_of(parse_model_name(f"open_clip:{exported}"))}
    weights = copy / "open_clip_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    identities.add(identity_of(parse_model_name(f"open_clip:{copy}"), tmp_path))
    config = copy / "open_clip_config.json"
    description = json.loads(config.read_text())
    description["preprocess_cfg"]["interpolation"] = "bilinear"
    config.write_text(json.dumps(description))
    identities.add(identity_of(parse_model_name(f"open_clip:{copy}"), tmp_path))
    assert len(identities) == 3


def test_random_weights_are_the_same_each_time(tmp_path):
    name = parse_model_name(f"open_clip:{tiny_architecture(tmp_path)}")
    state = torch.random.get_rng_state()
    encoders = [open_model(name, "cpu", CONFIG).encoder for _ in range(2)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert encoders[0].identity == encoders[1].identity
    assert identity_of(name) == identity_of(name)


def test_a_folder_without_weights_is_not_a_random_model(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    with pytest.raises(WeightsError, match="no weights in the folder"):
        open_model(parse_model_name(f"open_clip:{tmp_path}/bare"), "cpu", CONFIG)
