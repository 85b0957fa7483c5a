"""The wheel, installed away from the repository, brings its configuration along."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_an_installed_wheel_finds_configs_recipes_and_templates(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(REPOSITORY)], check=True)
    wheel = next(tmp_path.glob("medvlp-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    (tmp_path / "elsewhere").mkdir()
    code = (
        "import medvlp.config as c, medvlp.report, data_prep, pathlib\n"
        "assert 'site' in medvlp.__file__ and 'site' in data_prep.__file__\n"
        "print(c.compose('train', ['recipes=clip_rocov2']).model.vision.timm, *sorted(c.list_options('recipes')))\n"
        "print(sorted(p.name for p in (pathlib.Path(medvlp.report.__file__).parent / 'templates').iterdir()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    first, templates = run.stdout.splitlines()
    assert first.split()[0] == "tf_efficientnet_lite0"
    assert {"clip_rocov2", "eval_rocov2", "clip_mni152"} <= set(first.split()[1:])
    assert "run.html" in templates
