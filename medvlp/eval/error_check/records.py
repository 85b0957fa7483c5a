"""Records of checked texts: what was said, what is right, and the scores, next to those of the controls."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medvlp.config.evaluation.error_check import ALL_CORRECT_CONTROL
from medvlp.config.evaluation.metric_names import MAIN
from medvlp.eval.answers import Extraction
from medvlp.eval.answers.extraction import REFUSAL
from medvlp.eval.error_check.corrections import aggregate, clipped, composite, rouge_1
from medvlp.eval.error_check.texts import words_of
from medvlp.eval.error_check.verdicts import CORRECT, Verdict, read_verdict
from medvlp.eval.prompting.traces import prompting_fields
from medvlp.eval.prompting.votes import SINGLE
from medvlp.eval.text.plugins import Plugin
from medvlp.eval.vqa.questions import Question, QuestionGroup
from medvlp.eval.vqa.responses import Response
from medvlp.models.api.completion import NOT_ASKED

Scores = dict[str, float | None]
PLAIN = ""  # the model, asked as usual, among its controls


@dataclass(frozen=True)
class Correcting:
    """How corrections are compared. plugins: besides rouge_1. bert_baseline: what BERTScore is rescaled by."""

    plugins: tuple[Plugin, ...] = ()
    bert_baseline: float = 0.0

    def scores(self, corrections: Sequence[str], references: Sequence[str]) -> list[dict[str, float]]:
        """Metric → score within 0 and 1 of each pair, neither of which is blank; aggregate where all its parts are there."""
        rows = [{"rouge_1": rouge_1(text, reference)} for text, reference in zip(corrections, references, strict=True)]
        for plugin in self.plugins if rows else ():
            for row, values in zip(
                rows, plugin.scores(corrections, [[reference] for reference in references]), strict=True
            ):
                row |= {name: clipped(value) for name, value in self._values(values).items() if value is not None}
        return [row | {"aggregate": mean} if (mean := aggregate(row)) is not None else row for row in rows]

    def _values(self, values: Mapping[str, float | None]) -> Mapping[str, float | None]:
        """BERTScore by its F1 alone, rescaled; other plug-ins as they are."""
        f1 = values.get("bert_score/f1")
        return values if f1 is None else {"bert_score": (f1 - self.bert_baseline) / (1 - self.bert_baseline)}


def scores_of(
    truth: Verdict, verdict: Verdict | None, of_correction: Mapping[str, float], names: Sequence[str]
) -> Scores:
    """Scores of one text but `unparsed`. A reply that cannot be read is wrong, and corrects nothing.

    of_correction: metric → score of its correction; empty where one side has none. names: the metrics of corrections.
    """
    flag = float(verdict is not None and verdict.has_error == truth.has_error)
    sentence = float(bool(flag) and verdict is not None and verdict.sentence == truth.sentence)
    scores: Scores = {
        "flag_accuracy": flag,
        "sentence_accuracy": sentence,
        "flag_sensitivity": flag if truth.has_error else None,
        "flag_specificity": None if truth.has_error else flag,
        "sentence_sensitivity": sentence if truth.has_error else None,
    }
    for name in names:
        scores[f"correction_{name}"] = of_correction.get(name)
        scores[f"correction_{name}_composite"] = (
            0.0 if verdict is None else composite(of_correction.get(name), truth.correction, verdict.correction)
        )
    return scores


def records_of(
    answered: Sequence[tuple[QuestionGroup, Sequence[Response]]],
    controls: Mapping[str, Sequence[Response]],
    sentences: Mapping[str, Mapping[int, str]],
    truths: Mapping[str, Verdict],
    correcting: Correcting,
    with_all_correct: bool,
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The records of all texts in order, and how often each rule read a reply.

    controls: name → a response a text. sentences, truths: of each question's id.
    """
    texts = [(group, question) for group, _ in answered for question in group.questions]
    right = [truths[question.id] for _, question in texts]
    responses = {PLAIN: [response for _, row in answered for response in row], **controls}
    extractions = {
        name: [
            read_verdict(response.text, sentences[question.id])
            for response, (_, question) in zip(row, texts, strict=True)
        ]
        for name, row in responses.items()
    }
    rules = Counter(extraction.rule for extraction in extractions[PLAIN])
    scores = _scores(extractions, right, correcting, with_all_correct)
    records = [
        _record(
            group,
            question,
            right[i],
            sentences[question.id],
            {name: row[i] for name, row in responses.items()},
            extractions[PLAIN][i],
            {name: row[i] for name, row in scores.items()},
        )
        for i, (group, question) in enumerate(texts)
    ]
    return records, rules


def _scores(
    extractions: Mapping[str, Sequence[Extraction]],
    truths: Sequence[Verdict],
    correcting: Correcting,
    with_all_correct: bool,
) -> dict[str, list[Scores]]:
    """Name of an answerer → scores of each text: the model, its controls, and where asked a reader who finds no error."""
    corrections = {name: _correction_scores(row, truths, correcting) for name, row in extractions.items()}
    metrics = list(dict.fromkeys(name for of_text in corrections.values() for row in of_text.values() for name in row))
    if with_all_correct:
        extractions = {**extractions, ALL_CORRECT_CONTROL: [Extraction(CORRECT, "")] * len(truths)}
        corrections[ALL_CORRECT_CONTROL] = {}
    return {
        name: [
            scores_of(truth, extraction.answer, corrections[name].get(i, {}), metrics or ["rouge_1"])
            | {"unparsed": float(extraction.answer is None), "refused": float(extraction.rule == REFUSAL)}
            for i, (extraction, truth) in enumerate(zip(row, truths, strict=True))
        ]
        for name, row in extractions.items()
    }


def _record(
    group: QuestionGroup,
    question: Question,
    truth: Verdict,
    sentences: Mapping[int, str],
    responses: Mapping[str, Response],
    extraction: Extraction,
    scores: Mapping[str, Scores],
) -> dict[str, Any]:
    """What is kept of one text. responses, scores: by name of the answerer; controls that were not asked are left out."""
    response, verdict = responses[PLAIN], extraction.answer
    unasked = {name for name, of_name in responses.items() if of_name.finish in NOT_ASKED}
    controls = {name: of_name.text for name, of_name in responses.items() if name != PLAIN and name not in unasked}
    compared = [name for name in (ALL_CORRECT_CONTROL, *controls) if name in scores]
    record: dict[str, Any] = {
        "id": question.id,
        "group": group.cluster,
        "question": question.text,
        "prediction": response.text,
        **({"reasoning": response.reasoning} if response.reasoning else {}),
        "target": words_of(truth),
        "score": scores[PLAIN]["sentence_accuracy"],
        "images": group.images,
        "question_type": question.question_type,
        "language": question.language,
        "verdict": None if verdict is None else verdict._asdict(),
        "truth": truth._asdict(),
        "sentences": {
            str(number): sentence
            for number, sentence in sentences.items()
            if number in (truth.sentence, verdict and verdict.sentence)
        },
        "extraction": extraction.trace(),
        "scores": _compared(
            scores[PLAIN], {name: scores[name] for name in compared} | _single(response, truth, sentences)
        ),
        "controls": controls,
        "fields": {**group.fields, **question.fields},
        **prompting_fields(question, response),
    }
    return record | ({"finish": response.finish} if response.finish else {})


def _single(response: Response, truth: Verdict, sentences: Mapping[int, str]) -> dict[str, Scores]:
    """Of a vote: what its samples score alone, their mean, but for their corrections."""
    if response.voted is None:
        return {}
    rows = [scores_of(truth, read_verdict(text, sentences).answer, {}, ()) for text in response.voted.samples]
    names = [name for name in rows[0] if rows[0][name] is not None]
    return {SINGLE: {name: sum(row[name] or 0.0 for row in rows) / len(rows) for name in names}}


def _correction_scores(
    extractions: Sequence[Extraction], truths: Sequence[Verdict], correcting: Correcting
) -> dict[int, dict[str, float]]:
    """Index → scores of the correction, of texts that both the reply and the data correct."""
    pairs = {
        i: (extraction.answer.correction, truth.correction)
        for i, (extraction, truth) in enumerate(zip(extractions, truths, strict=True))
        if extraction.answer is not None and extraction.answer.correction and truth.correction
    }
    rows = correcting.scores([text for text, _ in pairs.values()], [reference for _, reference in pairs.values()])
    return dict(zip(pairs, rows, strict=True))


def _compared(scores: Scores, of_controls: Mapping[str, Scores]) -> Scores:
    """A text's scores, the main ones next to those of the controls and the differences from them."""
    row: Scores = {}
    for name, value in scores.items():
        row[name] = value
        for control, of_control in of_controls.items():
            baseline = of_control.get(name)
            if name in MAIN["error_check"] and value is not None and baseline is not None:
                row |= {f"{name}/{control}": baseline, f"{name}/minus_{control}": value - baseline}
    return row
