"""Imports point one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FREE_OF_TORCH = [
    "medvlp.losses",
    "medvlp.shards",
    "medvlp.config",
    "medvlp.report",
    "medvlp.cli",
    "data_prep",
    "data_prep.cli",
]
MAY_IMPORT = {
    "config": {"losses"},  # their table and their options, which know nothing of torch
    "shards": set(),
    "data": {"shards"},
    "models": set(),
    "losses": set(),
    "training": {"config", "shards", "data", "models", "losses", "jsonl", "claims"},
    "eval": {"config", "shards", "data", "models", "losses", "jsonl"},
    "report": {"shards", "data", "config", "jsonl"},
}
FOR_ALL = {"distributed", "errors", "jsonl", "process", "terminal"}
"""Modules that every room may import."""
LIGHTNING = {"medvlp/data/datamodule.py"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_it_may(room):
    files = sorted((ROOT / "medvlp" / room).rglob("*.py"))
    assert files
    for path in files:
        used = {name.split(".")[1] for name in imports(path) if name.startswith("medvlp.")}
        assert used <= MAY_IMPORT[room] | FOR_ALL | {room}, path


def test_only_entry_points_import_builders():
    users = [p for p in (ROOT / "medvlp").rglob("*.py") if any(n.startswith("medvlp.builders") for n in imports(p))]
    assert {path.parent for path in users} == {ROOT / "medvlp", ROOT / "medvlp/builders", ROOT / "medvlp/verbs"}


def test_lightning_stays_in_its_rooms():
    for path in (ROOT / "medvlp").rglob("*.py"):
        if any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imports(path)):
            place = path.relative_to(ROOT).as_posix()
            assert place in LIGHTNING or place.startswith("medvlp/training/"), place


def test_hydra_and_omegaconf_stay_in_config():
    for path in [*(ROOT / "medvlp").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]:
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports(path)):
            assert path.is_relative_to(ROOT / "medvlp/config"), path


@pytest.mark.parametrize("module", FREE_OF_TORCH)
def test_importing_it_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit(any(m.split('.')[0] == 'torch' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
