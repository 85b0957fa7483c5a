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
from tests.runs import run_here, tiny_words

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


@pytest.mark.slow
def test_adapters_averages_and_longer_contexts_come_out_right_and_go_round(checkpoint, forked, tmp_path):
    """A run that starts from an exported folder, with LoRA, an average and more positions: exported, and started from again."""

    def trained(name: str, folder, *words: str):
        source = [f"init_from=hf:{folder}", "optim.warmup_steps=0", f"run_root={tmp_path}/runs", f"run_name={name}"]
        assert run_here([*tiny_words(checkpoint.parents[3]), *source, "model.text.context_length=32", *words]) == 0
        return tmp_path / f"runs/{name}/checkpoints/last.ckpt"

    def exported(source, name: str):
        assert export([f"checkpoint={source}", "format=transformers", f"output={tmp_path}/{name}"]) == 0
        return tmp_path / name

    first = exported(checkpoint, "first")
    adapters = ["model.lora.rank=2", "optim.ema_decay=0.5", "optim.lr=0.05", "trainer.max_steps=4"]
    second = exported(trained("adapted", first, *adapters, "model.text.positions=linear"), "second")
    assert json.loads((second / "config.json").read_text())["text_config"]["max_position_embeddings"] == 32
    third = trained("again", second, "optim.lr=1e-12", "trainer.max_steps=1")
    vectors = []
    for path in (tmp_path / "runs/adapted/checkpoints/last.ckpt", third, checkpoint):
        clip = load_clip(path).clip
        encoder = ClipEncoder(clip, identity="0")
        pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        vectors.append(torch.cat([encoder.encode_image(pixels), encoder.encode_text(["a chest", "finding " * 40])]))
    torch.testing.assert_close(vectors[1], vectors[0], atol=1e-6, rtol=0)
    assert (vectors[2] - vectors[0]).abs().max() > 1e-3  # the second run had learned something
