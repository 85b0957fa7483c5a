"""Fields that nobody asked for are counted by name, in every source whose rows hold fields."""

import json
from collections import Counter

import numpy as np
import pytest

from data_prep.readers.fields import MAX_NAMES, MAX_TEXT, Entry, count_ignored, says_something
from data_prep.sources import open_source
from tests.data_prep.folders import jpeg
from tests.data_prep.sources.figures.test_pmc_oa import write_pmc_oa
from tests.data_prep.sources.labels.test_medmnist import write_npz


def counts_of(source):
    total = Counter()
    for unit in source.units():
        list(source.read(unit))
        total += source.counts
    return {name: number for (_, name), number in total.items()}


def test_what_was_not_asked_for():
    entry = Entry({"a": 1, "b": "text", "c": "", "d": None, "e": float("nan"), "f": [], "g": 0, "h": False})
    entry["a"], entry.get("missing"), "b" in entry
    assert entry.ignored() == ("b", "g", "h")


@pytest.mark.parametrize("value", ["", " \n", None, float("nan"), [], {}])
def test_what_says_nothing(value):
    assert not says_something(value)


def test_names_that_are_data_are_not_counted_without_end():
    counts = Counter()
    for number in range(3 * MAX_NAMES):
        count_ignored(counts, [f"patient {number}", "\ud800\x1b" + "x" * 99])
    assert len(counts) == MAX_NAMES + 1
    assert counts["read", "fields ignored: (further names)"] == 2 * MAX_NAMES + 1
    assert counts["read", "fields ignored: ??" + "x" * 57 + "…"] == 3 * MAX_NAMES


def test_of_json(tmp_path):
    turns = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "This."}]
    entries = [{"id": 1, "weight": 2, "note": "", "conversations": turns}, {"id": 2, "conversations": turns}]
    (tmp_path / "train.json").write_text(json.dumps(entries))
    source = open_source("llava_json", str(tmp_path / "train.json"))
    assert counts_of(source) == {"fields ignored: weight": 1}


def test_of_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "data").mkdir()
    rows = {"image": [{"bytes": jpeg(1), "path": None}], "question": ["Which?"], "answer": ["This."], "grade": [3]}
    for split in ("train", "validation", "test"):
        pq.write_table(pa.table(rows), tmp_path / "data" / f"{split}-0.parquet")
    (tmp_path / "data" / "._train-0.parquet").write_bytes(b"mac")
    assert counts_of(open_source("pathvqa", str(tmp_path))) == {"fields ignored: grade": 3}


def test_of_tables_that_are_too_large_to_hold(tmp_path):
    write_pmc_oa(tmp_path)
    path = tmp_path / "pmc_oa.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(json.dumps({**json.loads(line), "reviewed": True}) for line in lines))
    source = open_source("pmc_oa", str(tmp_path))
    samples = sum(1 for unit in source.units() for item in source.read(unit) if hasattr(item, "images"))
    assert samples
    assert counts_of(source)["fields ignored: reviewed"] >= samples


def test_a_field_whose_value_cannot_be_used_counts_as_not_asked_for():
    entry = Entry({"fine": 3, "nested": {"a": 1}, "long": "x" * (MAX_TEXT + 1), "empty": None, "back": "text"})
    assert [entry.plain(name) for name in ("fine", "nested", "long", "empty")] == [3, None, None, None]
    entry.get("back")
    entry.put_back("back")
    assert entry.ignored() == ("nested", "long", "back")


def test_what_sources_cannot_use_of_a_field_is_counted(tmp_path):
    folder = write_pmc_oa(tmp_path / "pmc_oa")
    table = folder / "pmc_oa.jsonl"
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    lines[0] |= {"alignment_type": {"method": "tfidf"}, "alignment_score": 1}
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = open_source("pmc_oa", str(folder))
    samples = [item for unit in source.units() for item in source.read(unit)]
    assert samples[0].labels == {"alignment_score": 1}
    assert counts_of(open_source("pmc_oa", str(folder)))["fields ignored: alignment_type"] == 1
    write_npz(tmp_path / "breastmnist.npz", [[0], [1]])
    with np.load(tmp_path / "breastmnist.npz") as arrays:
        np.savez(tmp_path / "breastmnist.npz", **arrays, train_ids=np.arange(2))
    assert open_source("medmnist", str(tmp_path)).input_counts == {"fields ignored: train_ids": 1}
