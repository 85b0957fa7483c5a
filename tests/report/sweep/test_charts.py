"""Curves over training steps, reliability diagrams, subgroups: what they show of which rows."""

import re
from pathlib import Path

import pytest

from medvlp import report
from medvlp.report.plot_svg import COLOURS as PLOT_COLOURS
from medvlp.report.plot_svg import Axis, Curve, Plot, axis_around, thinned
from medvlp.report.run.charts import COLOURS
from medvlp.report.sweep.calibration import DIAGRAMS, calibrations
from medvlp.report.sweep.cards import cards
from medvlp.report.sweep.curves import run_of, step_charts, step_of
from medvlp.report.sweep.evaluation import Evaluation
from medvlp.report.sweep.leaderboard import heat_map
from medvlp.report.sweep.marks import Comparisons
from medvlp.report.sweep.scores import Scores
from medvlp.report.sweep.subgroups import GROUPS, subgroup_tables
from tests.report.sweep.test_sweep_page import row, scores_of


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis(0, 1, ""), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis(30, 50, ""), [30, 35, 40, 45, 50]),
        (Axis(0.61, 0.72, ""), [0.62, 0.64, 0.66, 0.68, 0.7, 0.72]),
        (Axis(100, 3000, ""), [500, 1000, 1500, 2000, 2500, 3000]),
    ],
)
def test_ticks_are_round_and_inside(axis, ticks):
    assert axis.ticks() == pytest.approx(ticks)


def test_axes_of_equal_values_and_of_fractions():
    assert (axis_around([5, 5], "").low, axis_around([5, 5], "").high) == pytest.approx((5, 5), abs=1e-6)
    assert axis_around([5, 5], "").high > axis_around([5, 5], "").low
    axis = axis_around([0.99, 1.0], "", 0.1)
    assert (axis.low, axis.high) == (pytest.approx(0.945), 1.0)


def test_axes_end_where_spans_are_numbers():
    values = [-1e308, 0.0, 1e308]
    axis = axis_around(values, "")
    assert 0 in axis.ticks()
    svg = Plot("far", Axis(0, 1, ""), axis, [Curve([(n / 2, value) for n, value in enumerate(values)])]).svg()
    assert "inf" not in svg
    assert "nan" not in svg


def test_a_plot_puts_points_where_they_belong_and_escapes_its_texts():
    plot = Plot(
        "<a>", Axis(0, 10, "<x>"), Axis(0, 1, "y"), [Curve([(0, 0), (10, 1)], sizes=[3, 3])], width=200, height=100
    )
    svg = str(plot.svg())
    assert re.findall(r'c[xy]="([\d.]+)"', svg) == ["44.0", "62.0", "188.0", "10.0"]
    assert "&lt;x&gt;" in svg
    assert "<a>" not in svg


def test_thinned_curves_keep_their_ends():
    points = [(float(n), 0.0) for n in range(1000)]
    assert (thinned(points, 7)[0], thinned(points, 7)[-1], len(thinned(points, 7))) == ((0, 0), (999, 0), 7)
    assert thinned(points[:3], 7) == points[:3]


@pytest.mark.parametrize(
    ("checkpoint", "run", "step"),
    [
        ("runs/a/checkpoints/step-000040.ckpt", "runs/a", 40),
        ("runs/a/step=7.ckpt", "runs/a", 7),
        ("runs/a/checkpoints/last.ckpt", "runs/a", None),
        ("runs/a/checkpoints/epoch2-step1500.ckpt", "runs/a", 1500),
        ("hf:org/step-100.ckpt", "", 100),
        ("exports/a", "", None),
    ],
)
def test_runs_and_steps_of_checkpoints(checkpoint, run, step):
    assert (run_of(checkpoint), step_of(checkpoint, {})) == (run, step)
    assert step_of(checkpoint, {"step": 12}) == 12


def test_curves_join_the_checkpoints_of_a_run_by_step():
    names = {"step-000020": 0.6, "step-000010": 0.5, "last": 0.6, "best": 0.9}
    rows = [row(f"runs/a/checkpoints/{name}.ckpt", value) for name, value in names.items()]
    rows[2]["protocol"]["step"] = 20
    rows.append(row("runs/b/checkpoints/step-000010.ckpt", 0.1))
    (chart,), stepless = step_charts(scores_of(rows))
    assert str(chart.svg).count("<circle") == 2
    assert chart.legend == [(0, "a")]
    assert stepless == ["a/best"]
    assert step_charts(scores_of(rows[:1])) == ([], [])


def evaluation(**files):
    return Scores(Evaluation(**files))


def test_diagrams_are_of_the_best_models_and_the_others_are_counted():
    models = [f"m{n}" for n in range(DIAGRAMS + 2)]
    bins = [
        {"low": 0.0, "high": 0.5, "n": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "n": 8, "confidence": 0.75, "accuracy": 0.5},
    ]
    rows = [
        {"checkpoint": model, "task": "t", "split": "test", "bins": bins, "risk_coverage": [[0.5, 1.0], [1.0, 0.8]]}
        for model in models
    ]
    results = [row(model, n / 10) for n, model in enumerate(models)]
    (page,) = calibrations(evaluation(results=[*results, row("m0", 0.25, metric="ece")], calibration=rows))
    assert [diagram.model for diagram in page.diagrams] == models[::-1][:DIAGRAMS]
    assert {diagram.summary for diagram in page.diagrams} == {"mean gap 0.250, n = 8"}
    assert (page.skipped, page.columns, page.lines) == (2, ["ECE"], [("m0", [("0.250", "")])])
    assert len(page.risk.legend) == DIAGRAMS


@pytest.mark.parametrize("share", ["90", "95", "97.5"])
def test_sensitivity_has_a_column_at_any_specificity(share):
    results = [row("m", 0.5), row("m", 0.25, metric=f"sensitivity@{share}specificity")]
    (page,) = calibrations(evaluation(results=results))
    assert (page.columns, page.lines) == ([f"sensitivity at {share}% specificity"], [("m", [("0.250", "")])])


@pytest.mark.parametrize(("metric", "worst"), [("acc1", "M"), ("error", "F")])
def test_items_that_a_field_does_not_divide_are_never_the_worst_group(metric, worst):
    values = {"(not stated)": 0.1, "(not a number)": 0.9, "F": 0.7, "M": 0.5}
    rows = [
        {"checkpoint": "m", "task": "t", "split": "test", "metric": metric, "by": "sex", "group": name, "value": value,
         "ci_low": None, "ci_high": None, "n": 9}
        for name, value in values.items()
    ]  # fmt: skip
    (table,) = subgroup_tables(evaluation(results=[row("m", 0.5, metric=metric)], subgroups=rows))
    ((_, numbers, _),) = table.lines
    shaded = [name for (name, _), number in zip(table.groups, numbers, strict=True) if number.is_worst]
    assert shaded == [worst]


def test_the_worst_group_is_marked_and_rare_groups_are_counted():
    values = {f"g{n:02}": 0.5 for n in range(GROUPS + 3)} | {"g01": 0.25, None: None}
    rows = [
        {"checkpoint": "m", "task": "t", "split": "test", "metric": "acc1", "by": "site", "group": name, "value": value,
         "ci_low": None, "ci_high": None, "n": 100 - n}
        for n, (name, value) in enumerate(values.items())
    ]  # fmt: skip
    results = [row("m", 0.5), row("m", 0.25, metric="acc1/worst_group[site]")]
    (table,) = subgroup_tables(evaluation(results=results, subgroups=rows))
    assert [name for name, _ in table.groups] == [f"g{n:02}" for n in range(GROUPS)]
    assert table.skipped == 4
    ((_, numbers, extras),) = table.lines
    assert [number.is_worst for number in numbers] == [name == "g01" for name, _ in table.groups]
    assert (table.extras, extras) == (["worst group"], ["0.250"])
    assert table.compares
    (alone,) = subgroup_tables(evaluation(results=results, subgroups=[rows[0], rows[-1]]))
    assert not alone.compares


def test_a_card_has_what_is_its_own_and_the_task_what_all_share():
    rows = [row(m, 0.5, templates=["{}"], weights=m * 300, records=f"{m}.jsonl", decoding=d) for m, d in ("ax", "by")]
    cells, tasks = cards(scores_of(rows))
    assert [sorted(card.lines) for card in cells] == [["decoding", "records", "weights"]] * 2
    assert cells[0].lines["weights"].endswith("(300 characters in results.jsonl)")
    assert (tasks[0].models, tasks[0].lines) == (2, {"kind": "zero_shot", "split": "test", "templates": ["{}"]})
    alone, none = cards(scores_of(rows[:1]))
    assert (alone[0].task_card, "templates" in alone[0].lines, none) == ("", True, [])


def test_shades_span_at_least_a_tenth():
    rows = [row(m, v, task) for task, a, b in (("t", 0.5, 0.51), ("u", 0.2, 0.9)) for m, v in (("a", a), ("b", b))]
    shades = [line_shades for _, line_shades in heat_map(scores_of(rows), Comparisons([])).lines]
    assert shades == [[8, 0], [8, 8]]


def test_charts_of_training_have_their_colours_on_dark_pages():
    page = Path(report.__file__).with_name("templates").joinpath("base.html").read_text("utf-8")
    light, dark = page.split("prefers-color-scheme: dark")
    assert re.findall(r"--c\d: (#\w+)", light) == list(COLOURS)
    assert len(re.findall(r"--c\d: (#\w+)", dark)) == len(COLOURS) == PLOT_COLOURS
    assert re.findall(r'"(#\w{6})"', dark) == list(COLOURS)
