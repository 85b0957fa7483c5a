"""What is decided over all samples: splits, and what a grown or changed preparation does anew."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_prep import finalize, sources
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Options, Source, Unit
from medvlp.shards import Sample, ShardDataset, ShardError, make_key, verify
from medvlp.shards.vocabulary import SPLITS
from tests.data_prep.folders import digests, jpeg

ROWS = [
    *[("train", "a"), ("train", "a"), ("train", "b"), ("train", "c"), ("train", "c"), ("train", "d")],
    *[("valid", "c"), ("valid", "e"), ("test", "b"), ("test", "f")],
]
"""(published split, article) of each figure: b and c stand on two sides."""


@dataclass(frozen=True)
class FigureOptions(Options):
    style: str = "plain"


class Figures(Source):
    """A source that can grow: its table says split and article of each figure, a unit is two figures."""

    name = "figures"
    description = "figures of a table"
    option_type = FigureOptions

    def __init__(self, input, samples_per_shard=1000, **options):
        super().__init__(input, samples_per_shard, **options)
        self.folder, self.style = Path(input), self.choices.style
        self.rows = [tuple(row) for row in json.loads((self.folder / "rows.json").read_text())]

    def options(self):
        return {"style": self.style}

    def fingerprint(self):
        return {"rows.json": hashlib.sha256((self.folder / "rows.json").read_bytes()).hexdigest()}

    def units(self):
        units = []
        for split in dict.fromkeys(split for split, _ in self.rows):
            rows = [[n, article] for n, (where, article) in enumerate(self.rows) if where == split]
            pairs = [rows[start : start + 2] for start in range(0, len(rows), 2)]
            units += [Unit(split, n, pair, fingerprint=str(pair)) for n, pair in enumerate(pairs)]
        return units

    def read(self, unit):
        with open(self.folder / "read.txt", "a") as log:
            log.write(f"{unit.split}{unit.number} ")
        for number, article in unit.selection:
            yield Sample(
                make_key(self.name, article, str(number)),
                {"jpg": picture(number)},
                {"caption": caption(self.style, number)},
                metadata={"group": article, "source": self.name, "licence": "CC0-1.0"},
            )


picture = jpeg


def caption(style, number):
    return f"{style} figure {number}"


@pytest.fixture
def figures(tmp_path, monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "figures", f"{__name__}:Figures")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rows.json").write_text(json.dumps(ROWS))
    return tmp_path / "in"


def members_of(folder):
    """Split → keys, as published."""
    rows = json.loads((folder / "rows.json").read_text())
    return {s: {make_key("figures", a, str(n)) for n, (split, a) in enumerate(rows) if split == s} for s in SPLITS}


def grow(folder, *rows):
    (folder / "rows.json").write_text(json.dumps([*ROWS, *rows]))


def was_read(folder):
    log = folder / "read.txt"
    words = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return words


def members(output):
    """Split → (key, published position) of its samples."""
    return {path.parent.name: ShardDataset(path.parent).keys for path in sorted(output.glob("*/manifest.json"))}


def test_published_splits_stay(figures, tmp_path):
    ledger = prepare("figures", figures, tmp_path / "out").ledger
    assert {split: page["out"] for split, page in ledger["splits"].items()} == {"train": 6, "valid": 2, "test": 2}
    assert ledger["moved"] == {}


def test_no_group_stands_in_two_splits(figures, tmp_path):
    ledger = prepare("figures", figures, tmp_path / "out", split="grouped", samples_per_shard=2).ledger
    assert members(tmp_path / "out") == {
        "train": ["figures__a__0__0", "figures__a__1__0", "figures__d__5__0"],
        "valid": ["figures__c__3__0", "figures__c__4__0", "figures__c__6__0", "figures__e__7__0"],
        "test": ["figures__b__2__0", "figures__b__8__0", "figures__f__9__0"],
    }
    assert ledger["moved"] == {"train→valid": 2, "train→test": 1}
    pages = {split: (page["in"], page["out"]) for split, page in ledger["splits"].items()}
    assert pages == {"train": (3, 3), "valid": (4, 4), "test": (3, 3)}
    assert ledger["in"] == ledger["out"] == 10
    assert verify(tmp_path / "out") == []
    valid = ShardDataset(tmp_path / "out" / "valid")
    assert set(valid.column("split")) == {"valid"}
    assert {valid.read(i).texts["caption"] for i in range(4)} == {f"plain figure {n}" for n in (3, 4, 6, 7)}


def test_valid_is_held_out_of_a_published_train(figures, tmp_path):
    grow(figures, *[("train", f"new{n}") for n in range(60)])
    result = prepare("figures", figures, tmp_path / "one", holdout=0.3, split_seed=5)
    before = members(tmp_path / "one")
    published = members_of(figures)
    assert set(before["test"]) == published["test"]
    held = set(before["valid"]) - published["valid"]
    assert held | set(before["train"]) == published["train"]
    assert 8 < len(held) < 30
    assert result.ledger["moved"] == {"train→valid": len(held)}
    assert result.ledger["counts"]["split"] == {"moved train→valid, held out of train": len(held)}
    grow(figures, *[("train", f"new{n}") for n in range(90)])
    prepare("figures", figures, tmp_path / "two", holdout=0.3, split_seed=5)
    after = members(tmp_path / "two")
    assert set(before["valid"]) <= set(after["valid"])
    assert set(before["train"]) <= set(after["train"])


def test_moves_are_said_with_their_reason(figures, tmp_path):
    grouped = prepare("figures", figures, tmp_path / "grouped", split="grouped", holdout=0.01).ledger
    assert grouped["counts"]["split"] == {
        "moved train→test, where the rest of their group is": 1,
        "moved train→valid, held out of train": 0,
        "moved train→valid, where the rest of their group is": 2,
    }
    drawn = prepare("figures", figures, tmp_path / "random", split="random").ledger["counts"]["split"]
    assert all(subject.endswith(", at random") for subject in drawn)
    with pytest.raises(PrepError, match=r"with split=random, fractions\.valid does"):
        prepare("figures", figures, tmp_path / "both", split="random", holdout=0.1)
    with pytest.raises(PrepError, match=r"holdout=1\.0 must be a share"):
        prepare("figures", figures, tmp_path / "all", holdout=1.0)


def test_random_splits_go_by_group_and_stay_when_data_grow(figures, tmp_path):
    choices = {"split": "random", "fractions": {"train": 0.5, "valid": 0.2, "test": 0.3}, "split_seed": 3}
    prepare("figures", figures, tmp_path / "one", **choices)
    grow(figures, *[("train", f"new{n}") for n in range(40)])
    prepare("figures", figures, tmp_path / "two", **choices)
    before, after = members(tmp_path / "one"), members(tmp_path / "two")
    splits = {key.split("__")[1]: split for split, keys in after.items() for key in keys}
    for split, keys in after.items():
        assert {splits[key.split("__")[1]] for key in keys} == {split}
    for split, keys in before.items():
        assert set(keys) <= set(after[split])
    assert all(8 < len(keys) < 32 for keys in after.values()), {split: len(keys) for split, keys in after.items()}


def test_a_cache_leaves_only_what_is_new_to_do(figures, tmp_path):
    cache = str(tmp_path / "cache")
    prepare("figures", figures, tmp_path / "one", cache=cache)
    assert was_read(figures) == ["train0", "train1", "train2", "valid0", "test0"]
    grow(figures, ("train", "g"), ("train", "h"), ("train", "i"))
    prepare("figures", figures, tmp_path / "two", cache=cache)
    assert was_read(figures) == ["train3", "train4"]
    prepare("figures", figures, tmp_path / "three", cache=cache, split="grouped")
    assert was_read(figures) == []
    prepare("figures", figures, tmp_path / "straight")
    assert digests(tmp_path / "two") == digests(tmp_path / "straight")
    assert was_read(figures)
    prepare("figures", figures, tmp_path / "other", cache=cache, options={"style": "fancy"})
    assert len(was_read(figures)) == 7


def test_an_unfinished_folder_takes_up_a_grown_input(figures, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.pipeline.apply_dataset_stages", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare("figures", figures, tmp_path / "out")
    was_read(figures)
    grow(figures, ("test", "g"))
    prepare("figures", figures, tmp_path / "out")
    assert was_read(figures) == ["test1"]
    prepare("figures", figures, tmp_path / "straight")
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"split": "grouped"}, "split.by: publisher there, grouped now\nunits stay as they are, .*; with cache="),
        ({"options": {"style": "fancy"}}, "read.style: plain there, fancy now\nevery unit has to be done again: give"),
        ({"min_side": 3}, "check_images.min_side: 16 there, 3 now\nevery unit has to be done again: give a new"),
    ],
)
def test_a_change_says_what_it_invalidates(figures, tmp_path, change, complaint):
    prepare("figures", figures, tmp_path / "out")
    with pytest.raises(PrepError, match=f"(?s){complaint}"):
        prepare("figures", figures, tmp_path / "out", **change)


def test_growth_of_a_finished_folder_says_what_to_do(figures, tmp_path):
    prepare("figures", figures, tmp_path / "out")
    grow(figures, ("test", "g"))
    with pytest.raises(PrepError, match=r"units that read what changed .*cache=<folder>.*give a new output folder"):
        prepare("figures", figures, tmp_path / "out")


def test_a_damaged_page_is_done_anew(figures, tmp_path):
    cache = tmp_path / "cache"
    prepare("figures", figures, tmp_path / "one", cache=str(cache))
    was_read(figures)
    pages = sorted(cache.glob("*.json"))
    pages[0].write_text("{")
    pages[1].write_text("[]")
    part = json.loads(pages[2].read_text())
    (cache / f"{part['digest']}.tar").unlink()  # it is also a shard of the first folder, by a second name
    prepare("figures", figures, tmp_path / "two", cache=str(cache))
    assert len(was_read(figures)) == 3
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_unknown_options_are_named(figures, tmp_path):
    with pytest.raises(PrepError, match=r"source figures does not know options.stile; its options are style"):
        prepare("figures", figures, tmp_path / "out", options={"stile": "fancy"})


@pytest.mark.parametrize("action", ["report", "drop"])
def test_copies_are_found_and_the_held_out_one_stays(figures, tmp_path, monkeypatch, action):
    """Figure 8 of the test split is figure 0, which train has too; figure 4 is figure 3 at another quality."""
    copies = {8: jpeg(0), 4: jpeg(3, quality=60)}
    monkeypatch.setattr(f"{__name__}.picture", lambda number: copies.get(number, jpeg(number)))
    result = prepare("figures", figures, tmp_path / "out", duplicates=action)
    copy_rows = [json.loads(line) for line in (tmp_path / "out" / "copies.jsonl").read_text().splitlines()]
    summary = [(row["key"], row["other"], row["other_split"], row["kind"], row["action"]) for row in copy_rows]
    done = {"report": "kept", "drop": "dropped"}[action]
    assert summary == [
        ("figures__a__0__0", "figures__b__8__0", "test", "exact", done),
        ("figures__c__4__0", "figures__c__3__0", "train", "near", done),
    ]
    pairs = json.loads((tmp_path / "out" / "pairs.json").read_text())
    assert [pair["row"] for pair in pairs] == copy_rows
    assert all(pair["image"].startswith("data:image/jpeg;base64,") for pair in pairs)
    assert (pairs[0]["caption"], pairs[0]["other_caption"]) == ("plain figure 0", "plain figure 8")
    drops = {"duplicates": {"exact_duplicate": 1, "near_duplicate": 1}} if action == "drop" else {}
    assert result.ledger["drops"] == drops
    assert result.ledger["splits"]["train"]["out"] == (4 if action == "drop" else 6)
    assert verify(tmp_path / "out") == []
    if action == "drop":
        rows = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()]
        assert (rows[0]["name"], rows[0]["detail"]) == ("figures__a__0__0", "of figures__b__8__0")


@pytest.mark.parametrize("action", ["report", "drop"])
def test_what_an_evaluation_has_is_not_trained_on(figures, tmp_path, monkeypatch, action):
    """The evaluation holds figure 100, which train has as figure 3; article b by id; and the words of figure 5."""
    words = "an unusually long caption that says what is seen in figure"
    (figures / "rows.json").write_text(json.dumps([["test", "x"], ["test", "b"], ["test", "y"]]))
    copies = {0: jpeg(3), 1: jpeg(101), 2: jpeg(102)}
    monkeypatch.setattr(f"{__name__}.picture", lambda number: copies[number])
    monkeypatch.setattr(
        f"{__name__}.caption", lambda style, number: f"{words} {number + 3}" if number == 2 else "other"
    )
    prepare("figures", figures, tmp_path / "eval")
    monkeypatch.setattr(f"{__name__}.picture", jpeg)
    monkeypatch.setattr(f"{__name__}.caption", lambda style, number: f"{words} {number}")
    (figures / "rows.json").write_text(json.dumps(ROWS))
    against = [str(tmp_path / "eval" / "test")]
    result = prepare("figures", figures, tmp_path / "out", decontaminate=against, contaminated=action)
    copy_rows = [json.loads(line) for line in (tmp_path / "out" / "copies.jsonl").read_text().splitlines()]
    done = {"report": "kept", "drop": "dropped"}[action]
    assert [(row["key"], row["other"], row["folder"], row["kind"], row["action"]) for row in copy_rows] == [
        ("figures__b__2__0", "figures__b__1__0", "eval/test", "id", done),
        ("figures__c__3__0", "figures__x__0__0", "eval/test", "sha256", done),
        ("figures__d__5__0", "figures__y__2__0", "eval/test", "text", done),
    ]
    expected = {"decontaminate": {"same_id": 1, "same_sha256": 1, "same_text": 1}} if action == "drop" else {}
    assert result.ledger["drops"] == expected
    pairs = json.loads((tmp_path / "out" / "pairs.json").read_text())
    assert [(pair["caption"], pair["other_caption"]) for pair in pairs][1] == (f"{words} 3", "other")
    entry = ShardDataset(tmp_path / "out" / "train").manifest.stages[-3]
    sha256 = hashlib.sha256((tmp_path / "eval" / "test" / "manifest.json").read_bytes()).hexdigest()
    assert entry == {
        "stage": "decontaminate",
        "action": action,
        "by": ["id", "bytes", "picture", "text"],
        "against": {"eval/test": sha256},
        "radius": 10,
    }


def test_an_evaluation_that_is_not_there(figures, tmp_path):
    with pytest.raises((PrepError, ShardError), match="nowhere does not exist"):
        prepare("figures", figures, tmp_path / "out", decontaminate=[str(tmp_path / "nowhere")])


def test_an_input_that_shrank_after_a_stop_in_the_finish_leaves_nothing_stale(figures, tmp_path, monkeypatch):
    write_rows = finalize.write_rows

    def stop(path, *rows):
        if path.name == finalize.COPIES:  # all splits are signed then
            raise KeyboardInterrupt
        write_rows(path, *rows)

    with monkeypatch.context() as patch:
        patch.setattr(finalize, "write_rows", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare("figures", figures, tmp_path / "out")
    assert (tmp_path / "out" / "valid" / "manifest.json").exists()
    (figures / "rows.json").write_text(json.dumps([row for row in ROWS if row[0] != "valid"][2:]))
    prepare("figures", figures, tmp_path / "out")
    prepare("figures", figures, tmp_path / "straight")
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")
    assert not (tmp_path / "out" / "valid").exists()
    assert verify(tmp_path / "out") == []


def test_a_damaged_shard_of_a_cache_is_made_anew(figures, tmp_path):
    cache = tmp_path / "cache"
    prepare("figures", figures, tmp_path / "one", cache=str(cache))
    damaged = sorted(cache.glob("*.tar"))[0]
    data = bytearray(damaged.read_bytes())
    data[700] ^= 1
    damaged.unlink()
    damaged.write_bytes(data)
    prepare("figures", figures, tmp_path / "two", cache=str(cache))
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert verify(tmp_path / "two") == []


def test_only_packing_needs_no_marks(figures, tmp_path):
    result = prepare("figures", figures, tmp_path / "out", checks=False)
    assert result.ledger["out"] == 10
    stages = [entry["stage"] for entry in ShardDataset(tmp_path / "out" / "train").manifest.stages]
    assert stages == ["read", "split", "write"]


def test_what_is_gone_from_a_finished_folder_is_named(figures, tmp_path):
    prepare("figures", figures, tmp_path / "out")
    (tmp_path / "out" / "README.md").unlink()
    assert prepare("figures", figures, tmp_path / "out").was_done
    assert (tmp_path / "out" / "README.md").exists()
    (tmp_path / "out" / "train" / "000000.tar").unlink()
    with pytest.raises(PrepError, match=r"of train 000000.tar is gone"):
        prepare("figures", figures, tmp_path / "out")


@pytest.mark.parametrize(
    ("choices", "complaint"),
    [
        ({"output": "in/out"}, "lies in the input folder"),
        ({"cache": "out"}, "lies in the output folder"),
        ({"cache": "out/cache"}, "lies in the output folder"),
        ({"max_aspect": float("inf")}, "max_aspect is inf"),
        ({"languages": ["en", "xx"]}, "languages: xx cannot be told; known are"),
        ({"licences": ["CC-BYE"]}, "CC-BYE"),
        ({"fractions": {"train": 0.5, "test": 0.4}}, "add up to 1"),
        ({"duplicates_radius": 40}, "duplicates_radius=40 from 0 to 32"),
        ({"checks": False, "duplicates": "drop"}, "checks=false only packs files, but duplicates needs them read"),
    ],
)
def test_choices_that_cannot_be(figures, tmp_path, choices, complaint):
    output = tmp_path / choices.pop("output", "out")
    if "cache" in choices:
        choices = {"cache": str(tmp_path / choices["cache"])}
    with pytest.raises(PrepError, match=complaint):
        prepare("figures", figures, output, **choices)
    assert not (output / ".plan.json").exists()


def test_splits_of_any_order_mean_the_same(figures, tmp_path):
    shares = {"train": 0.5, "valid": 0.2, "test": 0.3}
    prepare("figures", figures, tmp_path / "one", split="random", fractions=shares)
    prepare("figures", figures, tmp_path / "two", split="random", fractions=dict(reversed(shares.items())))
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


@pytest.mark.parametrize("name", ["dropped.jsonl", "copies.jsonl", "pairs.json", "ATTRIBUTION.md", "croissant.json"])
def test_what_is_beside_the_splits_is_signed_and_a_change_is_seen_until_it_is_signed(figures, tmp_path, name):
    output = tmp_path / "out"
    prepare("figures", figures, output, duplicates="off")
    assert verify(output) == []
    (output / name).write_bytes((output / name).read_bytes() + b"\n")
    assert [(f.file, f.problem) for f in verify(output)] == [(name, "changed_file")]
    assert prepare("figures", figures, output, duplicates="off").was_done
    assert [(f.file, f.problem) for f in verify(output)] == [(name, "changed_file")]
    (output / "SHA256SUMS").unlink()
    assert [(f.file, f.problem) for f in verify(output)] == [("SHA256SUMS", "missing_file")]
    assert prepare("figures", figures, output, duplicates="off").was_done
    assert verify(output) == []
