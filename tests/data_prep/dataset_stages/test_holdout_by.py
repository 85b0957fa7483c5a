"""Combinations that are held out of train in preparation: whole groups, counted by combination, refused where there are none."""

import json

import pytest

from data_prep import sources
from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Source, chunks
from medvlp.report.dataset.contents import Contents
from medvlp.report.dataset.stages import how_split
from medvlp.shards import Conversation, Sample, ShardDataset, Turn, make_key, read_manifest
from medvlp.shards.vocabulary import SPLITS
from tests.datasets import jpeg

CASES = [  # split, patient, modality, organ, kind of question
    ("train", "a", "CT", "liver", "organ"),
    ("train", "a", "CT", "lung", "organ"),
    ("train", "b", "MRI", "liver", "plane"),
    ("train", "c", "CT", "lung", ""),
    ("train", "c", "MRI", "lung", "plane"),
    ("valid", "d", "CT", "liver", "organ"),
    ("valid", "e", "MRI", "lung", ""),
    ("test", "f", "CT", "liver", "plane"),
    ("test", "g", "MRI", "lung", "organ"),
    ("train", "g", "MRI", "liver", "plane"),
]


class Cases(Source):
    """The cases above."""

    name = "cases"
    description = "cases of patients"

    def fingerprint(self):
        return {"cases": "1"}

    def units(self):
        return [unit for split in SPLITS for unit in chunks(split, len(self._of(split)), self.samples_per_shard)]

    def _of(self, split):
        return [(number, case) for number, case in enumerate(CASES) if case[0] == split]

    def read(self, unit):
        start, stop = unit.selection
        for number, (_, patient, modality, organ, kind) in self._of(unit.split)[start:stop]:
            turns = [Turn("user", "<image>\nWhat?"), Turn("assistant", organ)]
            yield Sample(
                make_key("cases", patient, str(number)),
                {"jpg": jpeg(number)},
                {"caption": f"case {number}"},
                {"organ": organ},
                [Conversation(turns, str(number), {"kind": kind})] if kind else [],
                {"group": patient, "modality": modality, "source": "cases", "licence": "CC0-1.0"},
            )


@pytest.fixture(autouse=True)
def source(monkeypatch):
    monkeypatch.setitem(sources.SOURCES, "cases", f"{__name__}:Cases")


def prepared(output, **choices):
    """Ledger, and split → numbers of the cases."""
    ledger = prepare("cases", "", output, samples_per_shard=3, duplicates="off", **choices).ledger
    paths = sorted(output.glob("*/manifest.json"))
    return ledger, {p.parent.name: {int(k.split("__")[2]) for k in ShardDataset(p.parent).keys} for p in paths}


def test_a_combination_leaves_train_with_its_whole_groups(tmp_path):
    ledger, splits = prepared(tmp_path / "out", holdout_by=[{"modality": "CT", "organ": "liver"}])
    # a: 0 is of it and 1 of its group; d leaves valid; g has nothing of it and stays in two splits, as published
    assert splits == {"train": {2, 3, 4, 9}, "valid": {6}, "test": {0, 1, 5, 7, 8}}
    assert ledger["counts"]["split"] == {
        "moved train→test, held out: modality=CT, organ=liver": 1,
        "moved train→test, with a group that is held out": 1,
        "moved valid→test, held out: modality=CT, organ=liver": 1,
        "samples (3 groups) of modality=CT, organ=liver, none of them in train": 3,
    }
    assert ledger["moved"] == {"train→test": 2, "valid→test": 1}
    manifest, _ = read_manifest(tmp_path / "out/train")
    (entry,) = [stage for stage in manifest.stages if stage["stage"] == "split"]
    assert entry == {
        "stage": "split",
        "by": "publisher",
        "holdout_by": [{"modality": ["CT"], "organ": ["liver"]}],
        "holdout_to": "test",
    }
    contents = Contents(tmp_path / "out", ledger, [ShardDataset(tmp_path / "out/train")])
    assert (
        "samples of modality=CT, organ=liver are held out of train, with all of their groups, into test"
        in how_split(contents)
    )


@pytest.mark.parametrize(
    ("choices", "train", "valid", "test"),
    [
        # to valid: what was published in test stays there
        (
            {"holdout_by": [{"modality": "CT", "organ": "liver"}], "holdout_to": "valid"},
            {2, 3, 4, 9},
            {0, 1, 5, 6},
            {7, 8},
        ),
        # a question's own metadata count; case 3 has no question
        ({"holdout_by": [{"kind": "plane", "organ": "liver"}]}, {0, 1, 3, 4}, {5, 6}, {2, 7, 8, 9}),
        ({"holdout_by": [{"kind": "plane"}, {"organ": "liver"}]}, set(), {6}, {0, 1, 2, 3, 4, 5, 7, 8, 9}),
        ({"holdout_by": [{"organ": ["liver", "spleen"]}], "split": "grouped"}, {3, 4}, {6}, {0, 1, 2, 5, 7, 8, 9}),
    ],
)
def test_the_rules_of_splits_fit_each_other(tmp_path, choices, train, valid, test):
    if not train:
        with pytest.raises(
            PrepError, match="all of train is of kind=plane or organ=liver, or of a group with such a sample"
        ):
            prepared(tmp_path / "out", **choices)
        return
    assert prepared(tmp_path / "out", **choices)[1] == {"train": train, "valid": valid, "test": test}


def test_at_random_and_with_a_share_of_train_nothing_of_it_is_in_train(tmp_path):
    by = [{"organ": "liver"}]
    choices = {"split": "random", "fractions": {"train": 0.7, "valid": 0.3}, "split_seed": 3}
    _, splits = prepared(tmp_path / "random", holdout_by=by, **choices)
    is_liver = {number for number, case in enumerate(CASES) if case[3] == "liver"}
    assert is_liver.isdisjoint(splits["train"] | splits["valid"])
    _, plain = prepared(tmp_path / "plain", **choices)
    grouped = {n for n, case in enumerate(CASES) if case[1] in {CASES[m][1] for m in is_liver}}
    assert splits["train"] == plain["train"] - grouped
    ledger, splits = prepared(tmp_path / "share", holdout_by=by, holdout=0.9)
    assert splits["valid"] == {3, 4, 6}
    assert splits["test"] == grouped
    assert ledger["counts"]["split"]["moved train→valid, held out of train"] == 2


def test_a_slip_is_refused_and_the_units_stay(tmp_path):
    with pytest.raises(PrepError) as refusal:
        prepared(tmp_path / "out", holdout_by=[{"modality": "CT", "organ": "Liver"}])
    assert "no sample of the data is of modality=CT, organ=Liver; did you mean 'modality=CT, organ=liver'?" in str(
        refusal.value
    )
    assert "modality=MRI, organ=lung (3)" in str(refusal.value)
    with pytest.raises(
        PrepError, match=r"no sample of the data has a label or metadata 'site'\. Fields there: group, "
    ):
        prepared(tmp_path / "out", holdout_by=[{"site": 3}])
    prepared(tmp_path / "out", holdout_by=[{"organ": "liver"}])
    assert json.loads((tmp_path / "out/run.json").read_bytes())["units_done_before"] == 4
    with pytest.raises(PrepError, match="holdout_to='train' is not a choice"):
        prepared(tmp_path / "no", holdout_by=[{"organ": "liver"}], holdout_to="train")
    with pytest.raises(PrepError, match="holdout_by: an empty combination"):
        prepared(tmp_path / "no", holdout_by=[{}])
