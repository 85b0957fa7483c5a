import subprocess
import sys

import pytest

from medvlp.cli import VERBS, main


def test_help_loads_next_to_nothing():
    """By the number of modules, which does not depend on how busy a machine is; half a second has room for it."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "medvlp.cli", "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0
    assert all(f"  {verb} " in run.stdout for verb in VERBS)
    assert run.stderr.count("import time:") < 200


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_that_needs_no_torch(verb):
    code = f"import sys\nfrom medvlp.cli import main\ncode = main([{verb!r}, '--help'])\nprint('torch' in sys.modules, code)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-1] == "False 0", run.stderr
    assert "medvlp" in run.stdout


def test_an_unknown_verb_is_a_usage_error_with_the_nearest(capsys):
    assert main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err


def test_no_verb_is_a_usage_error(capsys):
    assert main([]) == 2
    assert "usage: medvlp" in capsys.readouterr().out


def test_list_shows_a_line_each(capsys):
    assert main(["list", "tasks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["rocov2_retrieval", "retrieval"] for line in lines), lines
    assert main(["list", "sources"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} >= {"rocov2", "medmnist", "mni152"}
    assert main(["list", "nonsense"]) == 2


def test_a_missing_shard_folder_is_met_with_the_prep_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDVLP_DATA", raising=False)
    assert main(["train", "recipes=clip_rocov2"]) == 1
    said = capsys.readouterr().err
    assert "medvlp prep source=rocov2" in said
    assert "output=data/rocov2" in said
