"""Judging of a result's records: each answer in free text gets verdicts, scores from them, and a line in the protocol."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medvlp.config.evaluation.answering.judge import GRADES, LIKELIHOOD, PAIR, TEXT, Rubric
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.judge.asking import Asking, JudgePrompt, Reply, problems_of, usage_of
from medvlp.eval.judge.verdicts import (
    CORRECT,
    FIELDS,
    GRADE_LINES,
    GRADE_NAMES,
    JUDGE,
    NOT_ATTEMPTED,
    SECOND,
    Judged,
    grade_in,
    grade_of,
    grade_prompt,
    likeliest,
    mean_score,
    pair_prompts,
    probabilities_of,
    score_lines,
    scores_in,
    sign,
)
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult
from medvlp.eval.vqa.metrics import CLOSED, OPEN
from medvlp.shards import BadSample, ShardDataset

Record = dict[str, Any]
JUDGED_KINDS = ("vqa", "text")
CONTROL_METRICS = ("accuracy", "not_attempted", "score", "win")
"""Metrics of verdicts that controls have, too."""
DECODING = {
    GRADES: "none: of the lines `Grade: ...` the likeliest under the judge",
    PAIR: "none: means of the scores under the judge's probabilities of `Scores: ...`; the second behind the likeliest first",
}
"""Scale → how verdicts are got by likelihood."""


@dataclass(frozen=True)
class Judge:
    """A model that judges. name: as it was given. flag: what it has to do with the judged model; empty where nothing is known."""

    name: str
    model: AnsweringModel
    flag: str = ""


@dataclass(frozen=True)
class Judging:
    """How answers are judged. context: text fields of the sample that judges read. scoring: of `SCORINGS`. controls: those whose
    answers are judged too. images: the split whose images judges see; None shows none."""

    rubric: Rubric
    judges: tuple[Judge, ...]
    context: tuple[str, ...] = ()
    max_new_tokens: int = 512
    batch_size: int = 64
    scoring: str = TEXT
    controls: tuple[str, ...] = ()
    images: ShardDataset | None = None


def judged(
    result: TaskResult, judging: Judging, texts_of: Mapping[str, Mapping[str, str]], bootstrap: Bootstrap
) -> TaskResult:
    """A result whose answers in free text are judged too; its other metrics stay as they are.

    texts_of: key of a sample → its texts, for the context.
    """
    records = [dict(record) for record in result.records]
    indices = [i for i, record in enumerate(records) if is_judged(record, result.kind)]
    instruction = str(result.protocol.get("instruction") or "")
    row_of = _rows_with_images(judging.images)
    answered = {i: item_of(records[i], instruction, judging.context, texts_of, row_of) for i in indices}
    jobs = [(i, "", answered[i]) for i in indices]
    jobs += [
        (i, name, replace(answered[i], answer=str(records[i]["controls"][name])))
        for name in judging.controls
        for i in indices
        if name in records[i].get("controls", {})
    ]
    protocol: dict[str, Any] = {}
    for field, judge in zip(FIELDS, judging.judges, strict=False):
        verdicts, protocol[field] = _verdicts(judge, judging, [item for _, _, item in jobs])
        protocol[field] |= _control_notes(judging.controls, jobs)
        for (i, name, _), verdict in zip(jobs, verdicts, strict=True):
            records[i] = _with_verdict(records[i], field, name, verdict, result.kind)
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
    record: Mapping[str, Any],
    instruction: str,
    context: Sequence[str],
    texts_of: Mapping[str, Mapping[str, str]],
    row_of: Mapping[str, int] | None = None,
) -> Judged:
    """What a judge reads of a record. instruction: of the task, which is the question of written text. row_of: key of a sample →
    its row, of those whose images are shown."""
    id = str(record["id"])
    key = id if row_of and id in row_of else id.partition("#")[0]
    texts = texts_of.get(id) or texts_of.get(id.partition("#")[0]) or {}
    lines = [f"{name}: {texts[name]}" for name in context if texts.get(name)]
    references = [str(text) for text in record.get("references") or [record["target"]]]
    question = str(record.get("question") or instruction)
    row = row_of.get(key) if row_of else None
    return Judged(question, "\n".join(lines), "\n".join(references), str(record["prediction"]), row)


def _rows_with_images(dataset: ShardDataset | None) -> dict[str, int]:
    """Key → row of the samples that have images; those that cannot be read too, so that they are told of."""
    if dataset is None:
        return {}
    rows = {}
    for row, key in enumerate(dataset.keys):
        try:
            if not dataset.image_names(row):
                continue
        except BadSample:
            """Told when it is read."""
        rows[key] = row
    return rows


def _with_verdict(record: Record, field: str, control: str, verdict: Record, kind: str) -> Record:
    """A record with a verdict on its answer, or on a control's, and the scores from it."""
    scores = scores_of(field, verdict)
    if not control:
        return {**record, field: verdict, "scores": {**record["scores"], **scores}}
    scores = {name: scores[name] for name in (f"{field}_{metric}" for metric in CONTROL_METRICS) if name in scores}
    key = f"{field}_controls"
    of_control = dict(record["control_scores"].get(control, {}))
    if kind == "text":
        of_control["scores"] = {**of_control.get("scores", {}), **scores}
    else:
        of_control |= scores
    return {
        **record,
        key: {**record.get(key, {}), control: verdict},
        "control_scores": {**record["control_scores"], control: of_control},
    }


def _control_notes(controls: Sequence[str], jobs: Sequence[tuple[int, str, Judged]]) -> Record:
    """Of controls that were to be judged how many answers there were."""
    counts = Counter(name for _, name, _ in jobs if name)
    return {"controls": {name: counts[name] for name in controls}} if controls else {}


def _verdicts(judge: Judge, judging: Judging, items: Sequence[Judged]) -> tuple[list[Record], Record]:
    """A verdict an item, and what a protocol says of the judge."""
    rubric, scoring = judging.rubric, judging.scoring
    asking = Asking(judge.model, judging.batch_size, judging.max_new_tokens, judging.images)
    is_likelihood = scoring == LIKELIHOOD
    if rubric.scale == GRADES:
        lines = GRADE_LINES if is_likelihood else ()
        responses = asking.responses(
            [JudgePrompt(grade_prompt(rubric, item, scoring), item.row, lines) for item in items]
        )
        verdicts = [likelihood_grade(reply) if is_likelihood else grade_verdict(reply) for reply in responses]
        is_read = [verdict["grade"] is not None for verdict in verdicts]
    else:
        prompts = [JudgePrompt(text, item.row) for item in items for text in pair_prompts(rubric, item, scoring)]
        if is_likelihood:
            responses, scores = _likelihood_scores(asking, prompts)
        else:
            responses = asking.responses(prompts)
            scores = [None if reply.problem else scores_in(reply.text) for reply in responses]
        verdicts = [
            pair_verdict(
                scores[i], scores[i + 1], [] if is_likelihood else [reply.text for reply in responses[i : i + 2]]
            )
            for i in range(0, len(scores), 2)
        ]
        is_read = [pair is not None for pair in scores]
    notes: Record = {
        "model": judge.name,
        "identity": judge.model.identity,
        "rubric": rubric.name,
        "scale": rubric.scale,
        "prompt": rubric.prompt_for(scoring),
        "prompt_sha256": hashlib.sha256(rubric.prompt_for(scoring).encode()).hexdigest(),
        "context": list(judging.context),
        "decoding": DECODING[rubric.scale] if is_likelihood else f"greedy, at most {judging.max_new_tokens} tokens",
        "settings": judge.model.metadata(),
        "images": "none: a judge reads texts alone" if judging.images is None else "those of the sample, unchanged",
        "answers": len(items),
        "unread": problems_of(responses, is_read),
    }
    usage = usage_of(responses)
    return verdicts, notes | ({"usage": usage} if usage else {}) | ({"flag": judge.flag} if judge.flag else {})


def _likelihood_scores(
    asking: Asking, prompts: Sequence[JudgePrompt]
) -> tuple[list[Reply], list[tuple[float, float] | None]]:
    """For each prompt the responses about its last number, and both scores; None where the judge could not be asked."""
    firsts = asking.responses([replace(prompt, lines=score_lines()) for prompt in prompts])
    first_rows = [None if reply.problem else probabilities_of(reply.likelihoods) for reply in firsts]
    seconds = list(firsts)
    indices = [i for i, row in enumerate(first_rows) if row is not None]
    modes = {i: row.index(max(row)) + 1 for i, row in enumerate(first_rows) if row is not None}
    responses = asking.responses([replace(prompts[i], lines=score_lines(f"Scores: {modes[i]}")) for i in indices])
    scores: list[tuple[float, float] | None] = [None] * len(prompts)
    for i, reply in zip(indices, responses, strict=True):
        seconds[i], row = reply, first_rows[i]
        if not reply.problem and row is not None:
            scores[i] = mean_score(row), mean_score(probabilities_of(reply.likelihoods))
    return seconds, scores


def grade_verdict(reply: Reply) -> Record:
    """The verdict of a reply about one answer; a reply that was cut off gives none."""
    return {"grade": None if reply.problem else grade_in(reply.text), "reply": reply.text}


def likelihood_grade(reply: Reply) -> Record:
    """The likeliest grade, and the probability of each among the three; none where two are equally likely."""
    if reply.problem:
        return {"grade": None, "probabilities": {}}
    probabilities = probabilities_of(reply.likelihoods)
    index = likeliest(probabilities)
    return {
        "grade": None if index is None else GRADE_NAMES[index],
        "probabilities": dict(zip(GRADE_NAMES, probabilities, strict=True)),
    }


def pair_verdict(
    right_first: tuple[float, float] | None, answer_first: tuple[float, float] | None, texts: Sequence[str] = ()
) -> Record:
    """The verdict of two orders: in either the scores of (the right answer, the model's). texts: what was written."""
    scores = [
        list(right_first) if right_first else None,
        [answer_first[1], answer_first[0]] if answer_first else None,
    ]
    return {"scores": scores} | ({"responses": list(texts)} if texts else {})


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
