import json

import pytest

from medvlp.report import NotARun, write_prep_report
from medvlp.report.prep import frequent_terms
from medvlp.shards import ShardDataset
from tests.report.html_page import assert_safe
from tests.report.small_folders import HOSTILE


def test_prep_page_counts_and_shows(prepared):
    page = assert_safe(write_prep_report(prepared))
    for expected in (
        "came in: 15 · went out: 8 · were dropped: 7", "test 13 6 6", "train 2 2 1",
        "1 group is in more than one split", "decode undecodable_image 4", "licence not_allowed 3",
        "CC-BY-4.0 5 62.5 %", "not stated 3 37.5 %", "CT 4 50.0 %", "Caption length", "Image size",
        HOSTILE, "(no caption)", "No picture: undecodable_image.", "figures",
    ):  # fmt: skip
        assert expected in page.text, expected
    assert page.tags.count("img") == 7
    assert page.tags.count("svg") == 2
    assert "missing 0" not in page.text


def test_terms_are_counted_once_a_caption(prepared):
    terms, captions = frequent_terms([ShardDataset(prepared / "test"), ShardDataset(prepared / "train")])
    assert captions == 7
    assert terms[0] == ("liver", 3)
    assert dict(terms)["axial"] == 2
    assert "the" not in dict(terms)


def test_what_is_no_source_is_refused(tmp_path, prepared):
    with pytest.raises(NotARun, match=r"expected ledger\.json and at least one finished split"):
        write_prep_report(tmp_path)
    (prepared / "ledger.json").write_text(json.dumps({"in": 3}))
    with pytest.raises(NotARun, match="is not a ledger of samples in, out and dropped"):
        write_prep_report(prepared)
