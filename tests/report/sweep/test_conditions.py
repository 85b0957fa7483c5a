"""The part of a page about other conditions: scores next to those of the same questions as they are."""

from medvlp.report import write_run_report
from medvlp.report.sweep.evaluation import Evaluation
from medvlp.report.sweep.reliability.conditions import condition_tables
from medvlp.report.sweep.scores import Scores
from tests.report.dataset.small_folders import jsonl


def row(metric, value, low=None, high=None, n=40, model="m", task="t"):
    return {"checkpoint": model, "task": task, "metric": metric, "value": value, "ci_low": low, "ci_high": high, "n": n,
            "protocol": {"kind": "vqa", "split": "test"}}  # fmt: skip


def with_control(metric, plain, value, control, low, high, n=40):
    difference = row(f"{metric}/minus_{control}", plain - value, low, high, n)
    return [row(f"{metric}/{control}", value, n=n), difference]


ROWS = [
    row("closed_accuracy", 0.8, 0.7, 0.9, n=100),
    *with_control("closed_accuracy", 0.75, 0.5, "brand_names", 0.05, 0.45, n=12),
    *with_control("closed_accuracy", 0.8, 0.7, "recency_bias", -0.02, 0.2),
    *with_control("closed_suggested", 0.1, 0.25, "recency_bias", -0.3, 0.0),
    *with_control("closed_accuracy", 0.8, 0.3, "blank_image", 0.4, 0.6),
    *with_control("refused", 0.0, 0.9, "blank_image", -1.0, -0.8),
    row("pair_accuracy", 0.4, 0.3, 0.5),
    row("pair_confusion", 0.5),
]


def test_conditions_by_hand():
    (table,) = condition_tables(Scores(Evaluation(ROWS)))
    lines = [(x.condition, x.plain, x.score, x.difference, x.n, x.note, x.loses) for x in table.lines]
    assert lines == [
        ("blank image", "0.800", "0.300", "+0.500 [0.400, 0.600]", 40, "refused 90%, else 0%", False),
        ("brand names", "0.750", "0.500", "+0.250 [0.050, 0.450]", 12, "", True),
        ("recency bias", "0.800", "0.700", "+0.100 [-0.020, 0.200]", 40, "suggestion taken 25%, else 10%", False),
    ]
    assert table.measures == [("m", "pair_accuracy", "0.400 [0.300, 0.500]"), ("m", "pair_confusion", "0.500")]


def test_default_controls_alone_have_no_table():
    usual = [ROWS[0], *with_control("closed_accuracy", 0.8, 0.3, "blank_image", 0.4, 0.6)]
    assert condition_tables(Scores(Evaluation(usual))) == []
    refusing = [*usual, *with_control("refused", 0.0, 0.2, "blank_image", -1.0, -0.8)]
    assert len(condition_tables(Scores(Evaluation(refusing)))) == 1


def test_a_page_shows_them(tmp_path):
    jsonl(tmp_path / "results.jsonl", ROWS)
    page = write_run_report(tmp_path).read_text(encoding="utf-8")
    assert 'href="#conditions"' in page
    assert '<td class="worst">+0.250 [0.050, 0.450]</td>' in page
    assert "suggestion taken 25%, else 10%" in page
