"""docs/how-to/add-a-source.md, done as it says: one module, one line in the table."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from data_prep import sources
from data_prep.pipeline import prepare
from medvlp.report import write_prep_report
from medvlp.shards import ShardDataset
from tests.data_prep.folders import jpeg
from tests.data_prep.sources.questions.records.miniatures import write_csv, write_images

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "add-a-source.md"


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """The source of the page, and a folder for it with three images, and one that is missing."""
    code, line, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    module = ModuleType("data_prep.sources.figures.mine")
    exec(compile(code, "mine.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name, target in eval(f"{{{line}}}").items():
        monkeypatch.setitem(sources.SOURCES, name, target)
    folder = tmp_path / "colours"
    (folder / "images").mkdir(parents=True)
    names = ["red.jpg", "green.jpg", "blue.jpg"]
    for number, name in enumerate(names):
        (folder / "images" / name).write_bytes(jpeg(number))
    entries = [{"file": name, "caption": f"A picture that is called {name}."} for name in [*names, "lost.jpg"]]
    (folder / "captions.json").write_text(json.dumps(entries))
    return folder


def test_the_page_works(colours, tmp_path):
    result = prepare("mine", colours, tmp_path / "out", modality=False)
    assert (result.ledger["in"], result.ledger["out"]) == (4, 3)
    assert result.ledger["drops"] == {"read": {"missing_image": 1}}
    sample = ShardDataset(tmp_path / "out" / "train").read(0)
    assert (sample.texts["caption"], sample.metadata["licence"]) == ("A picture that is called red.jpg.", "CC0-1.0")
    assert "Colours: plain images" in sources.descriptions()["mine"]
    address = "https://example.org/colours"
    assert address in write_prep_report(tmp_path / "out").read_text()
    assert all(address in (tmp_path / "out" / name).read_text() for name in ("README.md", "ATTRIBUTION.md"))
    assert "It has no options." in sources.source_help("mine")


def test_the_mapping_of_the_page_works(tmp_path):
    (page,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "mine.yaml").write_text(page, encoding="utf-8")
    folder = tmp_path / "colours"
    row = {"number": 7, "file": "red.jpg", "text": "Which colour?", "option_a": "red", "option_b": "blue"}
    write_csv(folder / "train.csv", row | {"solution": "A", "topic": "hue", "painter": "Ann", "size": 3})
    write_images(folder / "images", "red.jpg")
    mapping = str(tmp_path / "mine.yaml")
    result = prepare("records", str(folder), tmp_path / "out", options={"mapping": mapping})
    assert result.ledger["counts"]["read"]["fields ignored: size"] == 1
    sample = ShardDataset(tmp_path / "out" / "train").read(0)
    assert [turn.text for turn in sample.conversations[0].turns] == ["<image>\nWhich colour?", "red"]
    assert sample.conversations[0].metadata["options"] == {"A": "red", "B": "blue"}
    assert (sample.metadata["group"], sample.metadata["group_kind"]) == ("Ann", "painter")
    assert (sample.metadata["licence"], sample.metadata["source"]) == ("CC0-1.0", "mine")
