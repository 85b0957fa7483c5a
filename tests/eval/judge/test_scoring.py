"""Verdicts in records, metrics from them, and the agreement of judges, with judges that are functions."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from medvlp.config.evaluation.answering.judge import load_rubric
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.judge.metrics import CohenKappa
from medvlp.eval.judge.scoring import Judge, Judging, judged
from medvlp.eval.judge.verdicts import GRADE_NAMES, IMAGES
from medvlp.eval.models.answering import Answer
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult
from medvlp.shards import BadSample, Sample, ShardDataset
from tests.datasets import jpeg, write_split

PROTOCOL = {"kind": "vqa", "controls": {}, "instruction": ""}


class FunctionJudge:
    """An answering model of texts: a function of the prompt, and one of (prompt, line) for likelihoods."""

    def __init__(self, answer, identity="judge", likes=None):
        self.answer, self.identity, self.likes = answer, identity, likes
        self.prompts, self.pixels = [], []

    def blank(self, count):
        assert count == 0

    def pictures(self, sample):
        return sorted(sample.images)

    def fits(self, turns, option_turns, images, options, max_new_tokens):
        assert turns[0].text.count("<image>") == len(images)
        if "<|bad|>" in turns[0].text:
            raise BadSample("special_token")
        return "endless" not in turns[0].text

    def metadata(self):
        return {"template": "none"}

    def generate(self, prompts, max_new_tokens):
        self.prompts += [prompt.turns[0].text for prompt in prompts]
        self.pixels += [prompt.pixels for prompt in prompts]
        return [self.answer(prompt.turns[0].text) for prompt in prompts]

    def loglikelihood(self, prompts, answers):
        self.prompts += [prompt.turns[0].text for prompt in prompts]
        return [
            [self.likes(prompt.turns[0].text, line) for line in lines]
            for prompt, lines in zip(prompts, answers, strict=True)
        ]


def record(number, prediction, target="pleura", **changes):
    answers = {
        "id": f"s{number}#q",
        "group": f"s{number}",
        "question": "what?",
        "answer_type": "open",
        "target": target,
    }
    return answers | {"prediction": prediction, "scores": {"open_token_recall": 0.0}, "control_scores": {}} | changes


def result(records, kind="vqa"):
    return TaskResult("t", kind, [], records, PROTOCOL | {"kind": kind})


def part_of(prompt, tag):
    return prompt.partition(f"<{tag}>\n")[2].partition(f"\n</{tag}>")[0].strip()


def grade(prompt):
    answer = part_of(prompt, "answer")
    return {
        "": "no idea",
        "pleura": "Reason.\nGrade: correct",
        "lung": "Grade: incorrect",
        "?": "Grade: not attempted",
    }.get(answer, "It might be correct.")


def run(records, answers, rubric="correctness", kind="vqa", likes=None, **changes):
    judges = tuple(Judge(f"api:x#{i}", FunctionJudge(answer, likes=likes)) for i, answer in enumerate(answers))
    judging = Judging(load_rubric(rubric), judges, **changes)
    return judged(result(records, kind), judging, {"s0": {"caption": "a figure"}}, Bootstrap(resamples=20)), judges


def values(judged_result):
    return {metric.name: metric.value for metric in judged_result.metrics}


def test_grades_are_in_records_and_metrics_and_what_is_unread_is_counted():
    predictions = ["pleura", "lung", "?", "what", "pleura", "<|bad|>", "endless"]
    records = [record(i, text) for i, text in enumerate(predictions)]
    records.append(record(7, "B", answer_type="multiple_choice"))  # judged by its letter
    judged_result, ((judge),) = run(records, [grade], context=("caption",))
    metrics = values(judged_result)
    assert metrics["judge_accuracy"] == 2 / 4
    assert metrics["judge_not_attempted"] == 1 / 4
    assert metrics["judge_unread"] == 3 / 7
    assert metrics["open_token_recall"] == 0
    assert [r.get("judge", {}).get("grade") for r in judged_result.records] == [
        *("correct", "incorrect", "not attempted", None, "correct", None, None, None)
    ]
    notes = judged_result.protocol["judge"]
    assert notes["unread"] == {"no verdict in the reply": 1, "special_token": 1, "too_long": 1}
    assert (notes["model"], notes["rubric"], notes["answers"]) == ("api:x#0", "correctness", 7)
    assert notes["decoding"] == "greedy, at most 512 tokens"
    prompts = judge.model.prompts
    assert part_of(prompts[0], "information") == "caption: a figure"
    assert part_of(prompts[1], "information") == "(nothing)"
    assert len(prompts) == 5
    rows = json.loads(json.dumps(judged_result.records))
    again = {name: metric(None) for name, metric in measures(rows, judged_result.protocol)[0].metrics.items()}
    assert again == metrics
    counts = {metric.name: metric.n for metric in judged_result.metrics}
    assert (counts["judge_accuracy"], counts["judge_unread"]) == (4, 7)


def test_a_reply_that_was_cut_off_gives_no_verdict():
    judged_result, _ = run([record(0, "x")], [lambda prompt: Answer("Grade: correct", "length")])
    assert judged_result.records[0]["judge"] == {"grade": None, "reply": "Grade: correct"}
    assert judged_result.protocol["judge"]["unread"] == {"length": 1}


def long_is_better(prompt):
    """Longer is better, and what stands first gets two points on top."""
    first, second = (min(8, len(part_of(prompt, f"answer_{i}"))) for i in (1, 2))
    return f"Scores: {first + 2} {second}\nBecause."


def test_both_orders_cancel_what_the_position_adds():
    records = [record(0, "four", "sixsix"), record(1, "abcd", "efgh"), record(2, "tenletters", "fivee")]
    judged_result, _ = run(records, [long_is_better], "relative")
    metrics = values(judged_result)
    # (right, answer): (6, 4), (4, 4), (5, 8), each plus one in the mean of both orders.
    assert metrics["judge_score"] == pytest.approx((5 + 5 + 9) / 3)
    assert metrics["judge_reference_score"] == pytest.approx((7 + 5 + 6) / 3)
    assert metrics["judge_relative"] == pytest.approx((5 + 5 + 9) / (7 + 5 + 6))
    assert metrics["judge_win"] == pytest.approx((0 + 0.5 + 1) / 3)
    assert metrics["judge_first_advantage"] == pytest.approx(2)
    assert metrics["judge_order_consistency"] == pytest.approx(1 / 3)  # of 6:4 the second order is a tie
    assert judged_result.records[0]["judge"]["scores"] == [[8.0, 4.0], [6.0, 6.0]]
    broken, _ = run(records, [lambda p: "Scores: 5 5" if part_of(p, "answer_1") == "four" else "none"], "relative")
    assert values(broken)["judge_unread"] == 1  # one order alone is no verdict
    assert "judge_relative" not in values(broken)


def test_written_text_has_its_references():
    rows = [
        record(0, "a lung", references=["one", "two"], numbers={}, question="") | {"answer_type": ""},
    ]
    judged_result, (judge,) = run(rows, [grade], kind="text")
    assert part_of(judge.model.prompts[0], "right_answer") == "one\ntwo"
    assert values(judged_result)["judge_unread"] == 1


def test_agreement_of_two_judges():
    grades = np.random.default_rng(0).integers(0, 4, (40, 2))
    responses = [*(f"Grade: {name}" for name in GRADE_NAMES), "none"]
    records = [record(i, f"{a} {b}", target="x") for i, (a, b) in enumerate(grades)]
    answers = [lambda prompt, side=side: responses[int(part_of(prompt, "answer").split()[side])] for side in (0, 1)]
    judged_result, _ = run(records, answers)
    read = grades[(grades < 3).all(axis=1)]
    metrics = values(judged_result)
    assert metrics["judge_kappa"] == pytest.approx(cohen_kappa_score(*read.T), abs=1e-12)
    order = np.array([2, 0, 1])  # correct, incorrect, not attempted: from bad to good
    weighted = cohen_kappa_score(*order[read].T, weights="quadratic")
    assert metrics["judge_weighted_kappa"] == pytest.approx(weighted, abs=1e-12)
    assert metrics["judge_weighted_kappa"] != pytest.approx(metrics["judge_kappa"], abs=1e-3)
    assert metrics["judge_agreement"] == pytest.approx((read[:, 0] == read[:, 1]).mean())
    assert judged_result.protocol["judge"]["second"]["model"] == "api:x#1"
    counts = {metric.name: metric.n for metric in judged_result.metrics}
    assert counts["judge_kappa"] == counts["judge_agreement"] == len(read)


def test_kappa_of_resamples_and_where_it_is_not_defined():
    pairs = np.array([[0, 0], [1, 1], [0, 1], [2, 2], [1, 0]])
    numbers = np.eye(9)[pairs[:, 0] * 3 + pairs[:, 1]]
    kappa = CohenKappa(numbers, np.ones(5, bool))
    weights = np.array([[1.0, 2, 0, 3, 1], [0, 0, 2, 1, 1], [3, 0, 0, 0, 0]])
    repeated = [np.repeat(pairs, row.astype(int), axis=0) for row in weights[:2]]
    assert kappa(weights)[:2] == pytest.approx([cohen_kappa_score(*rows.T) for rows in repeated])
    assert np.isnan(kappa(weights)[2])
    quadratic = CohenKappa(numbers, np.ones(5, bool), 2)(weights)
    assert quadratic[:2] == pytest.approx([cohen_kappa_score(*rows.T, weights="quadratic") for rows in repeated])
    assert np.isnan(quadratic[2])


def test_answers_of_controls_are_judged_where_asked():
    blind = {"controls": {"no_image": "lung"}, "control_scores": {"no_image": {"open_token_recall": 0.0}}}
    records = [record(0, "pleura", **blind), record(1, "pleura"), record(2, "lung", **blind)]
    told = result(records)
    told.protocol["controls"] = {"no_image": "without"}
    judge = FunctionJudge(grade)
    judging = Judging(load_rubric("correctness"), (Judge("api:x#0", judge),), controls=("no_image", "blank_image"))
    judged_result = judged(told, judging, {}, Bootstrap(resamples=20))
    metrics = values(judged_result)
    assert (metrics["judge_accuracy"], metrics["judge_accuracy/no_image"]) == (2 / 3, 0)
    assert metrics["judge_accuracy/minus_no_image"] == 1 / 2  # over the two that were asked without the image
    assert judged_result.records[0]["judge_controls"]["no_image"]["grade"] == "incorrect"
    assert judged_result.records[0]["control_scores"]["no_image"]["open_token_recall"] == 0
    assert judged_result.protocol["judge"]["controls"] == {"no_image": 2, "blank_image": 0}
    assert judged_result.protocol["judge"]["answers"] == 5
    assert len(judge.prompts) == 2  # equal ones are asked once
    texts = [record(0, "a", references=["pleura"], numbers={}, answer_type="", controls={"no_image": "lung"})]
    texts[0]["control_scores"] = {"no_image": {"scores": {"rouge_l": 0.0}, "numbers": {}}}
    told = result(texts, "text")
    told.protocol["controls"] = {"no_image": "without"}
    of_texts = judged(told, replace(judging, controls=("no_image",)), {}, Bootstrap(resamples=2))
    assert values(of_texts)["judge_accuracy/no_image"] == 0
    assert of_texts.records[0]["control_scores"]["no_image"]["scores"]["rouge_l"] == 0


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged") / "test"
    samples = [Sample(f"s__{i}__0__0", {f"{j}.jpg": jpeg(i + j) for j in range(i)}, texts={"a": "b"}) for i in range(3)]
    write_split(folder, samples)
    return ShardDataset(folder)


@pytest.mark.parametrize("rubric", ["correctness", "relative"])
def test_a_judge_sees_the_images_of_the_sample(split, rubric):
    records = [record(0, "lung") | {"id": f"s__{i}__0__0#q"} for i in range(3)]
    judged_result, ((judge),) = run(records, [grade], rubric, images=split)
    prompts = dict(zip(map(str, judge.model.pixels), judge.model.prompts, strict=False))
    assert judge.model.pixels[0] is None
    assert prompts["None"].startswith("You")
    assert "You are shown no image." in prompts["None"]
    assert prompts["['0.jpg']"].startswith("<image>\nYou")
    assert prompts["['0.jpg', '1.jpg']"].startswith("<image>\n<image>\nYou")
    assert IMAGES in prompts["['0.jpg']"]
    assert judged_result.protocol["judge"]["images"] == "those of the sample, unchanged"


def test_a_judge_that_writes_no_verdict_gives_the_likeliest(split):
    def likes(prompt, line):
        wanted = {"pleura": "correct", "lung": "incorrect", "same": ""}[part_of(prompt, "answer")]
        return (math.log(0.6) if line == f"Grade: {wanted}" else math.log(0.2)), len(line.split())

    records = [record(i, text) for i, text in enumerate(["pleura", "lung", "same", "pleura"])]
    judged_result, ((judge),) = run(records, [None], likes=likes, scoring="likelihood")
    assert [r["judge"]["grade"] for r in judged_result.records] == ["correct", "incorrect", None, "correct"]
    assert judged_result.records[0]["judge"]["probabilities"] == {
        "correct": 0.6,
        "incorrect": 0.2,
        "not attempted": 0.2,
    }
    notes = judged_result.protocol["judge"]
    assert notes["unread"] == {"equal likelihoods": 1}
    assert notes["prompt"].endswith("and nothing else.")
    assert "likeliest" in notes["decoding"]
    assert "reasons" not in judge.model.prompts[0]


def test_scores_by_likelihood_are_means_and_ten_is_taken_out_of_one():
    def likes(prompt, line):
        """Half of 8, a quarter of 10, a quarter of 1: digits are tokens, so that 1 has what 10 has, too. Behind it 4."""
        *first, last = line.removeprefix("Scores: ").split()
        if first:
            assert first == ["8"]
            return (0.0 if last == "4" else -1e9), 3 + len(last)
        return math.log({"8": 0.5, "10": 0.25, "1": 0.5}.get(last, 1e-12)), 2 + len(last)

    judged_result, _ = run([record(0, "x", "y")], [None], "relative", likes=likes, scoring="likelihood")
    first = 0.5 * 8 + 0.25 * 10 + 0.25 * 1
    assert judged_result.records[0]["judge"] == {"scores": [[first, 4.0], [4.0, first]]}
    metrics = values(judged_result)
    assert metrics["judge_score"] == metrics["judge_reference_score"] == (first + 4) / 2
    assert metrics["judge_first_advantage"] == first - 4
