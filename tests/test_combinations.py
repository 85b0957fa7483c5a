"""Combinations of labels and metadata: what they match, what they refuse, and what they leave of a sample."""

import pytest

from medvlp.combinations import (
    Combination,
    CombinationError,
    ItemFilter,
    Occurrences,
    filter_of,
    item_values,
    parse_combinations,
    values_of,
)
from medvlp.shards import BadSample, Conversation, Sample, Turn

LIVER_CT = {"modality": "CT", "organ": ["liver", "spleen"]}


def one(entry) -> Combination:
    return parse_combinations("key", [entry])[0]


@pytest.mark.parametrize(
    ("entry", "fields", "is_matched"),
    [
        (LIVER_CT, {"modality": "CT", "organ": "spleen"}, True),
        (LIVER_CT, {"modality": "CT", "organ": "lung"}, False),
        (LIVER_CT, {"modality": "MRI", "organ": "liver"}, False),
        (LIVER_CT, {"modality": "CT"}, False),
        ({"modality": "CT"}, {"modality": " CT "}, True),
        ({"modality": "ct"}, {"modality": "CT"}, False),
        ({"site": 3}, {"site": 3}, True),
        ({"site": 3}, {"site": 3.0}, True),
        ({"site": "3"}, {"site": 3}, True),
        ({"site": [3, 5]}, {"site": "5"}, True),
        ({"site": 1}, {"site": True}, False),
        ({"contrast": True}, {"contrast": True}, True),
        ({"contrast": True}, {"contrast": "true"}, True),
        ({"dose": 0.5}, {"dose": 0.5}, True),
        ({"findings": "nodule"}, {"findings": ["effusion", "nodule"]}, True),
        ({"findings": "nodule"}, {"findings": []}, False),
        ({"findings": "nodule"}, {"findings": {"nodule": 1, "mass": 0}}, True),
        ({"findings": "mass"}, {"findings": {"nodule": 1, "mass": 0, "other": -1, "third": None}}, False),
        ({"findings": "nodule"}, {"findings": None}, False),
        ({"findings": "nan"}, {"findings": float("nan")}, False),
    ],
)
def test_every_field_has_one_of_its_values(entry, fields, is_matched):
    assert one(entry).matches(values_of(fields)) is is_matched


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{}], "key: an empty combination is of everything"),
        ([{"a": 1}, {"a": "1"}], "key: a=1 stands there twice"),
        ([{"a": [1, 3], "b": 2}, {"b": 2, "a": [3, 1]}], "b=2, a=3|1 stands there twice"),
        ([{"a": None}], "key: a=None is no value and no list of values"),
        ([{"a": []}], r"key: a=\[\] is no value"),
        ([{"a": [1, {"b": 2}]}], "is no value and no list"),
        ([{"a": {"b": 1}}], "is no value and no list"),
        ([{" ": 1}], "is no value and no list"),
        ([{"a": " "}], "is no value and no list"),
        (["a=1"], r"key=\['a=1'\] is no list of combinations, such as \[\{modality: CT, organ: \[liver, spleen\]\}\]"),
        ({"a": 1}, "is no list of combinations"),
        (3, "is no list of combinations"),
    ],
)
def test_what_is_no_combination_is_refused(entries, message):
    with pytest.raises(CombinationError, match=message):
        parse_combinations("key", entries)


def test_names_and_json_are_those_of_the_configuration():
    item_filter = filter_of({"only": [LIVER_CT], "exclude": [{"site": 3}]}, "key")
    assert [combination.name for combination in item_filter.only] == ["modality=CT, organ=liver|spleen"]
    assert item_filter.to_json() == {
        "only": [{"modality": ["CT"], "organ": ["liver", "spleen"]}],
        "exclude": [{"site": ["3"]}],
    }
    assert filter_of(item_filter.to_json(), "key") == item_filter
    assert (bool(item_filter), bool(ItemFilter())) == (True, False)
    with pytest.raises(CombinationError, match="no mapping of only and exclude"):
        filter_of("x", "key")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"modality": "CT", "organ": "liver", "site": 1}, ""),
        ({"modality": "CT", "organ": "liver", "site": 3}, "site=3"),
        ({"modality": "MRI", "organ": "liver", "site": 1}, "not modality=CT, organ=liver|spleen"),
        ({}, "not modality=CT, organ=liver|spleen"),
    ],
)
def test_a_filter_says_why_an_item_is_held_out(fields, reason):
    item_filter = filter_of({"only": [LIVER_CT], "exclude": [{"site": 3}]}, "key")
    assert item_filter.reason(values_of(fields)) == reason
    assert ItemFilter().reason(values_of(fields)) == ""


def asked(*kinds: str) -> Sample:
    turns = [Turn("user", "?"), Turn("assistant", "!")]
    conversations = [Conversation(turns, metadata={"kind": kind}) for kind in kinds]
    return Sample("k", labels={"modality": "CT"}, metadata={"modality": "MRI"}, conversations=conversations)


def test_a_conversation_is_an_item_and_a_label_goes_before_metadata():
    assert item_values(asked("organ", "plane")) == [
        {"modality": {"CT"}, "kind": {"organ"}},
        {"modality": {"CT"}, "kind": {"plane"}},
    ]
    assert item_values(asked()) == [{"modality": {"CT"}}]


def test_conversations_that_are_held_out_leave_their_sample():
    sample = asked("organ", "plane", "organ")
    item_filter = filter_of({"exclude": [{"kind": "organ", "modality": "CT"}]}, "key")
    assert [c.metadata["kind"] for c in item_filter.reduced(sample).conversations] == ["plane"]
    assert len(sample.conversations) == 3
    assert item_filter.reduced(plain := asked("plane")) is plain
    with pytest.raises(BadSample, match="kind=organ, modality=CT") as held_out:
        item_filter.reduced(asked("organ"))
    assert (held_out.value.reason, held_out.value.key) == ("held_out", "k")
    with pytest.raises(BadSample, match="modality=CT"):
        filter_of({"exclude": [{"modality": "CT"}]}, "key").reduced(asked())


def test_what_does_not_occur_is_answered_with_what_does():
    items = [{"modality": "CT", "organ": "liver"}] * 2 + [{"modality": "MRI", "organ": "liver"}, {"modality": "CT"}]

    def occurrences(*entries):
        counted = Occurrences(parse_combinations("key", entries))
        for item in items:
            counted.add(values_of(item))
        return counted

    first = occurrences(LIVER_CT, {"modality": ["CT", "MRI"]})
    first.check("key", "x")
    assert list(first.counts.values()) == [2, 4]
    with pytest.raises(CombinationError) as wrong:
        occurrences({"modality": "ct", "organ": "liver"}).check("holdout_by", "the data")
    assert str(wrong.value) == (
        "holdout_by: no sample of the data is of modality=ct, organ=liver; did you mean 'modality=CT, organ=liver'? "
        "Combinations there: modality=CT, organ=liver (2); modality=MRI, organ=liver (1); modality=CT, organ=(none) (1)"
    )
    with pytest.raises(
        CombinationError, match=r"no sample of x has a label or metadata 'organs'; did you mean 'organ'\? Fields"
    ):
        occurrences({"modality": "CT", "organs": "liver"}).check("key", "x")
