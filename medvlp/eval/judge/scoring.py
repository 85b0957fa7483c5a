"""Judging of a result's records: each answer in free text gets verdicts, scores from them, and a line in the protocol."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvlp.config.evaluation.answering.judge import GRADES, Rubric
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.judge.asking import Reply, problems_of, responses_to, usage_of
from medvlp.eval.judge.verdicts import (
    CORRECT,
    FIELDS,
    JUDGE,
    NOT_ATTEMPTED,
    SECOND,
    Judged,
    grade_in,
    grade_of,
    grade_prompt,
    pair_prompts,
    scores_in,
    sign,
)
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult
from medvlp.eval.vqa.metrics import CLOSED, OPEN

Record = dict[str, Any]
JUDGED_KINDS = ("vqa", "text")


@dataclass(frozen=True)
class Judge:
    """A model that judges. name: as it was given. flag: what it has to do with the judged model; empty where nothing is known."""

    name: str
    model: AnsweringModel
    flag: str = ""


@dataclass(frozen=True)
class Judging:
    """How answers are judged. context: text fields of the sample that judges read."""

    rubric: Rubric
    judges: tuple[Judge, ...]
    context: tuple[str, ...] = ()
    max_new_tokens: int = 512
    batch_size: int = 64


def judged(
    result: TaskResult, judging: Judging, texts_of: Mapping[str, Mapping[str, str]], bootstrap: Bootstrap
) -> TaskResult:
    """A result whose answers in free text are judged too; its other metrics stay as they are.

    texts_of: key of a sample → its texts, for the context.
    """
    records = [dict(record) for record in result.records]
    indices = [i for i, record in enumerate(records) if is_judged(record, result.kind)]
    instruction = str(result.protocol.get("instruction") or "")
    items = [item_of(records[i], instruction, judging.context, texts_of) for i in indices]
    protocol: dict[str, Any] = {}
    for field, judge in zip(FIELDS, judging.judges, strict=False):
        verdicts, protocol[field] = _verdicts(judge, judging, items)
        for i, verdict in zip(indices, verdicts, strict=True):
            records[i] = {**records[i], field: verdict, "scores": {**records[i]["scores"], **scores_of(field, verdict)}}
    if len(judging.judges) > 1:
        for i in indices:
            a, b = (grade_of(records[i][field]) for field in FIELDS)
            agreement = None if a is None or b is None else float(a == b)
            records[i]["scores"] = {**records[i]["scores"], "judge_agreement": agreement}
    protocol = result.protocol | {JUDGE: protocol[JUDGE] | ({"second": protocol[SECOND]} if SECOND in protocol else {})}
    return replace(result, records=records, protocol=protocol, metrics=bootstrap.measure(measures(records, protocol)))


def is_judged(record: Mapping[str, Any], kind: str) -> bool:
    """Whether a record holds an answer in free text."""
    return kind == "text" or (kind == "vqa" and record.get("answer_type") in (CLOSED, OPEN))


def item_of(
    record: Mapping[str, Any], instruction: str, context: Sequence[str], texts_of: Mapping[str, Mapping[str, str]]
) -> Judged:
    """What a judge reads of a record. instruction: of the task, which is the question of written text."""
    id = str(record["id"])
    texts = texts_of.get(id) or texts_of.get(id.partition("#")[0]) or {}
    lines = [f"{name}: {texts[name]}" for name in context if texts.get(name)]
    references = [str(text) for text in record.get("references") or [record["target"]]]
    question = str(record.get("question") or instruction)
    return Judged(question, "\n".join(lines), "\n".join(references), str(record["prediction"]))


def _verdicts(judge: Judge, judging: Judging, items: Sequence[Judged]) -> tuple[list[Record], Record]:
    """A verdict an item, and what a protocol says of the judge."""
    rubric = judging.rubric
    prompts = [
        prompt
        for item in items
        for prompt in ((grade_prompt(rubric, item),) if rubric.scale == GRADES else pair_prompts(rubric, item))
    ]
    responses = responses_to(judge.model, prompts, judging.batch_size, judging.max_new_tokens)
    if rubric.scale == GRADES:
        verdicts = [grade_verdict(reply) for reply in responses]
        is_read = [verdict["grade"] is not None for verdict in verdicts]
    else:
        verdicts = [pair_verdict(*responses[i : i + 2]) for i in range(0, len(responses), 2)]
        is_read = [scores is not None for verdict in verdicts for scores in verdict["scores"]]
    notes: Record = {
        "model": judge.name,
        "identity": judge.model.identity,
        "rubric": rubric.name,
        "scale": rubric.scale,
        "prompt": rubric.prompt,
        "prompt_sha256": hashlib.sha256(rubric.prompt.encode()).hexdigest(),
        "context": list(judging.context),
        "decoding": f"greedy, at most {judging.max_new_tokens} tokens",
        "settings": judge.model.metadata(),
        "images": "none: a judge reads texts alone",
        "answers": len(items),
        "unread": problems_of(responses, is_read),
    }
    usage = usage_of(responses)
    return verdicts, notes | ({"usage": usage} if usage else {}) | ({"flag": judge.flag} if judge.flag else {})


def grade_verdict(reply: Reply) -> Record:
    """The verdict of a reply about one answer; a reply that was cut off gives none."""
    return {"grade": None if reply.problem else grade_in(reply.text), "reply": reply.text}


def pair_verdict(right_first: Reply, answer_first: Reply) -> Record:
    """The verdict of two responses: in either order the scores of (the right answer, the model's)."""
    first, second = (None if reply.problem else scores_in(reply.text) for reply in (right_first, answer_first))
    scores = [list(first) if first else None, [second[1], second[0]] if second else None]
    return {"scores": scores, "responses": [right_first.text, answer_first.text]}


def scores_of(field: str, verdict: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics of one answer from a verdict; null where a judge gave none, which counts in no mean but `unread`."""
    if "grade" in verdict:
        grade = verdict["grade"]
        return {
            f"{field}_accuracy": None if grade is None else float(grade == CORRECT),
            f"{field}_not_attempted": None if grade is None else float(grade == NOT_ATTEMPTED),
            f"{field}_unread": float(grade is None),
        }
    names = ("score", "reference_score", "win", "order_consistency", "first_advantage", "unread")
    if None in verdict["scores"]:
        return {f"{field}_{name}": None for name in names[:-1]} | {f"{field}_unread": 1.0}
    (right_a, answer_a), (right_b, answer_b) = verdict["scores"]
    gap = (answer_a + answer_b) - (right_a + right_b)
    values = (
        (answer_a + answer_b) / 2,
        (right_a + right_b) / 2,
        0.5 if gap == 0 else float(gap > 0),
        float(sign(answer_a - right_a) == sign(answer_b - right_b)),
        ((right_a - answer_a) + (answer_b - right_b)) / 2,  # of the answer that stands first over the other
        0.0,
    )
    return {f"{field}_{name}": value for name, value in zip(names, values, strict=True)}
