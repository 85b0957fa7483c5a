"""Imports of data_prep point one way: vocabulary and errors, then readers and stages, then sources, then the pipeline."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / "data_prep"

MAY_IMPORT = {
    "errors": set(),
    "png": set(),
    "vocabulary": {"errors"},
    "draft": set(),
    "source": {"errors", "draft"},
    "deidentify": {"errors"},
    "panels": set(),
    "dedup": {"errors", "draft"},
    "stages": {"errors", "draft", "png", "vocabulary", "deidentify", "panels", "dedup"},
    "readers": {"errors", "draft", "source", "png", "vocabulary"},
    "captions": {"errors", "draft", "source", "vocabulary", "readers", "deidentify"},
    "conversations": {"errors", "draft", "source", "vocabulary", "readers"},
    "sources": {"errors", "draft", "source", "png", "vocabulary", "readers", "captions", "conversations", "deidentify"},
    "plan": {"errors", "source", "stages", "vocabulary", "dedup", "deidentify"},
    "engines": {"errors"},
    "ledger": {"vocabulary", "readers"},
    "dataset_stages": {"errors", "draft", "dedup", "plan"},
    "jobs": {"draft", "source", "sources", "stages", "ledger", "dedup", "dataset_stages"},
    "finalize": {"errors", "plan", "jobs", "ledger", "dataset_stages"},
    "workspace": {"errors", "plan"},
    "pipeline": {
        *("errors", "draft", "source", "plan", "engines", "jobs", "ledger"),
        *("dataset_stages", "finalize", "workspace"),
    },
}
"""Room → the others that it may import. Entry points (cli, check) may import all of them."""

OF_MEDVLP = {
    "shards": set(MAY_IMPORT),
    "errors": {"errors", "pipeline"},
    "jsonl": {"plan", "jobs", "finalize", "workspace", "pipeline", "ledger", "dedup"},
    "claims": {"workspace"},
    "process": {"engines"},
    "boxes": {"conversations", "sources"},
    "combinations": {"plan", "pipeline", "dataset_stages"},
    "config": {"plan", "pipeline", "captions", "readers", "sources"},
    "data.images": {"conversations", "draft", "stages", "readers"},
    "wording": {"captions", "sources"},
    "report": {"pipeline", "ledger", "dataset_stages"},
}
"""What of medvlp is imported → the rooms that may: the samples' contract by all, how training shows an image by what
decodes, configuration by what it configures, reports by what writes them."""


def imported(path: Path) -> set[str]:
    """Modules that a file imports, at its top or later, but not for types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    modules = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return modules


def files_of(room: str) -> list[Path]:
    folder = ROOT / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(room):
    for path in files_of(room):
        rooms = {module.split(".")[1] for module in imported(path) if module.startswith("data_prep.")}
        assert rooms <= MAY_IMPORT[room] | {room}, path


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_of_medvlp_only_what_it_may(room):
    for path in files_of(room):
        for module in imported(path):
            if module.startswith("medvlp."):
                name = next((name for name in OF_MEDVLP if f"{module}.".startswith(f"medvlp.{name}.")), module)
                assert room in OF_MEDVLP.get(name, ()), f"{path}: {module}"


def test_every_room_is_known():
    rooms = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__", "cli", "check"} == set(MAY_IMPORT)


def test_no_folder_has_more_than_twelve_modules():
    for folder in [ROOT, *(path.parent for path in ROOT.rglob("__init__.py"))]:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 12, folder
