"""A classifier's folder opens without medvlp, and a folder that computes something else is not kept."""

import json

import pytest
import torch

from medvlp.config import from_dict
from medvlp.export import classifier as exports
from medvlp.export.equality import ExportMismatch
from medvlp.verbs.models.export import main as export
from tests.classifiers import FINDINGS, KINDS, classifier_words
from tests.models.classifier.test_model import timm_classifier
from tests.runs import run_here


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    assert run_here([*classifier_words(folder), "run_name=c", "trainer.max_steps=1"]) == 0
    return folder / "runs/c/checkpoints/last.ckpt"


def test_the_format_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("medvlp.builders.model_kind", lambda path: "classifier", raising=False)
    (tmp_path / "last.ckpt").touch()
    assert export([f"checkpoint={tmp_path}/last.ckpt", "format=open_clip", f"output={tmp_path}/x"]) == 1
    assert "holds a classifier, which is exported with format=hf, not open_clip" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_becomes_a_folder(checkpoint, tmp_path):
    assert export([f"checkpoint={checkpoint}", "format=hf", f"output={tmp_path}/exported"]) == 0
    names = {path.name for path in (tmp_path / "exported", {}).iterdir()}
    tower = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert names == {"README.md", "heads.json", "heads.safetensors", *tower}
    heads = json.loads((tmp_path / "exported/heads.json").read_text())
    assert heads == {
        "kind": {"classes": list(KINDS), "multi_label": False},
        "findings": {"classes": list(FINDINGS), "multi_label": True},
    }
    card = (tmp_path / "exported/README.md").read_text()
    assert "CC0-1.0 (44)" in card
    assert str(tmp_path) not in card


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pool"), [("test_efficientnet", ""), ("test_convnext", "mean"), ("test_vit", "mean")])
def test_every_tower_and_pooling_computes_the_same(checkpoint, tmp_path, name, pool):
    classifier, _ = timm_classifier(tmp_path, name, 64, pool)
    config = from_dict(torch.load(checkpoint, weights_only=True)["medvlp"]["config"])
    assert exports.export_classifier(classifier, config, "0" * 64, tmp_path / "exported", {}) < 1e-4


@pytest.mark.slow
def test_a_folder_that_differs_is_not_kept(checkpoint, tmp_path, monkeypatch):
    classifier, _ = timm_classifier(tmp_path, "test_efficientnet", 64)
    monkeypatch.setattr(exports, "run_offline", lambda *_, **__: {"a": torch.zeros(2, 2), "b": torch.ones(2, 1)})
    config = from_dict(torch.load(checkpoint, weights_only=True)["medvlp"]["config"])
    with pytest.raises(ExportMismatch, match="gives other logits"):
        exports.export_classifier(classifier, config, "0" * 64, tmp_path / "exported", {})
    assert not (tmp_path / "exported", {}).exists()
