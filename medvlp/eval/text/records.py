"""Records of written text: a text with what it is compared with, its scores, and those of the controls."""

from collections.abc import Mapping, Sequence
from typing import Any

from medvlp.config.evaluation.metric_names import MAIN
from medvlp.eval.prompting.traces import prompting_fields
from medvlp.eval.text.findings.rules import states_of_all
from medvlp.eval.text.scores import TextScores
from medvlp.eval.vqa.questions import QuestionGroup
from medvlp.eval.vqa.responses import Response
from medvlp.models.api.completion import NOT_ASKED


def records_of(
    groups: Sequence[QuestionGroup],
    responses: Sequence[Response],
    scores: Sequence[TextScores],
    controls: Mapping[str, Sequence[Response]],
    control_scores: Mapping[str, Sequence[TextScores]],
    further_scores: Sequence[Mapping[str, float | None]],
    with_findings: bool,
) -> list[dict[str, Any]]:
    """The records of all texts, in order; responses, scores and each control have one entry a text. Of a control's scores they
    have the main ones; of one whose question the server did not take, nothing.

    further_scores: metric → number of each text, of models that compare texts.
    """
    records = []
    for i, group in enumerate(groups):
        question, response = group.questions[0], responses[i]
        answered = [name for name, of_control in controls.items() if of_control[i].finish not in NOT_ASKED]
        of_text = scores[i].scores | dict(further_scores[i])
        record: dict[str, Any] = {
            "id": question.id,
            "group": group.cluster,
            "prediction": response.text,
            **({"reasoning": response.reasoning} if response.reasoning else {}),
            "target": question.target,
            "references": list(question.answers),
            "score": next((of_text[name] for name in ("rouge_l", *MAIN["text"]) if name in of_text), None),
            "images": group.images,
            "scores": of_text,
            "numbers": scores[i].numbers,
            "controls": {name: controls[name][i].text for name in answered},
            "control_scores": {
                name: {
                    "scores": {key: value for key, value in of_control[i].scores.items() if key in MAIN["text"]},
                    "numbers": {key: value for key, value in of_control[i].numbers.items() if key == "bleu"},
                    **({"findings": of_control[i].findings} if with_findings else {}),
                }
                for name, of_control in control_scores.items()
                if name in answered
            },
            "fields": group.fields,
            **prompting_fields(question, response),
        }
        if with_findings:
            record["findings"] = scores[i].findings
            record["reference_findings"] = states_of_all(question.answers)
        if response.finish:
            record["finish"] = response.finish
        records.append(record)
    return records
