"""The end of `medvlp prep`: counts, warnings, and when it is an error."""

from pathlib import Path

from data_prep.ledger.summary import empty_splits, summary
from medvlp.jsonl import write_rows

OUT = Path("/out")


def ledger(drops=None, counts=None, **splits):
    """splits: name=(in, out, {reason: n})."""
    pages = {
        name: {"in": i, "out": o, "drops": {"read": reasons} if reasons else {}}
        for name, (i, o, reasons) in splits.items()
    }
    total = {}
    for page in pages.values():
        for reason, n in page["drops"].get("read", {}).items():
            total[reason] = total.get(reason, 0) + n
    sums = {side: sum(page[side] for page in pages.values()) for side in ("in", "out")}
    return {**sums, "drops": {"read": total} if total else {}, "counts": counts or {}, "moved": {}, "splits": pages}


def test_what_was_passed_by_is_said():
    counts = {
        "read": {"fields ignored: age": 3, "fields ignored: sex": 4, "pictures without a row": 2, "removed uid": 9},
        "licence_gate": {"kept: CC0-1.0": 4},
    }
    lines = summary(OUT, ledger(train=(4, 4, {}), counts=counts), False).splitlines()
    assert lines == [
        "in 4, out 4 (train 4), dropped 0",
        "        2 pictures without a row",
        "  fields ignored, with the rows that have them: sex (4), age (3)",
        "shards /out/<split>/, drops by name /out/dropped.jsonl",
        "report /out/report.html",
    ]


def test_a_share_of_drops_above_the_bound_is_said_at_the_end():
    page = ledger(train=(751, 117, {"empty_caption": 600, "missing_image": 34}), valid=(20, 18, {"missing_image": 2}))
    assert summary(OUT, page, False).splitlines()[-1] == (
        "warning: 634 of 751 rows of train (84%) were dropped, most (600) by read: empty_caption"
    )
    assert empty_splits(OUT, page) == ""


def write_drops(folder, *drops):
    """drops: (split, name, reason, detail)."""
    rows = [{"split": s, "name": n, "stage": "read", "reason": r, "detail": d} for s, n, r, d in drops]
    write_rows(folder / "dropped.jsonl", rows)


def test_the_first_drop_for_each_reason_is_shown(tmp_path):
    write_drops(
        tmp_path,
        *(("train", "t.csv line 3", "open_quote", "close it"), ("train", "t.csv line 5", "open_quote", "other")),
        ("train", "a.jpg", "broken", "a.jpg cannot be read"),
        *(("train", "n\udcf6", "not_utf8", "a\nb" + "x" * 400), ("train", "0123abcd", "hidden", "")),
    )
    page = ledger(train=(90, 85, {"open_quote": 2, "broken": 1, "not_utf8": 1, "hidden": 1}))
    assert summary(tmp_path, page, False).splitlines()[1:8] == [
        "        2 read: open_quote",
        "          first: t.csv line 3: close it",
        "        1 read: broken",
        "          first: a.jpg cannot be read",
        "        1 read: not_utf8",
        "          first: n : a b" + "x" * 292 + "…",
        "        1 read: hidden",
    ]


def test_an_empty_split_is_explained_by_its_own_first_drop(tmp_path):
    write_drops(tmp_path, ("train", "a.jpg", "missing_image", "no"), ("test", "b.jpg", "missing_image", "in images/"))
    page = ledger(train=(90, 89, {"missing_image": 1}), test=(1, 0, {"missing_image": 1}))
    assert empty_splits(tmp_path, page).startswith(
        "test is empty: all 1 samples were dropped, most (1) by read: missing_image; the first is b.jpg: in images/; "
    )
    page = ledger(train=(1, 0, {"missing_image": 1}), test=(1, 0, {"missing_image": 1}))
    assert "most (2) by read: missing_image; the first is a.jpg: no; " in empty_splits(tmp_path, page)


def test_classes_that_are_gone_are_named():
    page = {**ledger(train=(4, 4, {})), "vanished": {"label_name": {"NA": 3, "none": 1}}}
    assert summary(OUT, page, False).splitlines()[-1] == (
        "warning: no sample is left of these classes of label_name: 'NA' (3), 'none' (1); dropped.jsonl says why"
    )


def test_figures_that_gave_way_to_their_panels_are_no_loss():
    page = ledger(train=(30, 20, {"replaced_by_panels": 10}))
    assert "warning" not in summary(OUT, page, False)


def test_an_empty_result_and_an_empty_split_are_errors():
    assert empty_splits(OUT, ledger(train=(3, 0, {"missing_image": 2, "bad_row": 1}))) == (
        "the data set is empty: all 3 samples were dropped, most (2) by read: missing_image; /out/dropped.jsonl names them"
    )
    assert empty_splits(OUT, ledger(train=(3, 3, {}), test=(2, 0, {"bad_row": 2}))) == (
        "test is empty: all 2 samples were dropped, most (2) by read: bad_row; /out/dropped.jsonl names them"
    )
    assert empty_splits(OUT, ledger(train=(3, 3, {}), valid=(0, 0, {}))) == ""


def test_what_was_done_to_pixels_is_said_and_warned_of():
    deep = "images of more than 8 bits, of which fewer than 16 are used, scaled by these"
    counts = {"check_images": {deep: 3, "images turned as their EXIF says": 2, "nearly black images": 1}}
    lines = summary(OUT, ledger(train=(9, 9, {}), counts=counts), False).splitlines()
    assert f"        3 check_images: {deep}" in lines
    assert "        2 check_images: images turned as their EXIF says" in lines
    assert lines[-2].startswith("warning: 3 images have more than 8 bits and were scaled as above")
    assert lines[-1] == "warning: 1 images are nearly black as they are shown; look at them in report.html"
