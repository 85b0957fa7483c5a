"""Exported folders of CLIPs that were trained here: opened by stock libraries, with a card that says where they come from."""

import contextlib
import importlib.util
import io
import json
import re
import textwrap

import pytest
import torch
from PIL import Image

from medvlp.builders.clip import load_clip
from medvlp.builders.schemes.huggingface import load_parts
from medvlp.config.model_names import parse_model_name
from medvlp.export.clip import dual_encoders
from medvlp.models.clip.model import ClipEncoder
from medvlp.models.hf.encoders import HfEncoder
from medvlp.verbs.models.export import main as export
from tests.assistants import tiny_clip_checkpoint
from tests.distributed.ranks import run_script

ONNX = pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_clip_checkpoint(
        tmp_path_factory.mktemp("trained"), words=['data.sources.made.where=["caption_length >= 1"]']
    )


@pytest.fixture
def exported(checkpoint, forked, tmp_path, capsys):
    """A folder in transformers' format."""
    assert export([f"checkpoint={checkpoint}", "format=transformers", f"output={tmp_path}/clip"]) == 0
    said = capsys.readouterr().out
    assert "AutoModel (CLIPModel)" in said
    assert "by 8 images of made and 8 of its texts" in said
    return tmp_path / "clip"


def snippet(folder) -> str:
    """The README's code."""
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    return code[1].replace("<path of this folder>", str(folder))


def test_transformers_folder_its_card_and_a_run_that_starts_from_it(exported, checkpoint, tmp_path):
    card = (exported / "README.md").read_text()
    for words in (
        "| clip | made, where (caption_length >= 1): 8 of 8 samples (dropped: 0 by caption_length >= 1) | CC0-1.0 (8) |",
        "| Optimizer steps | 1 |",
        "Research use only; not for clinical use.",
        load_clip(checkpoint).weights_sha256,
        "allowed are 1e-05",
    ):
        assert words in card
    for path in exported.iterdir():
        assert str(tmp_path) not in path.read_bytes().decode("utf-8", "replace"), path
    script = f"{snippet(exported)}\nprint('medvlp' in __import__('sys').modules)"
    assert run_script(script, folder=exported).splitlines()[-1] == "False"
    # evaluated by its name, and as the beginning of another run
    clip = load_clip(checkpoint).clip
    ours = ClipEncoder(clip, identity="0")
    model, processor, tokenizer = load_parts(parse_model_name(f"hf:{exported}"))
    theirs = HfEncoder(model, processor, tokenizer, "0")
    image, texts = Image.effect_noise((48, 32), 80).convert("RGB"), ["a chest", "finding " * 30]
    torch.testing.assert_close(theirs.encode_text(texts), ours.encode_text(texts), atol=1e-6, rtol=0)
    pixels = ours.transform(image)[None]
    torch.testing.assert_close(theirs.transform(image)[None], pixels, atol=1e-6, rtol=0)
    torch.testing.assert_close(theirs.encode_image(pixels), ours.encode_image(pixels), atol=1e-6, rtol=0)
    assert theirs.model.logit_scale.exp().item() == pytest.approx(ours.logit_scale)


def test_nothing_is_kept_of_a_folder_that_differs(checkpoint, forked, tmp_path, monkeypatch, capsys):
    write = dual_encoders.write_dual_encoder

    def spoiled(clip, folder):
        model = write(clip, folder)
        config = json.loads((folder / "config.json").read_text())
        config["vision_config"]["hidden_act"] = "quick_gelu"
        (folder / "config.json").write_text(json.dumps(config))
        return model

    monkeypatch.setattr(dual_encoders, "write_dual_encoder", spoiled)
    assert export([f"checkpoint={checkpoint}", "format=transformers", f"output={tmp_path}/clip"]) == 1
    assert "other embeddings of images in transformers, by up to" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@ONNX
@pytest.mark.slow
def test_onnx_folder_runs_without_torch_for_any_batch_and_length(checkpoint, tmp_path, capsys):
    import onnx

    assert export([f"checkpoint={checkpoint}", "format=onnx", f"output={tmp_path}/onnx"]) == 0
    assert "compared in a new process without torch, by 8 images of made" in capsys.readouterr().out
    names = {"README.md", "preprocess.json", "text_model.onnx", "tokenizer.json", "vision_model.onnx"}
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == names
    graph = onnx.load(tmp_path / "onnx/text_model.onnx").graph
    shape = [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", "sequence"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(textwrap.dedent(snippet(tmp_path / "onnx")), {})
    assert re.match(r"\[\[ ?-?0\.\d+", said.getvalue())


@ONNX
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["squash", "longest"])
@pytest.mark.parametrize("text", ["bert mean_pooler mlp", "siglip"])
def test_onnx_takes_what_transformers_has_no_class_for(build, tmp_path, mode, text):
    """Averaged tokens, a head of two layers, padding to the context, and other ways to make squares of images."""
    from dataclasses import replace

    from medvlp.export.clip.onnx import export_onnx
    from medvlp.export.clip.provenance import Provenance

    text_cfg = {"context_length": 24, "width": 32, "heads": 2, "layers": 1, "vocab_size": 49408}
    clip = build("onnx", text={**text_cfg, "no_causal_mask": True, "pool_type": "last"} if text == "siglip" else text)
    clip = replace(clip, preprocess={**clip.preprocess, "resize_mode": mode})
    check = export_onnx(clip, Provenance("0" * 64, "open_clip:made"), tmp_path / "onnx")
    assert (check.shifted, check.pairs.description) == (0, "4 generated pictures")
    settings = json.loads((tmp_path / "onnx/preprocess.json").read_text())
    assert settings["pads_to_context"] is (text == "siglip")
    assert "the terms of its publisher apply" in (tmp_path / "onnx/README.md").read_text()
