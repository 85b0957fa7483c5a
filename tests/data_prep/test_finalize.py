"""From parts to splits: which shards they become, what the ledger says, and what a stop in the middle leaves."""

import json
import os
from collections import Counter

import numpy as np
import pytest

from data_prep import sources
from data_prep.dataset_stages.apply import apply_dataset_stages
from data_prep.dataset_stages.decisions import Decisions
from data_prep.dataset_stages.part_samples import PartSamples
from data_prep.errors import PrepError
from data_prep.finalize import _link, lay_out
from data_prep.jobs import CopyJob, Part
from data_prep.ledger.balance import make_ledger
from data_prep.ledger.summary import summary
from data_prep.pipeline import prepare
from medvlp.report import write_prep_report
from medvlp.shards import FileMark, Row, ShardDataset, ShardError, verify
from medvlp.shards.vocabulary import SPLITS
from medvlp.shards.writer import rows_table, write_tables
from tests.data_prep.folders import digests, jpeg

FIGURES = "tests.data_prep.dataset_stages.test_dataset_stages"
SEEDED = {"train": 0.5, "valid": 0.2, "test": 0.3}


def part(digest, split, samples, drops=None, panels=0, counts=None):
    """A part of which only the page exists."""
    entered = samples + sum(number for page in (drops or {}).values() for number in page.values())
    return Part(digest, split, entered - panels, entered, samples, drops or {}, counts or {}, files={}, other_files={})


def decided_as(splits, keep=None, **more):
    """splits: a letter a sample, such as "tvx" for train, valid, test. kept: 1 and 0."""
    split_N = np.array(["tvx".index(letter) for letter in splits], np.int8)
    is_kept_N = np.ones(len(splits), bool) if keep is None else np.array([mark == "1" for mark in keep])
    return Decisions(split_N, is_kept_N, **more)


def drop(split, name="k", reason="exact_duplicate"):
    return {"split": split, "name": name, "stage": "duplicates", "reason": reason, "detail": "of another"}


def laid_out(parts, decided, samples_per_shard, folder):
    layout = lay_out(folder, parts, decided, samples_per_shard)
    return {
        split: [shard.pieces if isinstance(shard, CopyJob) else shard.digest for shard in shards]
        for split, shards in layout.items()
    }


@pytest.mark.parametrize(
    ("splits", "keep", "expected"),
    [
        ("tttttttttt", "1111111111", {"train": ["a", "b"]}),
        # Three of five are half a shard; two are gathered.
        ("tttttttttt", "1011011111", {"train": [[("a", [0, 2, 3])], "b"]}),
        ("tttttttttt", "1001001001", {"train": [[("a", [0, 3]), ("b", [1, 4])]]}),
        ("tttttttttt", "0000011111", {"train": ["b"]}),
        ("ttttttttxx", "1111111111", {"train": ["a", [("b", [0, 1, 2])]], "test": [[("b", [3, 4])]]}),
        (
            "vtttxttttt",
            "1111111111",
            {"train": [[("a", [1, 2, 3])], "b"], "valid": [[("a", [0])]], "test": [[("a", [4])]]},
        ),
        ("xxxxxvvvvv", "1111111111", {"train": [], "valid": ["b"], "test": ["a"]}),
        # Nothing is left of a split that only came to be by moving: it is there all the same, and empty.
        ("tttttttttv", "1111111110", {"train": ["a", [("b", [0, 1, 2, 3])]], "valid": []}),
        ("tttttttttt", "0000000000", {"train": []}),
    ],
)
def test_which_shards_a_split_consists_of(tmp_path, splits, keep, expected):
    parts = [part("a", "train", 5), part("none", "train", 0), part("b", "train", 5)]
    assert laid_out(parts, decided_as(splits, keep), 5, tmp_path) == expected


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("11001111", [[("a", [0, 1])], "b"]),  # just half a shard is one
        ("10001111", ["b", [("a", [0])]]),
    ],
)
def test_half_a_shard_keeps_its_place(tmp_path, keep, expected):
    parts = [part("a", "train", 4), part("b", "train", 4)]
    assert laid_out(parts, decided_as("t" * 8, keep), 4, tmp_path) == {"train": expected}


def test_small_pieces_fill_shards_and_no_more(tmp_path):
    parts = [part(name, "train", 5) for name in "abcde"]
    three = laid_out(parts[:3], decided_as("t" * 15, "11000" * 3), 5, tmp_path)
    assert three == {"train": [[("a", [0, 1]), ("b", [0, 1]), ("c", [0])], [("c", [1])]]}
    five = laid_out(parts, decided_as("t" * 25, "11000" * 5), 5, tmp_path)
    assert five == {"train": [[("a", [0, 1]), ("b", [0, 1]), ("c", [0])], [("c", [1]), ("d", [0, 1]), ("e", [0, 1])]]}


def test_a_copied_shard_is_known_by_what_it_holds(tmp_path):
    parts = [part("a", "train", 5), part("b", "train", 5)]
    first = lay_out(tmp_path, parts, decided_as("ttttttttxx"), 5)
    again = lay_out(tmp_path / "elsewhere", parts, decided_as("ttttttttxx"), 5)
    other = lay_out(tmp_path, parts, decided_as("ttttttttvv"), 5)
    assert first["test"][0].digest == again["test"][0].digest != other["valid"][0].digest
    assert (first["train"][1].folder, first["train"][1].split) == (tmp_path, "train")


def test_the_ledger_books_where_things_happened():
    """Of 5 trained on, one was dropped by its unit, one moved to test and one to valid, where it was a copy and went."""
    parts = [
        part("a", "train", 4, {"read": {"missing_image": 1}}, counts={"modality": {"by caption": 3}}),
        part("b", "test", 1, {"split_panels": {"replaced_by_panels": 1}}, 1, {"modality": {"by caption": 2}}),
    ]
    decided = decided_as(
        "ttvxx",
        "11011",
        drops=[drop("valid")],
        moves=Counter({("train", "valid"): 1, ("train", "test"): 1}),
        counts=Counter({("duplicates", "crowded"): 7}),
    )
    assert make_ledger(parts, decided) == {
        "in": 7,
        "rows": 6,
        "panels": 1,
        "out": 4,
        "drops": {
            "duplicates": {"exact_duplicate": 1},
            "read": {"missing_image": 1},
            "split_panels": {"replaced_by_panels": 1},
        },
        "counts": {"duplicates": {"crowded": 7}, "modality": {"by caption": 5}},
        "moved": {"train→valid": 1, "train→test": 1},
        "splits": {
            "train": {"in": 3, "out": 2, "drops": {"read": {"missing_image": 1}}},
            "test": {"in": 3, "out": 2, "drops": {"split_panels": {"replaced_by_panels": 1}}},
            "valid": {"in": 1, "out": 0, "drops": {"duplicates": {"exact_duplicate": 1}}},
        },
    }


def test_the_ledger_has_splits_that_only_came_to_be_by_moving():
    decided = decided_as("xttv", moves=Counter({("train", "valid"): 1, ("train", "test"): 1}))
    ledger = make_ledger([part("a", "train", 4)], decided)
    assert ledger["splits"] == {
        "train": {"in": 2, "out": 2, "drops": {}},
        "valid": {"in": 1, "out": 1, "drops": {}},
        "test": {"in": 1, "out": 1, "drops": {}},
    }
    assert (ledger["in"], ledger["rows"], ledger["panels"], ledger["out"]) == (4, 4, 0, 4)


@pytest.mark.parametrize(
    ("decided", "complaint"),
    [
        (decided_as("tt", "10"), "ledger of train: 2 came in, 1 went out, 0 were dropped"),
        (decided_as("tt", drops=[drop("train")]), "ledger of train: 2 came in, 2 went out, 1 were dropped"),
        (decided_as("tx"), "ledger of train: 2 came in, 1 went out, 0 were dropped"),
        # The sum is right, the splits are not.
        (decided_as("tt", "10", drops=[drop("test")]), "ledger of train: 2 came in, 1 went out, 0 were dropped"),
        # Each split is right, the sum is not.
        (
            decided_as("t", moves=Counter({("train", "nowhere"): 1})),
            "ledger of all splits: 2 came in, 1 went out, 0 were dropped",
        ),
    ],
)
def test_a_ledger_that_does_not_add_up_is_refused(decided, complaint):
    with pytest.raises(AssertionError, match=f"^{complaint}$"):
        make_ledger([part("a", "train", 2)], decided)


@pytest.mark.parametrize("linked", [True, False])
def test_a_part_gets_a_second_name(tmp_path, monkeypatch, linked):
    def refuse(*args):
        raise OSError("no links here")

    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "part").write_bytes(b"shard")
    (tmp_path / "place").write_bytes(b"of an earlier run")
    for _ in range(2):
        _link(tmp_path / "part", tmp_path / "place", FileMark("", 5))
        assert (tmp_path / "place").read_bytes() == b"shard"
        assert (tmp_path / "place").samefile(tmp_path / "part") == linked


@pytest.mark.parametrize("content", [b"shar", b"shard."])
def test_a_part_of_another_size_is_refused(tmp_path, content):
    (tmp_path / "part").write_bytes(content)
    with pytest.raises(PrepError, match="place should have 5 bytes, as when it was written"):
        _link(tmp_path / "part", tmp_path / "place", FileMark("", 5))


def write_rows(folder, digest, split, groups):
    """A part with a table: the group of each sample."""
    rows = [
        Row(f"{digest}{n}", f"{digest}.tar", split, group, "CC0-1.0", 1, 1, 1, "", "", "CT")
        for n, group in enumerate(groups)
    ]
    write_tables(folder / f"{digest}.parquet", [rows_table(rows)])
    return part(digest, split, len(rows))


def test_samples_without_a_group_are_not_one_group(tmp_path):
    parts = [write_rows(tmp_path, "a", "train", ["", "", "g"]), write_rows(tmp_path, "b", "test", ["", "g"])]
    assert list(PartSamples(tmp_path, parts).groups()) == ["\0a0", "\0a1", "g", "\0b0", "g"]
    grouped = apply_dataset_stages(tmp_path, parts, [{"stage": "split", "by": "grouped"}], [])
    assert [SPLITS[n] for n in grouped.split_N] == ["train", "train", "test", "test", "test"]
    assert grouped.moves == {("train", "test"): 1}


def test_samples_without_a_group_are_spread_at_random(tmp_path):
    parts = [write_rows(tmp_path, "a", "train", [""] * 100)]
    entry = {"stage": "split", "by": "random", "fractions": {"train": 0.5, "test": 0.5}, "seed": 0}
    test = np.count_nonzero(apply_dataset_stages(tmp_path, parts, [entry], []).split_N == SPLITS.index("test"))
    assert 30 < test < 70  # four standard deviations


@pytest.fixture
def figures(tmp_path, monkeypatch):
    """Writes the table of the source in dataset_stages/test_dataset_stages.py: (published split, article) a figure."""
    monkeypatch.setitem(sources.SOURCES, "figures", f"{FIGURES}:Figures")
    (tmp_path / "in").mkdir()

    def write(*rows, pictures=None, captions=None):
        (tmp_path / "in" / "rows.json").write_text(json.dumps(rows))
        monkeypatch.setattr(f"{FIGURES}.picture", lambda n: jpeg((pictures or {}).get(n, n)))
        monkeypatch.setattr(f"{FIGURES}.caption", lambda style, n: (captions or {}).get(n, f"Figure {n}"))
        return tmp_path / "in"

    return write


def numbers(output):
    """Split → numbers of the figures in it."""
    folders = sorted(path.parent for path in output.glob("*/manifest.json"))
    return {folder.name: [int(key.split("__")[2]) for key in ShardDataset(folder).keys] for folder in folders}


def dropped(output):
    rows = [json.loads(line) for line in (output / "dropped.jsonl").read_text().splitlines()]
    return [(row["split"], row["name"].split("__")[2], row["reason"], row["detail"]) for row in rows]


@pytest.mark.parametrize("samples_per_shard", [1, 2, 5, 1000])
def test_a_source_of_train_alone_is_split_at_random(figures, tmp_path, samples_per_shard):
    folder = figures(*[("train", f"a{n}") for n in range(20)])
    choices = {"split": "random", "fractions": SEEDED, "samples_per_shard": samples_per_shard, "workers": 1}
    ledger = prepare("figures", folder, tmp_path / "out", **choices).ledger
    expected = {
        "train": [0, 2, 8, 9, 12, 15, 16, 17],
        "valid": [3, 5, 7, 10, 14, 18],
        "test": [1, 4, 6, 11, 13, 19],
    }
    assert {split: sorted(rows) for split, rows in numbers(tmp_path / "out").items()} == expected
    assert {split: (page["in"], page["out"], page["drops"]) for split, page in ledger["splits"].items()} == {
        split: (len(rows), len(rows), {}) for split, rows in expected.items()
    }
    assert ledger["moved"] == {"train→valid": len(expected["valid"]), "train→test": len(expected["test"])}
    assert (ledger["in"], ledger["out"]) == (20, 20)
    assert verify(tmp_path / "out") == []


def test_a_drop_is_booked_where_the_sample_belongs_now(figures, tmp_path):
    """Figure 0 of train goes to test with its article, and is there a copy of figure 2: test's loss, not train's."""
    folder = figures(("train", "b"), ("train", "a"), ("test", "b"), ("valid", "c"), pictures={0: 2})
    everywhere = {"duplicates": "drop", "duplicates_in": ["train", "valid", "test"]}
    result = prepare("figures", folder, tmp_path / "out", split="grouped", workers=1, **everywhere)
    # Of two in one split the earliest stays.
    assert dropped(tmp_path / "out") == [("test", "2", "exact_duplicate", "of figures__b__0__0")]
    pages = {split: {k: page[k] for k in ("in", "out", "drops")} for split, page in result.ledger["splits"].items()}
    assert pages == {
        "train": {"in": 1, "out": 1, "drops": {}},
        "valid": {"in": 1, "out": 1, "drops": {}},
        "test": {"in": 2, "out": 1, "drops": {"duplicates": {"exact_duplicate": 1}}},
    }
    assert numbers(tmp_path / "out") == {"train": [1], "valid": [3], "test": [0]}


def test_of_copies_the_one_stays_that_is_held_out_now(figures, tmp_path):
    """Figure 0 of train has gone to test with its article; figure 2 of valid, its copy, would have stayed before."""
    folder = figures(("train", "b"), ("test", "b"), ("valid", "e"), ("train", "a"), pictures={2: 0})
    everywhere = {"duplicates": "drop", "duplicates_in": ["train", "valid", "test"]}
    prepare("figures", folder, tmp_path / "out", split="grouped", workers=1, **everywhere)
    assert dropped(tmp_path / "out") == [("valid", "2", "exact_duplicate", "of figures__b__0__0")]
    assert numbers(tmp_path / "out") == {"train": [3], "valid": [], "test": [1, 0]}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_of_test_is_in_train_is_counted_and_named(figures, tmp_path):
    folder = figures(*[("train", n) for n in "ab"], *[("test", n) for n in "cde"], pictures={2: 0, 4: 0})
    ledger = prepare("figures", folder, tmp_path / "out", workers=1).ledger
    assert ledger["leakage"] == {"test": {"samples": 3, "same_bytes": 2, "same_picture": 0}}
    assert ledger["conflicting_labels"] == 0
    named = [
        (row["split"], row["key"], row["match"], row["train_key"]) for row in rows_of(tmp_path / "out/leakage.jsonl")
    ]
    assert named == [("test", f"figures__{key}__0", "bytes", "figures__a__0__0") for key in ("c__2", "e__4")]
    lines = summary(tmp_path / "out", ledger, was_done=False).splitlines()
    assert "2 of 3 samples of test have an image that is in train: 2 the same bytes, 0 the same picture" in lines
    assert lines[-1].startswith("warning: a score on test is partly a score on training images")


def test_drop_takes_copies_out_of_train_and_leaves_test_whole(figures, tmp_path):
    folder = figures(*[("train", n) for n in "ab"], *[("test", n) for n in "cde"], pictures={2: 0, 4: 0})
    ledger = prepare("figures", folder, tmp_path / "out", duplicates="drop", workers=1).ledger
    assert numbers(tmp_path / "out") == {"train": [1], "test": [2, 3, 4]}
    assert ledger["leakage"] == {"test": {"samples": 3, "same_bytes": 0, "same_picture": 0}}
    assert [(row["key"], row["action"]) for row in rows_of(tmp_path / "out/copies.jsonl")] == [
        ("figures__a__0__0", "dropped"),
        ("figures__e__4__0", "kept"),
    ]
    lines = summary(tmp_path / "out", ledger, was_done=False)
    assert "none of 3 samples of test has an image that is in train" in lines


def test_where_nobody_looked_nobody_says_that_nothing_is_there(figures, tmp_path):
    folder = figures(("train", "a"), ("test", "b"), pictures={1: 0})
    ledger = prepare("figures", folder, tmp_path / "out", duplicates="off", workers=1).ledger
    assert "leakage" not in ledger
    said = "whether images of test are in train was not looked for (duplicates=off)"
    assert said in summary(tmp_path / "out", ledger, was_done=False)
    assert said in write_prep_report(tmp_path / "out").read_text().replace("Whether", "whether")


@pytest.fixture
def evaluation(figures, tmp_path):
    """A test split with one figure of article b: number 0, which looks like 50."""
    folder = figures(("test", "b"), pictures={0: 50}, captions={0: "one"})
    prepare("figures", folder, tmp_path / "eval", workers=1)
    return str(tmp_path / "eval" / "test")


def test_what_is_gone_stands_for_no_copy(evaluation, figures, tmp_path):
    """Figure 0 is of an article that is evaluated on; figure 1 of another has the same picture, and is all that is left of it."""
    folder = figures(("train", "b"), ("train", "z"), ("train", "y"), pictures={1: 0})
    choices = {"duplicates": "drop", "decontaminate": [evaluation], "workers": 1}
    ledger = prepare("figures", folder, tmp_path / "out", **choices).ledger
    assert ledger["drops"] == {"decontaminate": {"same_id": 1}}
    assert numbers(tmp_path / "out") == {"train": [2, 1]}  # a part of its own stays; what was cut comes last
    copies = (tmp_path / "out" / "copies.jsonl").read_text().splitlines()
    assert [json.loads(row)["kind"] for row in copies] == ["id"]


def test_a_key_says_by_what_a_sample_is_known_to_be_evaluated_on(evaluation, figures, tmp_path):
    folder = figures(("train", "b"), ("train", "z"), pictures={1: 50})
    for way, reason in (("id", {"same_id": 1}), ("bytes", {"same_sha256": 1}), ("text", None)):
        choices = {"decontaminate": [evaluation], "decontaminate_by": [way], "workers": 1}
        ledger = prepare("figures", folder, tmp_path / way, **choices).ledger
        assert ledger["drops"].get("decontaminate") == reason


def test_what_is_contaminated_twice_over_is_dropped_once(evaluation, figures, tmp_path):
    """By its article and by its bytes; a sample of test stays, however much it is evaluated on."""
    folder = figures(("train", "b"), ("train", "z"), ("test", "b"), pictures={0: 50, 2: 50})
    choices = {"duplicates": "off", "decontaminate": [evaluation], "workers": 1}
    ledger = prepare("figures", folder, tmp_path / "out", **choices).ledger
    assert ledger["drops"] == {"decontaminate": {"same_id": 1}}
    assert dropped(tmp_path / "out") == [("train", "0", "same_id", "as figures__b__0__0 of eval/test")]
    copies = [json.loads(row) for row in (tmp_path / "out" / "copies.jsonl").read_text().splitlines()]
    assert [(row["key"], row["kind"], row["action"]) for row in copies][:2] == [
        ("figures__b__0__0", "id", "dropped"),
        ("figures__b__0__0", "sha256", "dropped"),
    ]
    assert {row["split"] for row in copies} == {"train"}
    assert numbers(tmp_path / "out") == {"train": [1], "test": [2]}


def test_what_is_evaluated_on_is_looked_for_outside_of_test_as_it_is_now(evaluation, figures, tmp_path):
    """Figure 0 of train has gone to test with its article, and stays; figure 1, alike, is valid's loss."""
    folder = figures(("train", "c"), ("valid", "z"), ("test", "c"), ("train", "a"), pictures={0: 50, 1: 50})
    choices = {"split": "grouped", "duplicates": "off", "decontaminate": [evaluation], "workers": 1}
    ledger = prepare("figures", folder, tmp_path / "out", **choices).ledger
    assert dropped(tmp_path / "out") == [("valid", "1", "same_sha256", "as figures__b__0__0 of eval/test")]
    assert {split: (page["in"], page["out"], page["drops"]) for split, page in ledger["splits"].items()} == {
        "train": (1, 1, {}),
        "valid": (1, 0, {"decontaminate": {"same_sha256": 1}}),
        "test": (2, 2, {}),
    }


PAPERS = ("README.md", "croissant.json", "ATTRIBUTION.md", "attribution.csv")


@pytest.mark.parametrize(
    "at",
    [
        "data_prep.pipeline._write_descriptions",
        "medvlp.report.dataset.provenance.write_attribution",
        "medvlp.report.dataset.attribution.write_whole",
        "medvlp.report.dataset.provenance.write_card",
        "medvlp.report.dataset.provenance.write_croissant",
    ],
)
@pytest.mark.parametrize("stop", [KeyboardInterrupt, ShardError])
def test_papers_that_a_stop_left_out_are_written_by_the_next_run(figures, tmp_path, monkeypatch, at, stop):
    folder = figures(("train", "a"), ("test", "b"))
    prepare("figures", folder, tmp_path / "straight", workers=1)

    def stopped(*args):
        raise stop("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(at, stopped)
        with pytest.raises(stop):
            prepare("figures", folder, tmp_path / "out", workers=1)
    assert (tmp_path / "out" / "ledger.json").exists()
    assert not all((tmp_path / "out" / name).exists() for name in PAPERS)
    again = prepare("figures", folder, tmp_path / "out", workers=1)
    assert (again.was_done, again.ledger["out"]) == (True, 2)
    for name in PAPERS:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name
    assert digests(tmp_path / "out") == digests(tmp_path / "straight")


def test_papers_that_are_there_are_not_written_again(figures, tmp_path, monkeypatch):
    folder = figures(("train", "a"), ("test", "b"))
    prepare("figures", folder, tmp_path / "out", workers=1)
    monkeypatch.setattr("data_prep.pipeline._write_descriptions", lambda *args: pytest.fail("written again"))
    assert prepare("figures", folder, tmp_path / "out", workers=1).was_done
