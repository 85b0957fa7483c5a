"""Rows that conditions select, against plain Python over the same rows."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medvlp.selection import ConditionError, Conditions, select
from medvlp.selection.scores import FORMAT, ScoreDescription, write_description
from medvlp.shards import ShardError
from medvlp.shards.writer import mark_file

MODALITIES = ("CT", "MR", "X ray", "unknown")
SIZE = 40
HASH = "a" * 64


def row(number):
    width = number * 37 % 500 if number % 9 else 0
    return {
        "key": f"k{number:02d}",
        "modality": MODALITIES[number % 4],
        "licence": "CC0-1.0" if number % 3 else "CC-BY-4.0",
        "width": width,
        "height": width // 2,
        "caption_length": number * 11 % 60,
    }


ROWS = [row(number) for number in range(SIZE)]
BIG = 2**60
"""Identifiers from here on are no float64."""
SIMILARITY = [None if number % 10 == 3 else (number * 7 % 20) / 20 for number in range(SIZE)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "samples.parquet", row_group_size=7)
    (folder / "scores").mkdir()
    # The rows of a table need not be those of the split, nor in its order: 35 of 40, last first, and one of another split.
    keys = [r["key"] for r in ROWS[:35]][::-1]
    pq.write_table(
        pa.table({"key": [*keys, "other"], "similarity": [*SIMILARITY[:35][::-1], 9.0]}), folder / "scores/few.parquet"
    )
    full = {"key": [r["key"] for r in ROWS], "score": SIMILARITY, "good": [n % 2 == 0 for n in range(SIZE)]}
    full |= {"uid": [BIG + n for n in range(SIZE)], "half": np.arange(SIZE, dtype=np.float16) / 8}
    pq.write_table(pa.table(full), folder / "scores/full.parquet")
    write_description(
        folder / "scores/full.parquet", ScoreDescription(HASH, {}, mark_file(folder / "scores/full.parquet"))
    )
    (folder / "list.txt").write_text("k01\nk05\n\n k07 \nnone\n")
    return folder


def selected(folder, *texts, scores=()):
    return select(folder, folder / "samples.parquet", SIZE, HASH, Conditions(texts, scores), "data.sources.s.where")


def best(share, values, highest=True):
    numbers = sorted(
        (n for n in range(len(values)) if values[n] is not None), key=lambda n: -values[n] if highest else values[n]
    )
    return set(numbers[: int(share * SIZE)])


FEW = SIMILARITY[:35] + [None] * 5


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("width >= 224", lambda n, r: r["width"] >= 224),
        ("width < 100.5", lambda n, r: 0 < r["width"] < 100.5),
        ("not width >= 224", lambda n, r: 0 < r["width"] < 224),  # what has no size is neither
        ("width is missing", lambda n, r: r["width"] == 0),
        ("shorter_side > 100 and aspect_ratio <= 2", lambda n, r: r["height"] > 100 and r["width"] / r["height"] <= 2),
        ("longer_side = 37", lambda n, r: r["width"] == 37),
        ("modality in (CT, 'X ray')", lambda n, r: r["modality"] in ("CT", "X ray")),
        ("modality not in (CT)", lambda n, r: r["modality"] != "CT"),
        ("caption_length in (11, 22)", lambda n, r: r["caption_length"] in (11, 22)),
        ("caption_length in (11, 22.5)", lambda n, r: r["caption_length"] == 11),
        ("caption_length != 3000000000", lambda n, r: True),
        ("key in file {}/list.txt", lambda n, r: r["key"] in ("k01", "k05", "k07")),
        ("key not in file {}/list.txt", lambda n, r: r["key"] not in ("k01", "k05", "k07")),
        (
            "licence = CC0-1.0 or modality = CT and width < 200",
            lambda n, r: r["licence"] == "CC0-1.0" or (r["modality"] == "CT" and 0 < r["width"] < 200),
        ),
        ("similarity >= 0.5", lambda n, r: FEW[n] is not None and FEW[n] >= 0.5),
        ("few.similarity is missing", lambda n, r: FEW[n] is None),
        ("top 30% by similarity", lambda n, r: n in best(0.3, FEW)),
        ("bottom 12.5% by full.score", lambda n, r: n in best(0.125, SIMILARITY, highest=False)),
        ("top 3 by similarity or modality = MR", lambda n, r: n in best(3 / SIZE, FEW) or r["modality"] == "MR"),
        ("top 1000 by score", lambda n, r: SIMILARITY[n] is not None),
        ("good = true and score > 0", lambda n, r: n % 2 == 0 and bool(SIMILARITY[n])),
        (f"uid = {BIG + 7}", lambda n, r: n == 7),
        (f"uid in ({BIG + 7}, {BIG + 9})", lambda n, r: n in (7, 9)),
        ("uid > 2.5 and uid > 3", lambda n, r: True),
        ("half > 0.3 and half < 2.5", lambda n, r: 3 <= n < 20),
    ],
)
def test_it_is_the_rows_that_fulfil_it(folder, monkeypatch, text, holds):
    expected = [n for n, r in enumerate(ROWS) if holds(n, r)]
    text = text.format(folder)
    assert selected(folder, text).rows_N.tolist() == expected
    monkeypatch.setattr("medvlp.selection.columns.ROWS", 6)  # in stretches that end elsewhere than row groups
    result = selected(folder, text)
    assert result.rows_N.tolist() == expected
    assert result.drops == {text: SIZE - len(expected)}


def test_what_is_dropped_counts_for_the_first_condition_that_drops_it(folder):
    result = selected(folder, "modality = CT", "similarity >= 0.2", "width >= 100")
    steps = [[n for n in range(SIZE) if n % 4 == 0]]
    steps.append([n for n in steps[0] if FEW[n] is not None and FEW[n] >= 0.2])
    steps.append([n for n in steps[1] if ROWS[n]["width"] >= 100])
    assert result.rows_N.tolist() == steps[2]
    assert list(result.drops.values()) == [30, 10 - len(steps[1]), len(steps[1]) - len(steps[2])]
    assert result.without_value["similarity >= 0.2"] == sum(FEW[n] is None for n in steps[0])
    assert sum(result.drops.values()) + len(result.rows_N) == result.samples == SIZE
    assert result.files == {str(folder / "scores/few.parquet"): mark_file(folder / "scores/few.parquet").sha256}
    stated = json.loads(json.dumps(result.to_json()))
    assert stated["selected"] == len(steps[2])
    assert stated["rows_sha256"] == result.rows_hash
    assert "dropped: 30 by modality = CT, " in result.dropped_words


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "widht > 3",
            r"data.sources.s.where\[0\]: there is no column widht; did you mean width\? Columns of .*: key, modality",
        ),
        ("similarty > 3", "did you mean similarity"),
        ("other.similarity > 3", "did you mean few.similarity"),
        ("width > CT", "width has numbers; could not convert string to float: 'CT'"),
        ("width = nan", "nan and inf are none"),
        ("good = 1", "good is true or false, not 1"),
        ("modality > CT", "modality has texts; use =, != or in"),
        ("top 30% by modality", "modality has texts; top and bottom need a column of numbers"),
        ("key in file none.txt", "none.txt: .*expected a text file with one value a line"),
        (
            "width > 100000",
            "leaves none of the 40 samples of .*; dropped: 40 by width > 100000 \\(5 without a value\\)",
        ),
    ],
)
def test_what_the_tables_cannot_answer_is_said(folder, text, message):
    with pytest.raises(ConditionError, match=message):
        selected(folder, text)


def test_a_score_table_is_of_this_version_of_the_split_and_as_it_was_written(folder, tmp_path):
    table = pa.table({"key": ["k01"], "extra": [1.0]})
    pq.write_table(table, tmp_path / "more.parquet")
    assert selected(folder, "extra = 1", scores=(str(tmp_path),)).rows_N.tolist() == [1]
    write_description(tmp_path / "more.parquet", ScoreDescription("b" * 64, {}, mark_file(tmp_path / "more.parquet")))
    with pytest.raises(ConditionError, match="was computed for another version of"):
        selected(folder, "extra = 1", scores=(str(tmp_path / "more.parquet"),))
    pq.write_table(table.append_column("late", [[1]]), tmp_path / "more.parquet")
    with pytest.raises(ShardError, match="is not the table that more"):
        selected(folder, "extra = 1", scores=(str(tmp_path),))
    for content, message in (
        (b"{", "cannot be read"),
        (b'{"format": 2}', f"this medvlp reads {FORMAT}"),
        (b"[]", "describes no score table"),
    ):
        (tmp_path / "more.json").write_bytes(content)
        with pytest.raises(ShardError, match=message):
            selected(folder, "extra = 1", scores=(str(tmp_path),))
    (tmp_path / "more.json").unlink()
    for keys, message in ((["k01", "k01"], "has a key twice"), (["x"], "no key of a score table is one of")):
        pq.write_table(pa.table({"key": keys, "extra": [1.0] * len(keys)}), tmp_path / "more.parquet")
        with pytest.raises(ConditionError, match=message):
            selected(folder, "extra = 1", scores=(str(tmp_path),))
    pq.write_table(pa.table({"score": [1.0]}), tmp_path / "more.parquet")
    with pytest.raises(ShardError, match="expected one column key"):
        selected(folder, "width > 3", scores=(str(tmp_path),))
    pq.write_table(pa.table({"key": ["k01"], "score": [1.0]}), tmp_path / "more.parquet")
    with pytest.raises(ConditionError, match=r"2 score tables .* score; say full\.score or more\.score"):
        selected(folder, "score > 0", scores=(str(tmp_path),))
    with pytest.raises(ShardError, match=r"score table .*none\.parquet: No such file"):
        selected(folder, "width > 3", scores=(str(tmp_path / "none.parquet"),))
