"""MedCalc-Bench from its table to a score a category: every type of answer, right, at a limit, and wrong."""

import pytest

from data_prep.pipeline import prepare
from medvlp.config import load_task
from medvlp.config.evaluation.groupings import parse_groupings
from medvlp.eval.statistics.subgroups import subgroups_of
from medvlp.eval.task import TaskSettings
from medvlp.eval.vqa.task import Vqa
from medvlp.shards import ShardDataset
from tests.data_prep.sources.questions.records.miniatures import write_csv
from tests.eval.vqa.test_task import NO_INTERVALS, assistant_model, encoder, values  # noqa: F401

ROWS = [
    # category, output type, right answer, limits, the reply, whether the published script counts it
    ("lab test", "decimal", "25.238", "23.97", "26.49", '{"step_by_step_thinking": "5 * 5", "answer": "26.49"}', 1),
    ("lab test", "decimal", "0.531", "0.504", "0.558", '{"answer": "53.1%"}', 1),
    ("lab test", "decimal", "25.238", "23.97", "26.49", '{"answer": "26.5 mL/min"}', 0),
    ("risk", "integer", "3", "3", "3", '{"answer": "3 out of 5"}', 1),
    ("risk", "integer", "3", "3", "3", "The patient is 87.\nAge 2, sex 1.\nAnswer: 4", 0),
    ("date", "date", "10/03/2023", "10/03/2023", "10/03/2023", '{"answer": "10/3/2023"}', 1),
    ("date", "date", "10/03/2023", "10/03/2023", "10/03/2023", '{"answer": "10/04/2023"}', 0),
    ("date", "date", "('4 weeks', '1 days')", "('4 weeks', '1 days')", "('4 weeks', '1 days')", "(4, 1)", 1),
    ("date", "date", "('4 weeks', '1 days')", "('4 weeks', '1 days')", "('4 weeks', '1 days')", "4 weeks, 2 days", 0),
    ("date", "date", "10/03/2023", "10/03/2023", "10/03/2023", "I cannot tell.", 0),
]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("medcalc")
    rows = [
        {
            "Row Number": number,
            "Calculator ID": 69 if "weeks" in truth else 2,
            "Calculator Name": "made up",
            "Category": category,
            "Output Type": kind,
            "Note ID": f"n{number}",
            "Note Type": "Extracted",
            "Patient Note": f"Note {number}.",
            "Question": "What comes out?",
            "Relevant Entities": "{}",
            "Ground Truth Answer": truth,
            "Lower Limit": lower,
            "Upper Limit": upper,
            "Ground Truth Explanation": "By the formula.",
        }
        for number, (category, kind, truth, lower, upper, _, _) in enumerate(ROWS)
    ]
    (folder / "in").mkdir()
    write_csv(folder / "in" / "test_data.csv", *rows)
    task = load_task("medcalc_bench")
    assert task.prep == ["source=records", "options.mapping=medcalc_bench"]
    ledger = prepare("records", folder / "in", folder / "out", options={"mapping": "medcalc_bench"}).ledger
    assert (ledger["in"], ledger["out"]) == (len(ROWS), len(ROWS))
    return ShardDataset(folder / "out" / "test")


def test_numbers_within_the_limits_by_category(split, encoder):  # noqa: F811
    def says(question, number):
        assert question.endswith("that holds the result alone.")
        return ROWS[int(question.split(".")[0].removeprefix("Note "))][5]

    config = load_task("medcalc_bench")
    task = Vqa.from_config(config, split, TaskSettings(bootstrap=NO_INTERVALS, in_training=False))
    result = task.run(assistant_model(encoder, says))
    score_by_note = {row["group"]: row["score"] for row in result.records}
    assert score_by_note == {f"n{number}": row[-1] for number, row in enumerate(ROWS)}
    assert values(result)["number_accuracy"] == 0.5
    assert values(result)["unparsed"] == pytest.approx(0.1)
    rows = subgroups_of(result.records, result.protocol, parse_groupings(["question_type"]), (), NO_INTERVALS).rows
    assert {row["group"]: row["value"] for row in rows if row["metric"] == "number_accuracy"} == {
        "lab test": pytest.approx(2 / 3),
        "risk": 0.5,
        "date": pytest.approx(2 / 5),
    }
