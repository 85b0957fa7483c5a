"""A classifier's features are those of the libraries that its towers come from; its description brings it back."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionModel

from medvlp.models.classifier.metadata import from_metadata, metadata_of
from medvlp.models.classifier.model import ImageClassifier, assemble
from medvlp.models.clip.sources import named
from medvlp.models.towers import load_tower
from medvlp.models.towers.clip_checkpoint import tower_from_clip
from medvlp.models.weights import WeightsError
from tests.assistants import scrambled, tiny_tower
from tests.models.tiny import tiny_architecture

HEADS = {"a": {"classes": ["x", "y"]}, "b": {"classes": ["z"]}}


def pixels(side, batch=3):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def timm_classifier(folder, name, size, pool=""):
    """The classifier, and timm's own model of the same weights."""
    torch.manual_seed(0)
    trunk = scrambled(timm.create_model(name, num_classes=0))
    save_file(trunk.state_dict(), folder / "trunk.safetensors")
    tower = load_tower(f"timm:{name}", size, feature_layer=-1, weights_file=str(folder / "trunk.safetensors"))
    return assemble(tower, pool, HEADS), trunk


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext"])
def test_a_convolutional_tower_pools_as_timm_does(tmp_path, name):
    classifier, trunk = timm_classifier(tmp_path, name, 64)
    pixels_BCHW = pixels(64)
    with torch.no_grad():
        expected = trunk(pixels_BCHW)
        assert torch.allclose(classifier.model.features(pixels_BCHW), expected, rtol=1e-5, atol=1e-6)
        logits = classifier.model(pixels_BCHW)
        joined = classifier.model.head(expected)
    assert torch.allclose(torch.cat([logits["a"], logits["b"]], dim=1), joined, rtol=1e-5, atol=1e-6)
    assert classifier.size == 64


def test_a_class_token_is_normalised_as_clip_does(tmp_path):
    tiny_tower(tmp_path)
    classifier = assemble(load_tower(str(tmp_path), feature_layer=-1), "", HEADS)
    model = CLIPVisionModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        output = model(pixels(32))
        assert torch.equal(classifier.model.features(pixels(32)), output.pooler_output)
        mean = assemble(load_tower(str(tmp_path), feature_layer=-1), "mean", HEADS).model.features(pixels(32))
        assert torch.allclose(mean, model.post_layernorm(output.last_hidden_state[:, 1:]).mean(dim=1), atol=1e-6)


def test_an_open_clip_towers_token_is_what_it_projects(tmp_path):
    torch.manual_seed(0)
    clip = named(str(tiny_architecture(tmp_path)))
    scrambled(clip.model)
    classifier = assemble(tower_from_clip(clip, -1), "token", HEADS)
    with torch.no_grad():
        projected = classifier.model.features(pixels(32)) @ clip.model.visual.proj
        assert torch.allclose(projected, clip.model.encode_image(pixels(32)), rtol=1e-4, atol=1e-5)


def test_a_tower_without_a_class_token_has_none_to_pool(tmp_path):
    with pytest.raises(WeightsError, match=r"model.pool=token: a tower of type timm_wrapper has no class token"):
        timm_classifier(tmp_path, "test_efficientnet", 64, "token")


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "clip"])
def test_its_description_brings_it_back(tmp_path, name):
    if name == "clip":
        classifier = assemble(load_tower(str(tiny_tower(tmp_path)), feature_layer=-1), "mean", HEADS)
    else:
        classifier, _ = timm_classifier(tmp_path, name, 64)
    description = json.loads(json.dumps(metadata_of(classifier)))
    copy = from_metadata(description)
    copy.model.load_state_dict(classifier.model.state_dict())
    side = classifier.size
    with torch.no_grad():
        for head, logits in classifier.model.eval()(pixels(side)).items():
            assert torch.equal(copy.model.eval()(pixels(side))[head], logits)
    assert copy.processor.to_json_string() == classifier.processor.to_json_string()
    assert copy.heads == HEADS
    learning = [name for name, parameter in classifier.model.named_parameters() if parameter.requires_grad]
    assert [name for name, parameter in copy.model.named_parameters() if parameter.requires_grad] == learning
    for damage in ({"tower_config": {"model_type": "evil"}}, {"pool": "evil"}, {"processor": None}):
        with pytest.raises(WeightsError):
            from_metadata({**description, **damage})


def test_every_parameter_that_learns_has_a_gradient(tmp_path):
    """DDP would wait for the others: the pooling layer of a ViTModel, a norm that the mean does not pass."""
    for name, pool in (("test_vit", ""), ("test_vit", "mean"), ("test_convnext", "mean")):
        model: ImageClassifier = timm_classifier(tmp_path, name, 64, pool)[0].model
        sum(logits.square().sum() for logits in model(pixels(64)).values()).backward()
        assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad), name
