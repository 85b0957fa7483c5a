"""The page of an evaluation of answers."""

import pytest

from medvlp.report import write_run_report
from medvlp.report.files import NotARun
from medvlp.report.run.page import evaluation_charts
from medvlp.report.run.questions import TYPES, question_galleries, type_table
from medvlp.report.thumbnails import Thumbnails
from medvlp.shards import ShardDataset
from tests.report.dataset.small_folders import HOSTILE, jsonl
from tests.report.html_page import Page, assert_safe


def record(key, number, score, **more):
    scores = {"closed_accuracy": score, "unparsed": 0.0, "llava_med/open_recall": 0.5}
    return {
        "id": f"{key}#{number}", "group": key, "question": f"Question {number}?", "prediction": "yes", "target": "no",
        "score": score, "answer_type": "closed", "question_type": "", "language": "en", "scores": scores,
        "controls": {"blank_image": "perhaps"}, **more,
    }  # fmt: skip


def test_means_by_type():
    open_scores = {"open_token_recall": 0.25, "unparsed": 1.0}
    records = [
        record("a", 1, 1.0, question_type="size"),
        record("a", 2, 0.0, question_type="size"),
        record("b", 3, 1.0, question_type="organ"),
        record("b", 4, 0.0, answer_type="open", scores=open_scores),
    ]
    table = type_table(records)
    assert table.columns == ["closed_accuracy", "unparsed", "open_token_recall"]
    assert table.rows == [
        ("answer type", "closed", 3, ["0.667", "0.000", "–"]),
        ("answer type", "open", 1, ["–", "1.000", "0.250"]),
        ("question type", "size", 2, ["0.500", "0.000", "–"]),
        ("question type", "(not stated)", 1, ["–", "1.000", "0.250"]),
        ("question type", "organ", 1, ["1.000", "0.000", "–"]),
    ]
    assert table.skipped == 0


def test_types_that_nobody_states_take_no_rows_and_rare_ones_are_counted():
    assert [row[0] for row in type_table([record("a", 1, 1.0)]).rows] == ["answer type"]
    many = type_table([record("a", n, 1.0, question_type=f"type {n:03d}") for n in range(TYPES + 5)])
    assert len(many.rows) == 1 + TYPES
    assert many.skipped == 5


def test_an_image_is_shown_once_for_right_and_once_for_wrong(prepared):
    test = ShardDataset(prepared / "test")
    thumbnails = Thumbnails(str(prepared / "test"), test.manifest_hash, None)
    records = [record("figures__a1", n, 1.0) for n in range(5)] + [record("figures__a2", n, 0.0) for n in range(3)]
    records += [record("figures__a3", 0, 0.5)]
    (right, hits), (wrong, misses) = question_galleries(records, {}, thumbnails)
    assert (right, wrong) == ("Answered right", "Answered wrong")
    assert [example.thumbnail.key for example in hits] == ["figures__a1"]
    assert [example.thumbnail.key for example in misses] == ["figures__a2"]
    assert hits[0].thumbnail.image.startswith("data:image/jpeg")


@pytest.fixture
def evaluation(tmp_path, prepared):
    folder = tmp_path / "eval"
    (folder / "samples").mkdir(parents=True)
    options = {"options": {"A": "heart", "B": HOSTILE}}
    jsonl(
        folder / "samples/made.jsonl",
        [
            record("figures__a1", 1, 1.0, question=HOSTILE, prediction="", question_type="size"),
            record("figures__a2", 1, 0.0, answer_type="multiple_choice", prediction="B", **options),
        ],
    )
    card = {"kind": "vqa", "data": str(prepared / "test"), "split_hash": ShardDataset(prepared / "test").manifest_hash,
            "split": "test", "n": 2, "records": "samples/made.jsonl", "controls": {"seed": 0}}  # fmt: skip
    row = {"checkpoint": "a.ckpt", "task": "made", "n": 2, "protocol": card}
    values = [("closed_accuracy", 0.5, 0.0, 1.0), ("closed_accuracy/minus_blank_image", -0.25, -0.5, 0.125)]
    jsonl(
        folder / "results.jsonl",
        [{**row, "metric": name, "value": value, "ci_low": low, "ci_high": high} for name, value, low, high in values],
    )
    return folder


def test_the_page_shows_questions_answers_and_controls(evaluation):
    page = assert_safe(write_run_report(evaluation))
    text = page.text
    for expected in (
        "closed_accuracy/minus_blank_image", "-0.250 [-0.500, 0.125]", "Answered right", "Answered wrong", "(nothing)",
        "With blank image", "perhaps", "A. heart", f"B. {HOSTILE}", "question type size 1 1.000",
    ):  # fmt: skip
        assert expected in text
    assert "Rows are true classes" not in text
    assert "svg" not in page.tags


def test_questions_without_their_dataset_keep_the_table(evaluation, prepared):
    (prepared / "test/manifest.json").unlink()
    text = Page(write_run_report(evaluation)).text
    assert "Images and captions are missing" in text
    assert "question type" in text
    assert "Answered right" not in text


def test_a_record_without_its_fields_is_named(evaluation):
    jsonl(evaluation / "samples/made.jsonl", [{"id": "figures__a1#1"}])
    with pytest.raises(NotARun, match=r"made\.jsonl, line 1 is not as medvlp writes it: it has no 'question'"):
        write_run_report(evaluation)


@pytest.mark.filterwarnings("error")
def test_many_metrics_of_training_are_drawn_in_several_charts():
    def row(step, metrics):
        names = {f"a_rather_long_metric_name/{n:02d}": n / 20 for n in range(metrics)}
        return {"step": step, "split": "valid", "task": "made", **names}

    (chart,) = evaluation_charts([row(1, 8), row(2, 8)])
    assert 'aria-label="made · valid"' in chart.svg
    charts = evaluation_charts([row(1, 20), row(2, 20)])
    assert [chart.summary.count("at step 2") for chart in charts] == [8, 8, 4]
    assert 'aria-label="made · valid (3)"' in charts[2].svg
