import json

import pytest

from medvlp.report import NotARun, write_prep_report
from medvlp.report.dataset.summary import summarise
from medvlp.shards import Sample, ShardDataset
from tests.report.dataset.small_folders import HOSTILE, write_split
from tests.report.html_page import assert_safe


def test_prep_page_counts_and_shows(prepared):
    page = assert_safe(write_prep_report(prepared))
    for expected in (
        "came in: 15 · went out: 8 · were dropped: 7", "test 13 6 6", "train 2 2 1",
        "Kind of group, as read from a sample of the data: not stated. 1 group is in more than one split",
        "decode the image cannot be decoded undecodable_image 4", "licence not allowed not_allowed 3",
        "CC-BY-4.0 5 62.5 %", "not stated 3 37.5 %", "CT 4 50.0 %", "Caption length", "Image size",
        HOSTILE, "(no caption)", "No picture: the image cannot be decoded.", "figures",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert page.tags.count("img") == 7
    assert page.tags.count("svg") == 2
    assert "missing 0" not in page.text


def test_classes_that_are_gone_are_named(prepared):
    ledger = json.loads((prepared / "ledger.json").read_text())
    (prepared / "ledger.json").write_text(json.dumps({**ledger, "vanished": {"grade": {HOSTILE: 3, "None": 2}}}))
    page = assert_safe(write_prep_report(prepared))
    assert f"No sample is left of these classes of grade: {HOSTILE} (3), None (2)." in page.text


@pytest.mark.parametrize(
    ("kinds", "stated"), [(["figure"], "figure"), (["patient", "article"], "article, patient"), ([""], "not stated")]
)
def test_groups_are_called_what_the_data_call_them(tmp_path, kinds, stated):
    samples = [Sample(f"s__{i}", metadata={"group": f"g{i}", "group_kind": kind}) for i, kind in enumerate(kinds)]
    write_split(tmp_path, "train", samples)
    (tmp_path / "ledger.json").write_text(json.dumps({"in": 2, "out": 2, "drops": {}, "splits": {}}))
    text = assert_safe(write_prep_report(tmp_path)).text
    assert f"read from a sample of the data: {stated}. Each sample is a group of its own" in text


def test_groups_that_hold_splits_apart(tmp_path):
    samples = [Sample(f"s__{i}", metadata={"group": f"g{i // 2}"}) for i in range(4)] + [Sample("s__4")]
    write_split(tmp_path, "train", samples)
    (tmp_path / "ledger.json").write_text(json.dumps({"in": 5, "out": 5, "drops": {}, "splits": {}}))
    text = assert_safe(write_prep_report(tmp_path)).text
    assert "No group is in more than one split. 1 samples name no group." in text


def test_terms_are_counted_once_a_caption(prepared):
    seen = summarise([ShardDataset(prepared / "test"), ShardDataset(prepared / "train")])
    assert seen.captions == 7
    assert seen.terms[0] == ("liver", 3)
    assert dict(seen.terms)["axial"] == 2
    assert "the" not in dict(seen.terms)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (("drops", "decode", "undecodable_image"), "x"),
        (("drops", "decode", "undecodable_image"), [1]),
        (("drops", "licence", "not_allowed"), 10**400),
        (("splits", "test", "drops"), None),
        (("splits", "train"), 5),
    ],
)
def test_a_malformed_ledger_is_named(key, value, prepared):
    ledger = json.loads((prepared / "ledger.json").read_text())
    part = ledger
    for name in key[:-1]:
        part = part[name]
    part[key[-1]] = value
    (prepared / "ledger.json").write_text(json.dumps(ledger))
    with pytest.raises(NotARun, match=r"figures.* is not as medvlp writes it"):
        write_prep_report(prepared)


def test_what_is_no_source_is_refused(tmp_path, prepared):
    with pytest.raises(NotARun, match=r"expected ledger\.json and at least one finished split"):
        write_prep_report(tmp_path)
    (prepared / "ledger.json").write_text(json.dumps({"in": 3}))
    with pytest.raises(NotARun, match="ledger\.json is not as medvlp writes it \(KeyError: 'out'\)"):
        write_prep_report(prepared)
