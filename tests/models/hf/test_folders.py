"""What `hf:` names stand for, and what is refused before any weights are read."""

import json
import os
import sys
import time

import pytest

from medvlp.builders.models import identity_of, model_kind_of, named_model
from medvlp.builders.objectives import initial_weights
from medvlp.config import ConfigError, EvalConfig
from medvlp.config.evaluation.load import LoadConfig
from medvlp.config.model_names import parse_model_name
from medvlp.errors import UserError
from medvlp.eval.store.root import store_root
from medvlp.models.hf.folders import content_files, model_folder
from medvlp.models.weights import WeightsError
from tests.assistants import tiny_language
from tests.models.hf.encoder_families import ENCODERS
from tests.models.hf.families import CHAT


def kind(folder):
    return model_kind_of(parse_model_name(f"hf:{folder}"))


def written(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("description", "title"),
    [
        ({"model_type": "clip", "architectures": ["CLIPModel"]}, "a CLIP-like model"),
        ({"model_type": "siglip2"}, "a CLIP-like model"),
        ({"model_type": "blip", "architectures": ["BlipModel"]}, "a CLIP-like model"),
        ({"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}, "a model of images and text"),
        ({"model_type": "qwen2_5_vl"}, "a model of images and text"),
        ({"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}, "a model of images and text"),
        ({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}, "a language model"),
        ({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}, "a language model"),
        ({"model_type": "llama"}, "a language model"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "an encoder of texts"),
    ],
)
def test_a_kind_is_told_by_the_description_alone(description, title, tmp_path):
    assert kind(written(tmp_path, config=description)).title == title


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"config": {"model_type": "bert", "architectures": ["BertForMaskedLM"]}},
            r"is a bert \(BertForMaskedLM\), which no task can",
        ),
        (
            {"config": {"model_type": "qwen2", "architectures": ["Qwen2Model"]}},
            r"is a qwen2 \(Qwen2Model\), which no task",
        ),
        ({"config": {"model_type": "florence2"}}, "is a florence2"),
        (
            {"config": {"model_type": "brand_new"}},
            r"is a brand_new \(no architecture named\).*AutoModelForImageTextToText",
        ),
        ({"config": {}}, "is a model without model_type"),
        ({"config": []}, "holds no JSON object"),
        (
            {"config": {"model_type": "phi3", "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}}},
            r"config.json asks for code of the repository to be run \(auto_map\), which is never done",
        ),
        (
            {"config": {"model_type": "llava"}, "processor_config": {"auto_map": {"AutoProcessor": "p.P"}}},
            "processor_config.json asks for code",
        ),
        ({"adapter_config": {}}, "an adapter without the model under it; merge it"),
        ({"open_clip_config": {}}, "write open_clip:"),
        ({}, "no config.json in the folder"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_weights(files, said, tmp_path):
    with pytest.raises(WeightsError, match=said):
        kind(written(tmp_path, **files))


def test_pickles_are_not_read(tmp_path):
    folder = tiny_language(tmp_path / "language")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    name = parse_model_name(f"hf:{folder}")
    for use in (
        lambda: identity_of(name),
        lambda: named_model(name).open("cpu", EvalConfig(checkpoints=["x"], tasks=["y"])),
    ):
        with pytest.raises(
            WeightsError, match=r"no safetensors weights; pytorch_model.bin is a pickle, which is never read"
        ):
            use()


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    folder = tiny_language(tmp_path / "language")
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**description, "num_hidden_layers": 3}))
    with pytest.raises(WeightsError, match="lacks weights of its model"):
        named_model(parse_model_name(f"hf:{folder}")).open("cpu", EvalConfig(checkpoints=["x"], tasks=["y"]))


@pytest.mark.parametrize("part", ["", "text_config", "vision_config"])
def test_no_start_of_a_training_fetches_an_attention_that_its_folder_names(part, tmp_path):
    folder = CHAT["llava"](tmp_path / "llava")
    description = json.loads((folder / "config.json").read_text())
    (description[part] if part else description)["attn_implementation"] = "someone/kernels"
    (folder / "config.json").write_text(json.dumps(description))
    assert initial_weights(f"hf:{folder}")[0]


def test_no_start_of_a_training_runs_code_or_is_of_another_kind(tmp_path):
    planted = {"model_type": "llava", "auto_map": {"AutoModelForImageTextToText": "m.M"}}
    for description, said in ((planted, "asks for code of the repository"), ({"model_type": "llama"}, "is a language")):
        folder = written(tmp_path, config=description)
        with pytest.raises(WeightsError, match=rf"init_from=hf:.*{said}.*Expected an assistant"):
            initial_weights(f"hf:{folder}")


def test_an_attention_that_the_folder_names_is_not_fetched(tmp_path):
    folder = tiny_language(tmp_path / "language")
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**description, "attn_implementation": "someone/kernels"}))
    model = named_model(parse_model_name(f"hf:{folder}")).open("cpu", EvalConfig(checkpoints=["x"], tasks=["y"]))
    assert model.generator.model.config._attn_implementation in ("sdpa", "eager")


def test_a_name_that_is_not_here_says_what_to_download(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", f"{tmp_path}/hub")
    name = parse_model_name("hf:some-lab/some-vlm@v1")
    for use in (model_kind_of, identity_of):
        with pytest.raises(WeightsError) as caught:
            use(name)
        for part in (
            "hf:some-lab/some-vlm@v1 is not on this machine, and the Hugging Face hub does not give it",
            "hf download some-lab/some-vlm --revision v1 --include '*.safetensors' '*.json'",
            f"models--some-lab--some-vlm to {tmp_path}/hub",
            "name the model hf:<folder>",
        ):
            assert part in str(caught.value)


def test_a_name_of_the_hub_stands_for_one_commit_until_the_process_ends(tmp_path, monkeypatch):
    asked = []

    def answer(name, file="", revision=None, **patterns):
        """A hub whose branch moves with every question."""
        asked.append(revision)
        folder = tmp_path / "snapshots" / (revision or f"{len(asked):040d}")
        folder.mkdir(parents=True, exist_ok=True)
        for written_file in ("config.json", *(["model.safetensors"] if patterns else [])):
            (folder / written_file).write_text("{}")
        return str(folder / file)

    monkeypatch.setattr("medvlp.models.hf.folders.hf_hub_download", answer)
    monkeypatch.setattr("medvlp.models.hf.folders.snapshot_download", answer)
    name = parse_model_name("hf:some-lab/moving")
    commit = named_model(name).origin()["revision"]
    for weights in (True, False, True):
        assert model_folder(name.target, weights=weights)[0].name == commit
    identity_of(name)
    assert asked == [None, commit]
    assert named_model(parse_model_name("hf:some-lab/moving@v2")).origin() == {"revision": "v2"}


def test_hashes_of_weights_are_remembered_when_a_model_is_opened(tmp_path, monkeypatch):
    folder = ENCODERS["clip"](tmp_path / "clip")
    past = time.time() - 60
    for path in folder.iterdir():
        os.utime(path, (past, past))
    monkeypatch.setattr("medvlp.models.digests.is_quiet", lambda path: True)
    config = EvalConfig(checkpoints=["x"], tasks=["y"])
    config.cache.dir = str(tmp_path / "cache")
    name = parse_model_name(f"hf:{folder}")
    expected = identity_of(name, store_root(config.cache))
    monkeypatch.setattr("medvlp.models.digests._sha256", lambda path: pytest.fail(f"{path} is hashed again"))
    assert named_model(name).open("cpu", config).identity == expected


def test_names_that_are_neither_a_folder_nor_of_the_hub():
    for name in ("a/b/c", "some name"):
        with pytest.raises(WeightsError, match=r"neither a folder with config.json nor a name on the Hugging Face hub"):
            model_folder(name)
    with pytest.raises(UserError, match=r"package 'no_such_package' is not installed"):
        model_folder("package:no_such_package/x.gguf")


def test_a_folder_has_no_revision(tmp_path):
    with pytest.raises(WeightsError, match="is a folder on this machine, which has no revision 'main'"):
        model_folder(str(tiny_language(tmp_path / "language")), "main")


def test_the_files_that_count(tmp_path):
    folder = CHAT["llava"](tmp_path / "llava")
    names = [path.name for path in content_files(folder)]
    assert "model.safetensors" in names
    assert "processor_config.json" in names
    assert "chat_template.jinja" in names
    assert names == sorted(names)


def test_all_files_next_to_a_gguf_file_that_decide_its_answers_count(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    name, identities = parse_model_name(f"hf:{tmp_path}/m.gguf"), []
    for file in (
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "merges.txt",
        "tokenizer.model",
    ):
        identities.append(identity_of(name))
        (tmp_path / file).write_text("{}")
    identities.append(identity_of(name))
    assert len(set(identities)) == len(identities)
    for file in ("other.gguf", "model.safetensors", "model.safetensors.index.json", "README.md"):
        (tmp_path / file).write_text("{}")
    assert identity_of(name) == identities[-1]


def test_keys_that_are_not_known():
    for options, said in (
        ({"quantization": "int3"}, r"load.quantization='int3' is not known; expected nf4"),
        ({"device_map": "cuda:7"}, "load.device_map='cuda:7' is not known"),
        ({"dtype": "float8"}, "load.dtype"),
        ({"attention": "kernels-community/flash"}, "load.attention"),
    ):
        with pytest.raises(ConfigError, match=said):
            LoadConfig(**options).check()


def test_four_bits_need_their_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = EvalConfig(checkpoints=["x"], tasks=["y"])
    config.load.quantization = "nf4"
    folder = tiny_language(tmp_path / "language")
    with pytest.raises(WeightsError, match=r"load.quantization=nf4 needs bitsandbytes.*medvlp\[qlora\]"):
        named_model(parse_model_name(f"hf:{folder}")).open("cpu", config)


def test_a_model_that_is_not_of_one_vector_an_image_is_refused(tmp_path, monkeypatch):
    folder = ENCODERS["clip"](tmp_path / "clip")
    monkeypatch.setattr(
        "transformers.CLIPModel.get_text_features", lambda self, input_ids: input_ids[..., None].float()
    )
    with pytest.raises(WeightsError, match="gives features of the shapes"):
        named_model(parse_model_name(f"hf:{folder}")).open("cpu", EvalConfig(checkpoints=["x"], tasks=["y"]))
