"""Only what is listed reaches a loader; and every loader is told that no code may run."""

import ast
import json
import re
from pathlib import Path

import open_clip
import pytest
import transformers

from medvlp.models.clip.sources import named
from medvlp.models.descriptions import (
    checked,
    clip_description,
    config_description,
    only,
    plain,
    tokenizer_files,
)
from medvlp.models.weights import WeightsError
from tests.conftest import REPOSITORY
from tests.models.tiny import TINY

LOADERS = re.compile(
    r"Auto\w+\.(from_pretrained|from_config)$|\bkind\.from_pretrained$|\bHFTokenizer$|PeftModel\.from_pretrained$"
)


def test_all_that_open_clip_ships_passes_unchanged():
    names = open_clip.list_models()
    assert len(names) > 100
    for name in names:
        description = open_clip.get_model_config(name)
        assert clip_description(description, name) == description


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"output_dict": True}, "'output_dict' is not a key"),
        (
            {"vision_cfg": {**TINY["vision_cfg"], "layers": 10**9}},
            "vision_cfg.layers='1000000000', expected a whole number below",
        ),
        (
            {"vision_cfg": {**TINY["vision_cfg"], "image_size": [32, "32"]}},
            "vision_cfg.image_size='32', expected a whole",
        ),
        ({"text_cfg": {"width": True}}, "text_cfg.width='True', expected a whole number"),
        ({"text_cfg": {"mlp_ratio": float("nan")}}, "text_cfg.mlp_ratio='nan', expected a number"),
        (
            {"text_cfg": {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}}},
            "'text_cfg.tokenizer_kwargs.bpe_path' is not a key",
        ),
        ({"text_cfg": {"tokenizer_mode": "evil"}}, "expected one of clips"),
        ({"text_cfg": {"hf_model_name": "a\x1b[2J"}}, "expected a short name"),
        ({"text_cfg": None}, "text_cfg is missing"),
        ({"text_cfg": "roberta"}, "text_cfg='roberta', expected a mapping"),
    ],
)
def test_what_is_not_listed_is_refused_by_file_and_key(change, said):
    with pytest.raises(WeightsError, match=r"^file\.json: ") as error:
        clip_description({**TINY, **change}, "file.json")
    assert said in str(error.value)


def test_a_files_name_is_no_other_description(tmp_path, monkeypatch):
    """Under this name open_clip would take the folder's description, which nobody has looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/open_clip_config.json").write_text(json.dumps({"model_cfg": {**TINY, "embed_dim": 8}}))
    (tmp_path / "local-dir:evil.json").write_text(json.dumps(TINY))
    for name in ("local-dir:evil.json", f"{tmp_path}/local-dir:evil.json"):
        with pytest.raises(WeightsError, match="give the file a name without a colon"):
            named(name)


def test_a_configuration_keeps_the_fields_of_its_class_alone():
    planted = {
        "auto_map": {"AutoModel": "evil.Model"},
        "attn_implementation": "evil/kernel",
        "_attn_implementation": "evil/kernel",
        "quantization_config": {"quant_method": "evil"},
        "trust_remote_code": True,
    }
    values = transformers.BertConfig(hidden_size=16).to_dict()
    description = config_description({**values, **planted}, ("bert",), "here")
    assert description["hidden_size"] == 16
    assert not set(planted) & set(description)
    wrapped = {"model_type": "timm_wrapper", "architecture": "resnet18", "model_args": {"checkpoint_path": "evil.pth"}}
    assert "model_args" not in config_description(wrapped, ("timm_wrapper",), "here")
    for kind in ("planted", None, 3):
        with pytest.raises(WeightsError, match="expected one of bert"):
            config_description({"model_type": kind}, ("bert",), "here")


def test_values_are_what_json_can_hold():
    deep: object = 0
    for _ in range(40):
        deep = [deep]
    for value in (deep, {"a": object()}, {"a": b"bytes"}):
        with pytest.raises(WeightsError):
            plain(value, "here")
    assert plain({1: (2, None)}, "here") == {"1": [2, None]}
    assert only({"size": 3, "auto_map": {}}, {"size"}, "here") == {"size": 3}
    assert checked((0.5, 0.5), [float], "here") == (0.5, 0.5)


def test_a_tokenizers_settings_are_those_of_tokenizing():
    config = {
        "pad_token": "[PAD]",
        "model_max_length": 8,
        "auto_map": {"AutoTokenizer": ["evil.T", None]},
        "name_or_path": "/a",
    }
    files = tokenizer_files(
        {"tokenizer_config.json": json.dumps(config), "evil.py": "x"}, ("tokenizer_config.json",), "here"
    )
    assert set(files) == {"tokenizer_config.json"}
    assert json.loads(files["tokenizer_config.json"]) == {"pad_token": "[PAD]", "model_max_length": 8}


def calls() -> list[tuple[str, str, set[str]]]:
    """(place, what is called, its keywords) for every call in the packages, and in the scripts that they start."""
    call_sites = []
    for path in [*(REPOSITORY / "medvlp").rglob("*.py"), *(REPOSITORY / "data_prep").rglob("*.py")]:
        trees = [ast.parse(path.read_text(encoding="utf-8"))]
        for node in ast.walk(trees[0]):
            if (
                isinstance(node, ast.Assign)
                and getattr(node.targets[0], "id", "") == "RELOAD"
                and path.name == "equality.py"
            ):
                assert isinstance(node.value, ast.Constant)
                trees.append(ast.parse(str(node.value.value)))
        call_sites += [
            (f"{path.name}:{node.lineno}", ast.unparse(node.func), {word.arg or "**" for word in node.keywords})
            for tree in trees
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        ]
    return call_sites


def test_every_loader_is_told_that_no_code_may_run():
    loads = [call for call in calls() if LOADERS.search(call[1])]
    assert len(loads) >= 15
    allowed = {"PeftModel.from_pretrained"}  # of our own folder, onto a model that is there; it takes no code
    silent = [call for call in loads if "trust_remote_code" not in call[2] and call[1] not in allowed]
    assert silent == []


def test_open_clips_own_lookups_are_not_used():
    """`get_tokenizer` passes a description's keywords on, and a text tower's name is looked up by itself."""
    files = [path for path in (REPOSITORY / "medvlp").rglob("*.py") if path.parts[-2:] != ("export", "open_clip.py")]
    assert [path for path in files if "open_clip.get_tokenizer" in Path(path).read_text(encoding="utf-8")] == []
