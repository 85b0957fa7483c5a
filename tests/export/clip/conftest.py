"""CLIP models that are small enough to export in every test, and the gate in a fork instead of a new interpreter."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import timm.models.vision_transformer as timm_vit
import torch
from timm.models import register_model

from medvlp.models.clip.sources import named
from tests.distributed.ranks import finish_script
from tests.models.tiny import TINY, tiny_text_tower

LOADED_IN_FORKS = '("medvlp", "open_clip")'
"""Libraries that a script must not have loaded; a fork of the tests has loaded the second."""


def tiny_siglip(pretrained: bool = False, **options) -> timm_vit.VisionTransformer:
    """timm's vision transformer as SigLIP has it: no class token, pooled by attention."""
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    options = {name: value for name, value in options.items() if name in ("num_classes", "global_pool", "img_size")}
    return configured({**shape, "class_token": False, "global_pool": "map", **options})


def tiny_plain(pretrained: bool = False, **options) -> timm_vit.VisionTransformer:
    """timm's vision transformer with a class token."""
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    options = {name: options[name] for name in ("num_classes", "global_pool", "img_size", "fc_norm") if name in options}
    return configured({**shape, **options})


def configured(options: dict) -> timm_vit.VisionTransformer:
    """A vision transformer with what timm says of every one of its own."""
    model = timm_vit.VisionTransformer(**options)
    model.default_cfg = model.pretrained_cfg = {"input_size": (3, 32, 32)}
    return model


for architecture in (tiny_siglip, tiny_plain):
    architecture.__module__ = timm_vit.__name__
    register_model(architecture)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Folders of text towers by their type."""
    folder = tmp_path_factory.mktemp("towers")
    return {kind: tiny_text_tower(folder / kind, kind) for kind in ("bert", "roberta")}


@pytest.fixture(scope="session")
def build(tmp_path_factory, published):
    """A CLIP of an architecture's changes, its norms and biases away from where they begin."""
    folder = tmp_path_factory.mktemp("architectures")

    def clip(name: str, text: dict | str | None = None, vision: dict | None = None, **changes):
        text_cfg = TINY["text_cfg"] if text is None else text
        if isinstance(text, str):
            kind, pooler, head = text.split()
            tower = str(published[kind])
            text_cfg = {"hf_model_name": tower, "hf_tokenizer_name": tower, "hf_model_pretrained": False}
            text_cfg |= {"hf_pooler_type": pooler, "hf_proj_type": head, "context_length": 24}
        description = {**TINY, "vision_cfg": vision or TINY["vision_cfg"], "text_cfg": text_cfg, **changes}
        (folder / f"{name}.json").write_text(json.dumps(description))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = named(str(folder / f"{name}.json"))
            for parameter in model.model.parameters():
                if parameter.ndim == 1:
                    parameter.data += 0.1 * torch.randn_like(parameter)
        model.model.eval()
        return model

    return clip


@pytest.fixture
def forked(monkeypatch):
    """The gate asks stock libraries in a fork that knows nothing of us; in a new interpreter elsewhere, as users do."""

    def run(command, env, **streams):
        assert command[:3] == [sys.executable, "-P", "-c"]
        assert LOADED_IN_FORKS in command[3]
        status, said = finish_script(command[3].replace(LOADED_IN_FORKS, '("medvlp",)'), *command[4:], environment=env)
        return subprocess.CompletedProcess(command, status, said, said)

    monkeypatch.setattr("medvlp.export.equality.subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
