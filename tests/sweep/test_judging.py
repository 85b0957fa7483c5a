"""Judging in a sweep: verdicts are asked for once, without the judged model, and are the same on two ranks."""

import json

import pytest

from medvlp.config.model_names import ModelName
from medvlp.evaluate import main as evaluate
from medvlp.shards import ShardDataset
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


SEEING = ["judge.images=true", "judge.controls=[blank_image,shuffled_images]"]


@pytest.mark.slow
def test_two_ranks_judge_as_one(sweep_folder):
    with serving(verdict) as server:
        options = judge(server, f"cache.dir={sweep_folder}/cache_of_two", *SEEING)
        code, said = finish_eval(
            start_eval(words("judged_two", [ASSISTANT], ["questions"], *options), sweep_folder, ranks=2)
        )
        assert code == 0, said
        options = judge(server, f"cache.dir={sweep_folder}/cache_of_one", *SEEING)
        assert evaluate(words("judged_one", [ASSISTANT], ["questions"], *options)) == 0
    split = ShardDataset(sweep_folder / "asked/test")
    files = {image for row in range(len(split)) for image in split.read(row).images.values()}
    assert {image for request in server.requests for image in request.images()} == files
    assert {len(request.images()) for request in server.requests} == {1}
    assert contents(sweep_folder / "judged_two") == contents(sweep_folder / "judged_one")
    assert "judge_accuracy/minus_blank_image" in judged_rows(sweep_folder / "judged_one")


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_killed_judge_asks_only_for_what_is_missing(sweep_folder, ranks):
    forks = []
    asked = []

    def killing(request):
        asked.append(request.key)
        if len(asked) == 6:
            for fork in forks:
                fork.kill()  # SIGKILL, with this request on its way
        return verdict(request)

    name, cache = f"killed_{ranks}", f"cache.dir={sweep_folder}/cache_killed_{ranks}"
    with serving(killing) as server:
        args = words(name, [ASSISTANT], ["questions"], *judge(server, cache, "api.concurrency=1", *SEEING))
        forks += start_eval(args, sweep_folder, ranks)
        code, said = finish_eval(forks)
        assert code == -9, said
        lost = asked[:]
        assert evaluate(args) == 0
        again = set(lost) & set(asked[len(lost) :])
        assert len(again) <= ranks  # what was on its way
        assert len(lost) - len(again) >= 6 - ranks
        assert sum(server.answered.values()) == len(server.answered) + len(again)
        args = words(f"{name}_whole", [ASSISTANT], ["questions"], *judge(server, f"{cache}_whole", *SEEING))
        assert evaluate(args) == 0
    assert contents(sweep_folder / name) == contents(sweep_folder / f"{name}_whole")


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

    # By likelihood the same judge gives a verdict on every answer, with the images before it.
    options = [*options[:2], "judge.scoring=likelihood", "judge.images=true"]
    assert evaluate(words("itself", [ASSISTANT], ["questions"], *options)) == 0
    row = judged_rows(sweep_folder / "itself")["judge_unread"]
    assert row["value"] == 0
    assert row["protocol"]["judge"]["images"] == "those of the sample, unchanged"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([f"judge.model={CLIPS[0]}"], "judge.model=a.ckpt is a CLIP"),
        (["judge.model=api:http://x/v1#y", "judge.scoring=likelihood"], "gives no likelihoods"),
        (["judge.model=api:http://x/v1#y", "judge.images=true", "api.images=false"], "is shown no images"),
        (["judge.model=api:http://x/v1#y", "judge.controls=[best_constant]"], "best_constant"),
    ],
)
def test_a_judge_that_cannot_do_what_is_asked_is_refused(sweep_folder, capsys, options, message):
    assert evaluate(words("refused", [ASSISTANT], ["questions"], *options)) == 1
    assert message in capsys.readouterr().err
