"""Without a Slurm here, its scripts are run by hand: `sbatch` is a stand-in that notes how it is called."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.engines import slurm
from data_prep.errors import PrepError

ODD = ["source=rocov2", "input=/data/o'clock $(touch pwned) `id`", 'options.note="a; b"', "flag=a\nb", "workers=3"]


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_everything_once(jobs, count):
    shares = [slurm.share(range(jobs), index, count) for index in range(count)]
    assert sorted(number for numbers in shares for number in numbers) == list(range(jobs))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"SLURM_ARRAY_TASK_COUNT": "4"}, None),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "1"}, (0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, (3, 4)),
    ],
)
def test_task(monkeypatch, variables, expected):
    _only(monkeypatch, variables)
    assert slurm.task() == expected


@pytest.mark.parametrize(("index", "count"), [("4", "4"), ("0", None), ("x", "2"), ("-1", "2"), ("0", "0"), ("", "1")])
def test_variables_that_make_no_sense(monkeypatch, index, count):
    _only(monkeypatch, {"SLURM_ARRAY_TASK_ID": index, **({"SLURM_ARRAY_TASK_COUNT": count} if count else {})})
    with pytest.raises(PrepError, match=r"SLURM_ARRAY_TASK_ID=.*submit units.sbatch as it was written"):
        slurm.task()


def _only(monkeypatch, variables):
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_library_call_has_no_line_to_repeat(tmp_path):
    with pytest.raises(PrepError, match=r"use `medvlp prep ... engine=slurm`"):
        slurm.write_scripts(tmp_path, [], 2)


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """Scripts in a folder with an odd name, written from another; the interpreter is replaced by one that shows itself."""
    script = tmp_path / "show"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "print(repr((sys.argv[1:], os.getcwd(), os.environ['SLURM_ARRAY_TASK_COUNT'])))\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    work, output = tmp_path / "it's work", tmp_path / "-out put"
    work.mkdir()
    output.mkdir()
    monkeypatch.chdir(work)
    message = slurm.write_scripts(output, [*ODD, "engine=slurm"], 3)
    folder = tmp_path / "-out put.slurm"
    assert f"sh {shlex.quote(str(folder / 'submit.sh'))}" in message
    return folder


def _by_hand(script: Path, **variables: str):
    environment = {**os.environ, "SLURM_ARRAY_TASK_COUNT": "1", **variables}
    # Slurm runs a copy from its spool folder.
    ran = subprocess.run(
        ["bash"], input=script.read_bytes(), env=environment, cwd="/", capture_output=True, check=True
    ).stdout.decode()
    return eval(ran, {"__builtins__": {}})  # what the stand-in above printed


def test_the_lines_say_what_was_said(scripts, tmp_path):
    arguments, folder, count = _by_hand(scripts / "units.sbatch", SLURM_ARRAY_TASK_ID="2")
    assert arguments == ["-m", "medvlp.cli", "prep", *ODD, "engine=slurm"]
    assert (folder, count) == (str(tmp_path / "it's work"), "3")
    arguments, folder, _ = _by_hand(scripts / "finish.sbatch", SLURM_CPUS_PER_TASK="4")
    assert arguments == ["-m", "medvlp.cli", "prep", *ODD[:-1], "engine=local", "workers=4"]
    assert folder == str(tmp_path / "it's work")
    assert not list(tmp_path.rglob("pwned"))


def test_directives_hold_no_path(scripts):
    directives = [line for line in (scripts / "units.sbatch").read_text().splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --array=0-2" in directives
    assert "#SBATCH --requeue" in directives
    assert not any("/" in line for line in directives)


def test_submit(scripts, tmp_path):
    stand_in = tmp_path / "bin" / "sbatch"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f'#!/bin/sh\nprintf "%s|" "$PWD" "$@" >> {shlex.quote(str(tmp_path / "calls"))}\n'
        f'echo >> {shlex.quote(str(tmp_path / "calls"))}\necho "123;cluster"\n'
    )
    stand_in.chmod(0o755)
    path = f"{stand_in.parent}:{os.environ['PATH']}"
    subprocess.run(["sh", str(scripts / "submit.sh"), "--time=4:00:00"], env={**os.environ, "PATH": path}, check=True)
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{scripts}|--parsable|--time=4:00:00|units.sbatch|",
        f"{scripts}|--time=4:00:00|--dependency=afterok:123|--kill-on-invalid-dep=yes|finish.sbatch|",
    ]
