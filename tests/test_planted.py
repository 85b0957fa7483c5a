"""No verb runs a stranger's code, whatever a model's folder, description or checkpoint says, and whatever stdin answers."""

import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

import medvlp
from medvlp.evaluate import main as evaluate
from medvlp.models.clip.text_tower import text_files
from medvlp.models.llava.language import load_language
from medvlp.models.llava.metadata import metadata_of
from medvlp.models.towers import load_tower
from medvlp.models.weights import WeightsError
from medvlp.training.checkpoints import CheckpointError
from medvlp.verbs.models.ask import main as ask
from medvlp.verbs.models.export import main as export
from medvlp.verbs.shards.check import main as check
from tests.assistants import tiny_assistant
from tests.datasets import pairs, write_split
from tests.models.tiny import TINY, tiny_architecture
from tests.plants import planted_checkpoint, planted_description, planted_folder, planted_open_clip_folder
from tests.runs import run_here, tiny_words

TASK = "name: made_retrieval\nkind: retrieval\ndata: {data}\n"
CHAT = ["model=llava", "objective=instruct", "trainer.max_steps=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    made = tmp_path_factory.mktemp("planted")
    for split in ("train", "test"):
        write_split(made / "made" / split, pairs(9))
    tiny_architecture(made)
    (made / "configs/task").mkdir(parents=True)
    (made / "configs/task/made_retrieval.yaml").write_text(TASK.format(data=made / "made"))
    return made


@pytest.fixture
def mark(tmp_path, monkeypatch, data):
    """The file that planted code leaves; every question at a prompt is answered with yes."""
    monkeypatch.chdir(data)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "planted code has run"


def test_the_plant_is_alive(tmp_path, monkeypatch):
    """By itself transformers runs it, once a "y" is typed."""
    mark = tmp_path / "ran"
    folder = planted_folder(tmp_path / "evil", mark)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    for load in (AutoConfig, AutoTokenizer):
        load.from_pretrained(folder)
        assert mark.exists()
        mark.unlink(missing_ok=True)
        folder = planted_folder(tmp_path / "again", mark)


def clip_words(data: Path, *more: str) -> list[str]:
    return [*tiny_words(data), "run_name=evil", *more]


NAMED_BY_A_USER = {
    "a description that trusts its tokenizer": (
        lambda folder, mark: [
            f"model.name={write(folder, planted_description(planted_folder(folder / 'evil', mark)))}"
        ],
        "'text_cfg.tokenizer_kwargs.trust_remote_code' is not a key",
    ),
    "a description whose tower has code": (
        lambda folder, mark: [f"model.name={write(folder, hf_description(planted_folder(folder / 'evil', mark)))}"],
        "it asks for code of its own to be run, which is never done",
    ),
    "an open_clip folder": (
        lambda folder, mark: [f"model.name=local-dir:{planted_open_clip_folder(folder / 'evil', mark)}"],
        "'text_cfg.tokenizer_kwargs.trust_remote_code' is not a key",
    ),
    "a text tower": (
        lambda folder, mark: [
            "model.name=",
            "model.vision.timm=test_vit",
            f"model.text.huggingface={planted_folder(folder / 'evil', mark)}",
        ],
        "it asks for code of its own to be run, which is never done",
    ),
}


def write(folder: Path, description: dict) -> Path:
    path = folder / "planted.json"
    path.write_text(json.dumps(description))
    return path


def hf_description(folder: Path) -> dict:
    return {**TINY, "text_cfg": {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}}


@pytest.mark.parametrize("kind", NAMED_BY_A_USER)
def test_train_runs_no_code_of_what_it_names(kind, mark, data, tmp_path, capsys):
    words, said = NAMED_BY_A_USER[kind]
    assert run_here(clip_words(data, *words(tmp_path, mark))) == 1
    assert said in capsys.readouterr().err
    assert not (data / "runs/evil").exists()


def test_known_types_are_read_as_what_they_are(mark, tmp_path):
    """A folder that has code beside a type which transformers knows: the code is not looked at, nor carried on."""
    folder = planted_folder(tmp_path / "evil", mark, kind="bert")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tokenizer_class": "PreTrainedTokenizerFast"}))
    files = text_files(str(folder))
    assert json.loads(files["config.json"])["model_type"] == "bert"
    assert not any("auto_map" in text or "planted" in text for text in files.values())


CLIP_CARDS = {
    "tokenizer_kwargs": (lambda folder: {"model_cfg": planted_description(folder)}, "is not a key that"),
    "cast_dtype": (lambda folder: {"model_cfg": {**TINY, "cast_dtype": "float16"}}, "'cast_dtype' is not a key"),
    "another hub": (
        lambda folder: {"model_cfg": {**TINY, "vision_cfg": {"timm_model_name": "hf-hub:evil/model"}}},
        "which is not one of timm's architectures",
    ),
    "types": (lambda folder: {"model_cfg": {**TINY, "embed_dim": "16"}}, "embed_dim='16', expected a whole number"),
    "sizes": (lambda folder: {"model_cfg": {**TINY, "embed_dim": 2**40}}, "expected a whole number up to"),
    "no description": (lambda folder: {"model_cfg": None}, "'None', expected a mapping"),
    "nothing": (lambda folder: {}, "its description or its weights are damaged (KeyError: 'model_cfg')"),
    "a list": (lambda folder: {"model_cfg": [1]}, "'[1]', expected a mapping"),
    "weights": (lambda folder: {"model_cfg": TINY}, "its weights do not fit its description: missing ["),
    "preprocessing": (
        lambda folder: {"model_cfg": TINY, "preprocess": {"size": 10**9, "mean": [0.5], "std": [0.5]}},
        "size='1000000000', expected",
    ),
    "a tower without its files": (
        lambda folder: {"model_cfg": hf_description(folder)},
        "its text tower's config.json is missing or damaged",
    ),
}


@pytest.mark.parametrize("kind", CLIP_CARDS)
def test_a_clips_description_is_data(kind, mark, data, tmp_path, capsys):
    """In eval, export, load, and as the tower of an assistant that is trained or checked."""
    made, said = CLIP_CARDS[kind]
    folder = planted_folder(tmp_path / "evil", mark)
    card = {"preprocess": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}, "text_files": {}, **made(folder)}
    path = planted_checkpoint(tmp_path / "evil.ckpt", clip_words(data), **card)
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        medvlp.load(path)
    for verb in (
        lambda: export([f"checkpoint={path}", f"output={tmp_path / 'out'}"]),
        lambda: evaluate([f"checkpoints=[{path}]", "tasks=[made_retrieval]", f"output={tmp_path / 'eval'}"]),
        lambda: check([*CHAT, f"data.sources.made.path={data}/made/train", f"model.vision.source={path}"]),
        lambda: run_here([*CHAT, *clip_words(data)[2:], f"model.vision.source={path}"]),
    ):
        assert verb() == 1
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error


def test_init_from_and_resume_take_weights_only(mark, data, tmp_path, capsys):
    folder = planted_folder(tmp_path / "evil", mark)
    words = clip_words(data)
    path = planted_checkpoint(
        data / "runs/planted/checkpoints/step-000001.ckpt", words, model_cfg=planted_description(folder)
    )
    assert run_here([*words, f"init_from={path}"]) == 1
    assert "does not fit" in capsys.readouterr().err
    assert run_here([*words, f"resume={path}", "run_name=planted"]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def assistant_card(tmp_path_factory):
    assistant = tiny_assistant(tmp_path_factory.mktemp("assistant"))
    return {**metadata_of(assistant), "template": "{% generation %}{% endgeneration %}"}


def edited(card: dict, *keys: str, value: object) -> dict:
    copy = json.loads(json.dumps(card))
    entry = copy
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = value
    return copy


def planted_tokenizer(card: dict, folder: Path) -> dict:
    config = {
        "tokenizer_class": "PlantedTokenizer",
        "auto_map": {"AutoTokenizer": [None, f"{folder}--planted.PlantedTokenizer"]},
    }
    return edited(card, "tokenizer_files", "tokenizer_config.json", value=json.dumps(config))


ASSISTANTS = {
    "kind": (lambda card, folder: edited(card, "kind", value="evil"), "kind='evil', expected one of llava"),
    "a language model with code": (
        lambda card, folder: edited(
            card, "model_config", "text_config", value={"model_type": "planted", "auto_map": {}}
        ),
        "model_type='planted', expected one of",
    ),
    "a tower with arguments": (
        lambda card, folder: edited(
            card,
            "model_config",
            "vision_config",
            value={"model_type": "timm_wrapper", "architecture": "hf-hub:evil/model"},
        ),
        "architecture='hf-hub:evil/model', expected one of timm's architectures",
    ),
    "lora": (
        lambda card, folder: edited(card, "lora", value={"rank": 1, "alpha": 1, "dropout": 0.0, "targets": [{}]}),
        "lora.targets=",
    ),
    "reduce": (lambda card, folder: edited(card, "reduce", value={"kind": "x", "factor": 2}), "reduce.kind='x'"),
    "tokenizer files": (lambda card, folder: edited(card, "tokenizer_files", value=[1]), "expected texts by name"),
    "tokenizer settings": (
        lambda card, folder: edited(card, "tokenizer_files", "tokenizer_config.json", value="{"),
        "tokenizer_config.json is not JSON",
    ),
    "nothing": (lambda card, folder: {}, "are damaged (KeyError: 'kind')"),
    "weights": (lambda card, folder: card, "its weights do not fit its description: missing ["),
    "kernels": (
        lambda card, folder: edited(card, "model_config", "text_config", "attn_implementation", value="evil/kernel"),
        "its weights do not fit its description: missing [",  # it is not passed on, so that only the weights are missed
    ),
    "a tokenizer with code": (planted_tokenizer, "its weights do not fit its description: missing ["),
}


@pytest.mark.parametrize("kind", ASSISTANTS)
def test_an_assistants_description_is_data(kind, mark, data, tmp_path, capsys, assistant_card):
    made, said = ASSISTANTS[kind]
    card = made(assistant_card, planted_folder(tmp_path / "evil", mark))
    words = [*CHAT, f"data.sources.made.path={data}/made/train"]
    path = planted_checkpoint(tmp_path / "evil.ckpt", words, assistant=card)
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        medvlp.load(path)
    for verb in (
        lambda: export([f"checkpoint={path}", "format=hf", f"output={tmp_path / 'out'}"]),
        lambda: ask([f"checkpoint={path}", "What is this?"]),
    ):
        assert verb() == 1
        error = capsys.readouterr().err
        assert said in error
        assert "Traceback" not in error


def test_parts_of_an_assistant_run_no_code(mark, tmp_path):
    folder = str(planted_folder(tmp_path / "evil", mark))
    for load in (load_tower, load_language):
        with pytest.raises(WeightsError, match="it asks for code of its own to be run, which is never done"):
            load(folder)


def test_a_towers_folder_names_no_kernel(tmp_path, monkeypatch):
    """`attn_implementation` of a folder may be a hub's kernel, which transformers would fetch and run."""
    from tests.assistants import tiny_tower

    folder = tiny_tower(tmp_path / "clip")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "attn_implementation": "evil/kernel"}))
    assert load_tower(str(folder)).config._attn_implementation == "sdpa"
