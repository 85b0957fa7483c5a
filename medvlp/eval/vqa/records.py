"""Records of visual question answering: a question with its answer, its scores, and the answers of the controls."""

from collections.abc import Mapping, Sequence
from typing import Any

from medvlp.eval.prompting.traces import prompting_fields
from medvlp.eval.vqa.aggregate import extraction_of, picks, reply_of
from medvlp.eval.vqa.metrics import SET
from medvlp.eval.vqa.questions import Question, QuestionGroup
from medvlp.eval.vqa.responses import Response
from medvlp.eval.vqa.scores import COMPARED, DECIDING, Scores
from medvlp.models.api.completion import NOT_ASKED


def records_of(
    groups: Sequence[QuestionGroup],
    responses: Sequence[Response],
    scores: Sequence[Scores],
    controls: Mapping[str, Sequence[tuple[Question, Response] | None]],
    control_scores: Mapping[str, Sequence[Scores]],
    suggested: Sequence[str | None],
) -> list[dict[str, Any]]:
    """The records of all questions of the groups, in order; responses, scores and each control have one entry a question.
    Of a control's scores they have those that are compared; of one whose question was not asked or not taken, nothing.

    controls: the question as it was asked, and its response. suggested: the wrong answer that framings suggest.
    """
    questions = [(group, question) for group in groups for question in group.questions]
    records = []
    for i, (group, question) in enumerate(questions):
        pairs = {name: of_control[i] for name, of_control in controls.items()}
        gaps = {name for name, pair in pairs.items() if pair is None or pair[1].finish in NOT_ASKED}
        record: dict[str, Any] = {
            "id": question.id,
            "group": group.cluster,
            "question": question.text,
            "prediction": reply_of(question, responses[i]),
            "target": question.target,
            "score": next(scores[i][name] for name in DECIDING if name in scores[i]),
            "images": group.images,
            "answer_type": question.answer_type,
            "question_type": question.question_type,
            "language": question.language,
            "scores": scores[i],
            "controls": {name: reply_of(*pair) for name, pair in pairs.items() if pair and name not in gaps},
            "fields": {**group.fields, **question.fields},
            "control_scores": {
                name: {metric: of_control[i][metric] for metric in COMPARED if metric in of_control[i]}
                for name, of_control in control_scores.items()
                if name not in gaps
            },
            **({"suggested": suggested[i]} if suggested[i] else {}),
        }
        records.append(record | _of_reply(question, responses[i]) | _of_kind(question, responses[i]))
    return records


def _of_reply(question: Question, response: Response) -> dict[str, Any]:
    """What stood in front of the question, what the model thought, what it was sampled and why it ended."""
    fields = {"reasoning": response.reasoning} if response.reasoning else {}
    return fields | prompting_fields(question, response) | ({"finish": response.finish} if response.finish else {})


def _of_kind(question: Question, response: Response) -> dict[str, Any]:
    """How the answer was read, and what the kind of question has besides a target."""
    fields: dict[str, Any] = {}
    extraction = extraction_of(question, response.text) if question.is_answered else None
    if extraction is not None:
        fields["extraction"] = extraction.trace()
    if question.number:
        fields |= {"number_type": question.number.number_type, "bounds": [question.number.low, question.number.high]}
    if question.answer_type == SET:
        fields["items"] = list(question.items)
    if question.boxes:
        answer = None if extraction is None else extraction.answer
        fields |= {"boxes": [list(box) for box in question.boxes.boxes], "box_image": question.boxes.image}
        fields["predicted_boxes"] = None if answer is None else [list(box) for box in answer]
    if question.options:
        fields |= {
            "options": question.options,
            "letter": ", ".join(question.letters),
            "picks": picks(question, response),
            "letter_logprob": response.letters,
            "option_logprob": response.options,
        }
        if response.similar is not None:
            fields["similar_prediction"] = response.similar
    return fields
