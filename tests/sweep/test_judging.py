"""Judging in a sweep: verdicts are asked for once, without the judged model, and are the same on two ranks."""

import json

import pytest

from medvlp.config.model_names import ModelName
from medvlp.evaluate import main as evaluate
from medvlp.sweep.judging.models import family_of, flag_of
from tests.api_server import serving
from tests.runs import rows
from tests.sweep.processes import finish_eval, start_eval
from tests.sweep.test_ranks import contents
from tests.sweep.world import ASSISTANT, CLIPS, words


def verdict(request):
    """Right where the answer is as long as an even number."""
    answer = request.text().partition("<answer>\n")[2].partition("\n</answer>")[0]
    return f"It is so.\nGrade: {'incorrect' if len(answer) % 2 else 'correct'}"


def judge(server, *options):
    return [f"judge.model=api:{server.url}#made", "api.first_wait_s=0", "api.retries=0", *options]


def judged_rows(folder):
    return {row["metric"]: row for row in rows(folder / "results.jsonl") if row["task"] == "questions"}


def test_verdicts_come_from_kept_records_and_none_is_asked_for_twice(sweep_folder, monkeypatch, capsys):
    models, tasks = [CLIPS[0], ASSISTANT], ["kind", "questions"]
    assert evaluate(words("judged", models, tasks)) == 0
    plain = (sweep_folder / "judged/results.jsonl").read_bytes()
    monkeypatch.setattr("medvlp.sweep.measure.open_model", lambda *_: pytest.fail("a judged model was opened"))
    limit = {"answers": 3}

    def broken(request):
        limit["answers"] -= 1
        return limit["answers"] < 0 and request.error(400)

    with serving(verdict, broken) as server:
        assert evaluate(words("judged", models, tasks, *judge(server, "api.concurrency=1"))) == 1
        assert "questions · test: " in capsys.readouterr().err
        assert (sweep_folder / "judged/results.jsonl").read_bytes() == plain
        paid = sum(server.answered.values())
        limit["answers"] = 10**9
        assert evaluate(words("judged", models, tasks, *judge(server))) == 0
        assert 0 < paid < sum(server.answered.values()) == len(server.answered)
    assert "assistant.ckpt: questions (judged)" in capsys.readouterr().out
    by_metric = judged_rows(sweep_folder / "judged")
    row = by_metric["judge_accuracy"]
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert by_metric["judge_unread"]["value"] == 0
    assert row["protocol"]["judge"]["rubric"] == "correctness"
    assert row["protocol"]["judge"]["usage"]["requests"] == len(server.answered)
    assert "Grade: correct" in row["protocol"]["judge"]["prompt"]
    records = list(rows(sweep_folder / "judged" / row["protocol"]["records"]))
    assert {record["judge"]["grade"] for record in records if "judge" in record} <= {"correct", "incorrect"}
    values = {(row["checkpoint"], row["metric"]): row["value"] for row in map(json.loads, plain.decode().splitlines())}
    after = {(row["checkpoint"], row["metric"]): row["value"] for row in rows(sweep_folder / "judged/results.jsonl")}
    assert {key: after[key] for key in values} == values  # what was there is as it was
    # The server is gone, and everything is finished.
    assert evaluate(words("judged", models, tasks, *judge(server))) == 0
    # Another rubric is another cell, and asks again.
    assert evaluate(words("judged", models, tasks, *judge(server, "judge.rubric=relative"))) == 1


@pytest.mark.slow
def test_two_ranks_judge_as_one(sweep_folder):
    with serving(verdict) as server:
        options = judge(server, f"cache.dir={sweep_folder}/cache_of_two")
        code, said = finish_eval(
            start_eval(words("judged_two", [ASSISTANT], ["questions"], *options), sweep_folder, ranks=2)
        )
        assert code == 0, said
        options = judge(server, f"cache.dir={sweep_folder}/cache_of_one")
        assert evaluate(words("judged_one", [ASSISTANT], ["questions"], *options)) == 0
    assert contents(sweep_folder / "judged_two") == contents(sweep_folder / "judged_one")


def test_a_judge_that_judges_itself_is_flagged():
    qwen, other = ModelName("", "hf", "Qwen/Qwen2.5-VL-7B-Instruct"), ModelName("", "api", "http://x/v1#qwen3-32b")
    assert flag_of(qwen, "1", qwen, "1") == "the judge is the judged model"
    assert flag_of(other, "2", qwen, "1") == "the judge is of the judged model's family (qwen)"
    assert flag_of(ModelName("", "api", "http://x/v1#openai/gpt-4o"), "3", qwen, "1") == ""
    assert family_of(ModelName("", "checkpoint", "runs/qwen/last.ckpt")) == ""


def test_a_model_of_ours_judges_itself_and_what_it_writes_is_no_verdict(sweep_folder):
    (sweep_folder / "short.yaml").write_text("scale: grades\nprompt: '{question} {reference} {answer}'\n")
    options = [f"judge.model={ASSISTANT}", "judge.rubric=short.yaml", "judge.max_new_tokens=4"]
    assert evaluate(words("itself", [ASSISTANT], ["questions"], *options)) == 0
    by_metric = judged_rows(sweep_folder / "itself")
    assert by_metric["judge_unread"]["value"] == 1
    assert "judge_accuracy" not in by_metric
    notes = by_metric["judge_unread"]["protocol"]["judge"]
    assert notes["flag"] == "the judge is the judged model"
    assert sum(notes["unread"].values()) == notes["answers"]
    assert "no verdict in the reply" in notes["unread"]


def test_a_judge_that_writes_nothing_is_refused(sweep_folder, capsys):
    assert evaluate(words("refused", [ASSISTANT], ["questions"], f"judge.model={CLIPS[0]}")) == 1
    assert "judge.model=a.ckpt is a CLIP" in capsys.readouterr().err
