"""Files are whole or absent, wherever the package writes one."""

import ast
from pathlib import Path

import pytest

from medvlp.shards import ShardError
from medvlp.shards.atomic import remove_leftovers, whole_file, write_text

ROOT = Path(__file__).resolve().parents[2]
WRITERS = {"write_text", "write_bytes"}
IN_FOLDERS_OF_THEIR_OWN = {
    "medvlp/export/assistant.py",  # into a new folder, renamed when all is in it: export/folder.py
    "medvlp/export/classifier.py",
    "medvlp/export/transformers.py",
    "medvlp/export/equality.py",
    "medvlp/export/clip/dual_encoders.py",
    "medvlp/export/clip/tokenizers.py",
    "medvlp/export/clip/onnx.py",
    "medvlp/export/clip/check.py",
    "medvlp/export/open_clip.py",
    "medvlp/eval/store/folder.py",
    "medvlp/costs/stand_ins.py",  # temporary folders
    "medvlp/models/clip/sources.py",
    "medvlp/models/clip/text_tower.py",
    "medvlp/models/llava/metadata.py",
    "medvlp/models/towers/processors.py",
}


def test_no_file_is_written_in_place():
    for path in [*(ROOT / "medvlp").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]:
        where = path.relative_to(ROOT).as_posix()
        if where in IN_FOLDERS_OF_THEIR_OWN:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            is_method = isinstance(node.func, ast.Attribute) and node.func.attr in WRITERS
            is_open = isinstance(node.func, ast.Name) and node.func.id == "open" and not reads(node)
            assert not (is_method or is_open) or where in ALLOWED, f"{where}:{node.lineno} writes a file in place"


ALLOWED = {"medvlp/jsonl.py", "data_prep/deidentify/pseudonym.py"}
"""Appends whole lines; makes a key that must not exist, beside, and links it."""


def reads(call: ast.Call) -> bool:
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return all(isinstance(mode, ast.Constant) and set(str(mode.value)) <= set("rbt") for mode in modes)


def test_text_replaces_a_file_or_leaves_it(tmp_path):
    path = tmp_path / "config.yaml"
    write_text(path, "lr: 1  # Röntgen \udcff")
    assert path.read_bytes() == "lr: 1  # Röntgen \\udcff".encode()
    with pytest.raises(ShardError, match=r"cannot write .*config\.yaml"):
        write_text(path / "below", "")
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    names = [".config.yaml.0123.partial", "checkpoints/.step-000003.ckpt.4567.partial"]
    others = ["mine.partial", "checkpoints/.hidden", "checkpoints/last.ckpt"]
    for name in names + others:
        (tmp_path / name).write_bytes(b"")
    assert [path.relative_to(tmp_path).as_posix() for path in remove_leftovers(tmp_path)] == sorted(names)
    assert all((tmp_path / name).exists() for name in others)


def test_what_is_being_written_is_no_leftover(tmp_path):
    with whole_file(tmp_path / "features.npy") as file:
        file.write(b"half")
        assert remove_leftovers(tmp_path) == []
        file.write(b" and half")
    assert (tmp_path / "features.npy").read_bytes() == b"half and half"
