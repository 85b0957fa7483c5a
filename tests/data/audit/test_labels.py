"""What `medvlp check` says of class labels."""

import pytest

from medvlp.data.audit.labels import head_summaries, label_problems, label_values
from medvlp.data.labels import ClassLabels
from medvlp.shards import Sample, ShardDataset
from medvlp.verbs.shards.check import main as check
from tests.classifiers import HEADS as OBJECTIVE
from tests.classifiers import labelled_samples
from tests.datasets import jpeg, write_split

HEADS = {
    "kind": ClassLabels("kind", ("a", "b", "c")),
    "findings": ClassLabels("findings", ("mass", "cyst"), multi_label=True),
}
LABELS = [
    {"kind": "a", "findings": ["mass"]},
    {"kind": "B", "findings": ["cyst", "scar"]},
    {"kind": "b", "findings": {"mass": 1, "cyst": None}},
    {"kind": ""},
    {"findings": []},
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    samples = [Sample(f"s{n}", images={"jpg": jpeg(n)}, labels=labels) for n, labels in enumerate(LABELS)]
    return ShardDataset(write_split(tmp_path_factory.mktemp("labels") / "train", samples))


def test_labels_that_cannot_be_learned_are_named(dataset):
    problems = [(p.name, p.key, p.detail) for p in label_problems("made", dataset, HEADS)]
    assert problems == [
        ("unknown_class", "s1", "head kind: 'B'"),
        ("unknown_class", "s1", "head findings: 'scar'"),
        ("no_label", "s3", "of no head (kind, findings)"),
        ("absent_class", "", "head kind: 'c'"),
        ("absent_class", "", "head findings: 'cyst'"),
    ]


def test_classes_and_missing_labels_are_counted(dataset):
    assert head_summaries({"made": dataset}, HEADS) == [
        "made: head kind: 2 of 5 samples have a label: 'a' 1, 'b' 1, 'c' 0",
        "made: head findings: 3 of 5 samples have a label, 5 labels of single classes missing: 'mass' 2, 'cyst' 0",
    ]


def test_values_are_listed_for_those_who_write_the_classes(dataset):
    assert label_values(dataset) == [
        "label findings: 'mass' 1, 'cyst' 1, 'scar' 1, 'cyst=null' 1, 'mass=1' 1; 1 of 5 have none",
        "label kind: 'a' 1, 'B' 1, 'b' 1; 2 of 5 have none",
    ]


def test_the_command_says_it(tmp_path, capsys):
    split = write_split(tmp_path / "made/train", labelled_samples(12))
    words = [f"data.sources.made.path={split}", "objective=classify", *OBJECTIVE]
    assert check([*words, "objective.heads.kind.classes=[k0,k1,k2]"]) == 1
    out = capsys.readouterr().out
    assert "unknown_class" in out
    assert "no_label" in out
    assert "made: head kind: 6 of 12 samples have a label: 'k0' 2, 'k1' 2, 'k2' 2" in out
    assert check(words[:1]) == 0
    assert "made: label kind: 'k1' 2, 'k2' 2, " in capsys.readouterr().out
