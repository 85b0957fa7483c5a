"""Questions about present and absent findings: which are asked of which label, by hand, and their score as pairs."""

from collections import Counter

import pytest

from data_prep.errors import PrepError
from data_prep.pipeline import prepare
from data_prep.source import Dropped
from data_prep.sources import open_source
from data_prep.sources.prepared.probe_questions import present_and_absent
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import Sample, ShardDataset
from tests.datasets import jpeg, write_split
from tests.eval.vqa.test_task import NO_INTERVALS, assistant_model, encoder, values  # noqa: F401

LABELS = [
    {"findings": ["edema", "nodule"], "states": {"edema": 1, "nodule": 0, "fracture": -1, "mass": None}},
    {"findings": ["edema"], "states": {"edema": 0, "nodule": 0, "fracture": 0, "mass": 0}},
    {"findings": ["effusion", "edema", "nodule"], "states": {"edema": 1, "nodule": 1, "fracture": None, "mass": 0}},
    {"findings": [], "states": {}},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    write_split(
        folder / "test",
        [
            Sample(
                f"made__{number}__0__0",
                {"jpg": jpeg(number)},
                texts={"caption": "A film."},
                labels=labels,
                metadata={
                    "group": f"g{number}",
                    "group_kind": "patient",
                    "modality": ["CT", "MRI", "unknown", "CT"][number],
                },
            )
            for number, labels in enumerate(LABELS)
        ],
    )
    return folder


def asked(folder, **options):
    """Sample's number → [(finding, answer)] or the reason of its drop; the source."""
    source = open_source("probe_questions", str(folder), options=options)
    (unit,) = source.units()
    outcomes = list(source.read(unit))
    return source, [
        item.reason
        if isinstance(item, Dropped)
        else [(c.metadata["finding"], c.turns[1].text) for c in item.conversations]
        for item in outcomes
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("CT", (["CT"], ["MRI", "PET"])),
        (["CT", "PET"], (["CT", "PET"], ["MRI"])),
        ([], ([], ["CT", "MRI", "PET"])),
        ({"CT": 1, "MRI": 0, "PET": -1, "X": None, "Y": False}, (["CT"], ["MRI"])),
        ("unknown", ([], [])),
        (None, ([], [])),
        (3, ([], [])),
        ([{}], ([], [])),
    ],
)
def test_what_labels_say_of_classes(value, expected):
    assert present_and_absent(value, ["CT", "MRI", "PET"]) == expected


def test_each_finding_that_is_present_has_one_that_is_not(folder):
    _, outcomes = asked(folder, labels=["findings"])
    assert outcomes[1] in ([("edema", "yes"), (other, "no")] for other in ("nodule", "effusion"))
    assert outcomes[0] == [("edema", "yes"), ("effusion", "no")]  # of two findings one has no other left
    assert outcomes[2:] == ["nothing_asked", "nothing_asked"]  # all there are, and none
    source, outcomes = asked(folder, labels=["states"], absent="frequent")
    # Where nodule is absent it is the commonest that is; a class that is uncertain or not stated is never asked about.
    assert outcomes == [
        [("edema", "yes"), ("nodule", "no")],
        "nothing_asked",
        [("edema", "yes"), ("mass", "no")],
        "nothing_asked",
    ]
    assert source.counts["read", "findings of states without one that is absent"] == 1
    _, outcomes = asked(folder, labels=["modality", "findings"], most=1)
    assert outcomes[0][:2] == [("CT", "yes"), ("MRI", "no")]
    assert [len(outcome) for outcome in outcomes if isinstance(outcome, list)] == [4, 4, 2]


def test_names_say_what_is_asked_and_what_is_not(folder, tmp_path):
    names = tmp_path / "names.yaml"
    names.write_text("edema: an edema\neffusion: an effusion\n")
    source, outcomes = asked(folder, labels=["findings"], names=str(names))
    assert outcomes[1] == [("edema", "yes"), ("effusion", "no")]
    assert source.counts["read", "findings of findings without a name"] == 2
    assert source.options()["names"] == {"edema": "an edema", "effusion": "an effusion"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": ["modality"], "question": "What?"},
        {"labels": ["modality"], "absent": "always"},
        {"labels": ["modality"], "most": -1},
        {"labels": ["modality"], "names": "nowhere.yaml"},
    ],
)
def test_options_that_cannot_be(folder, options):
    with pytest.raises(PrepError, match=next(reversed(options), "labels")):
        open_source("probe_questions", str(folder), options=options)


def test_a_label_that_nobody_has_and_a_folder_that_was_not_prepared(folder, tmp_path):
    with pytest.raises(PrepError, match=r"no sample of .* has a label or metadata 'age'"):
        asked(folder, labels=["age"])
    with pytest.raises(PrepError, match="no folder that medvlp prep wrote"):
        open_source("probe_questions", str(tmp_path), options={"labels": ["age"]})


def test_who_says_yes_to_all_has_no_pair(folder, tmp_path, encoder):  # noqa: F811
    options = {"labels": ["modality"], "question": "Was this image made by {finding}?"}
    ledger = prepare("probe_questions", folder, tmp_path / "out", options=options, duplicates="off", min_side=1).ledger
    assert (ledger["out"], ledger["drops"]) == (3, {"read": {"nothing_asked": 1}})
    split = ShardDataset(tmp_path / "out" / "test")
    sample = split.read_text(0)
    assert sample.conversations[0].turns[0].text == "<image>\nWas this image made by CT?"
    assert (sample.texts, sample.metadata["group"]) == ({}, "g0")
    pairs = Counter(c.metadata["pair_id"] for row in range(3) for c in split.read_text(row).conversations)
    assert set(pairs.values()) == {2}
    task = Vqa("made", split, controls=(), bootstrap=NO_INTERVALS)
    yes = values(task.run(assistant_model(encoder, lambda *_: "yes")))
    assert (yes["closed_accuracy"], yes["pair_accuracy"]) == (0.5, 0)
    right = values(
        task.run(assistant_model(encoder, lambda text, number: "yes" if ("CT" in text) == (number != 2) else "no"))
    )
    assert right["pair_accuracy"] == 1
