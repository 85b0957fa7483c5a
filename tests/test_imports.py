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
    "medvlp.verbs.results.compare",
    "data_prep",
    "data_prep.cli",
]
LIBRARIES = {"config", "data", "losses", "models", "shards"}
MAY_IMPORT: dict[str, set[str]] = {
    # modules that every room may import
    "augment": {"shards"},
    "boxes": {"shards"},
    "combinations": {"shards"},
    "selection": {"shards"},
    "wording": {"shards"},
    "distributed": set(),
    "errors": set(),
    "jsonl": {"shards"},
    "process": set(),
    "terminal": set(),
    # rooms, from the ground up
    "shards": set(),
    "losses": set(),
    "config": {"costs", "losses"},  # their tables and their options, which know nothing of torch
    "costs": set(),
    "models": set(),
    "data": {"shards"},
    "claims": set(),
    "environment": {"config"},
    "training": LIBRARIES | {"claims"},
    "eval": LIBRARIES,
    "report": {"config", "data", "shards"},
    "export": LIBRARIES | {"training"},  # of training, only how a checkpoint is read
    "runs": {"claims", "config", "report", "shards", "training"},
    "builders": LIBRARIES | {"cli", "costs", "eval", "training"},  # of cli, the table of verbs, which knows data_prep
    # entry points
    "__init__": {"builders", "config", "data", "export"},
    "cli": set(),
    "components": {"builders", "config", "environment", "report", "runs", "training"},
    "train": {"cli", "components", "config", "runs", "training"},
    "sweep": {"builders", "claims", "config", "environment", "eval", "report", "shards", "training"},
    "evaluate": {"cli", "config", "sweep"},
    "verbs": {
        "builders",
        "claims",
        "cli",
        "config",
        "costs",
        "data",
        "environment",
        "eval",
        "export",
        "models",
        "report",
        "shards",
        "training",
    },
}
"""Room or top-level module of medvlp → those that it may import; what is not listed here fails."""
WORDS = "medvlp.shards.vocabulary"
"""Words of the samples' contract: a module that imports nothing, for every room."""
FOR_ALL = {
    "augment",
    "boxes",
    "combinations",
    "distributed",
    "errors",
    "jsonl",
    "process",
    "selection",
    "terminal",
    "wording",
}
KNOW_DATA_PREP = {"sweep", "verbs"}
MODULES_SIDE_BY_SIDE = 12
LIGHTNING = {"medvlp/data/datamodule.py"}


def imports(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def rooms_of(package: str) -> set[str]:
    """Folders and modules at the top level of a package."""
    return {path.relative_to(ROOT / package).parts[0].removesuffix(".py") for path in (ROOT / package).rglob("*.py")}


def test_every_room_is_listed():
    assert rooms_of("medvlp") == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_it_may(room):
    folder = ROOT / "medvlp" / room
    rooms = rooms_of("medvlp")
    for path in sorted(folder.rglob("*.py")) or [folder.with_suffix(".py")]:
        names = {name for name in imports(path) if not f"{name}.".startswith(f"{WORDS}.")}
        used = {name.split(".")[1] for name in names if name.startswith("medvlp.")} & rooms
        assert used <= MAY_IMPORT[room] | FOR_ALL | {room}, path
        assert room in KNOW_DATA_PREP or not any(name.split(".")[0] == "data_prep" for name in names), path


def test_only_entry_points_import_builders():
    importing = {room for room, allowed in MAY_IMPORT.items() if "builders" in allowed}
    assert importing == {"__init__", "components", "sweep", "verbs"}


@pytest.mark.parametrize("package", ["medvlp", "data_prep"])
def test_no_folder_holds_more_modules_than_one_sees_at_a_glance(package):
    for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MODULES_SIDE_BY_SIDE, folder


def test_lightning_stays_in_its_rooms():
    for path in (ROOT / "medvlp").rglob("*.py"):
        if any(name.split(".")[0] in ("lightning", "pytorch_lightning") for name in imports(path)):
            file = path.relative_to(ROOT).as_posix()
            assert file in LIGHTNING or file.startswith("medvlp/training/"), file


def test_hydra_and_omegaconf_stay_in_config():
    for path in [*(ROOT / "medvlp").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]:
        if any(name.split(".")[0] in ("hydra", "omegaconf") for name in imports(path)):
            assert path.is_relative_to(ROOT / "medvlp/config"), path


@pytest.mark.parametrize("module", FREE_OF_TORCH)
def test_importing_it_does_not_import_torch(module):
    code = f"import sys, {module}; sys.exit(any(m.split('.')[0] == 'torch' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
