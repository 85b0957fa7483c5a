"""Questions of multiple choice asked in another way: options in every order, the right one replaced by none of the above."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.vqa.aggregate import picks, score
from medvlp.eval.vqa.controls import NONE_OF_THE_ABOVE, ROTATED, respond, shown_images
from medvlp.eval.vqa.questions import Question, QuestionFilter, QuestionGroup, with_prompts
from medvlp.eval.vqa.responses import Response
from medvlp.eval.vqa.scores import Scores
from medvlp.models.api.completion import NOT_ASKED
from medvlp.shards import ShardDataset, ShardError

TEXT_OF_NONE = "None of the above"
_CROSS_REFERENCE = re.compile(r"\b(?:none|all|both|neither|any)\s+of\b|\bcannot be determined\b", re.IGNORECASE)
"""Options that speak of the others."""


def rotated(question: Question, shift: int, question_filter: QuestionFilter) -> Question:
    """The question with every option's text moved on by so many labels; the labels stay where they are."""
    labels, texts = list(question.options), list(question.options.values())
    options = {label: texts[(position - shift) % len(texts)] for position, label in enumerate(labels)}
    right = {(labels.index(letter) + shift) % len(labels) for letter in question.letters}
    letters = tuple(label for position, label in enumerate(labels) if position in right)
    return with_prompts(replace(question, options=options, letters=letters), question_filter)


def none_of_the_above(question: Question, question_filter: QuestionFilter) -> Question | None:
    """The question whose right option is "None of the above"; None where several are right, or an option speaks of the others."""
    if len(question.letters) != 1 or any(map(_CROSS_REFERENCE.search, question.options.values())):
        return None
    options = {**question.options, question.letters[0]: TEXT_OF_NONE}
    return with_prompts(
        replace(question, options=options, target=TEXT_OF_NONE, answers=(TEXT_OF_NONE,)), question_filter
    )


def variant_scores(
    controls: Sequence[str],
    model: AnsweringModel,
    dataset: ShardDataset,
    groups: Sequence[QuestionGroup],
    responses: Sequence[Response],
    question_filter: QuestionFilter,
    batch_size: int,
) -> tuple[dict[str, list[Scores]], list[Scores]]:
    """(control → scores of each question, further scores of each question) of the controls `rotated_options` and
    `none_of_the_above`.

    Of `rotated_options` a score is the mean over all orders, the given one included. The further scores are
    `<pick>_consistency`: 1 where every order picks the same text, and none of them nothing.

    responses: to the questions as they are given.
    """
    questions = [question for group in groups for question in group.questions]
    by_control: dict[str, list[Scores]] = {}
    further: list[Scores] = [{} for _ in questions]

    def ask(variants: Mapping[int, Question]) -> dict[int, Response]:
        return _responses(model, dataset, groups, variants, batch_size, question_filter.max_new_tokens)

    with_options = {i: question for i, question in enumerate(questions) if question.options}
    if ROTATED in controls and with_options:
        of_orders = {i: [(question, responses[i])] for i, question in with_options.items()}
        for shift in range(1, max(len(question.options) for question in with_options.values())):
            variants = {
                i: rotated(question, shift, question_filter)
                for i, question in with_options.items()
                if shift < len(question.options)
            }
            for i, response in ask(variants).items():
                of_orders[i].append((variants[i], response))
        by_control[ROTATED] = [_mean([score(*order) for order in of_orders.get(i, ())]) for i in range(len(questions))]
        for i, orders in of_orders.items():
            further[i] = _consistency(orders)
    if NONE_OF_THE_ABOVE in controls and with_options:
        asked_of = {i: none_of_the_above(question, question_filter) for i, question in with_options.items()}
        variants = {i: variant for i, variant in asked_of.items() if variant is not None}
        scores = {i: score(variants[i], response) for i, response in ask(variants).items()}
        by_control[NONE_OF_THE_ABOVE] = [scores.get(i, {}) for i in range(len(questions))]
    return by_control, further


def _responses(
    model: AnsweringModel,
    dataset: ShardDataset,
    groups: Sequence[QuestionGroup],
    variants: Mapping[int, Question],
    batch_size: int,
    max_new_tokens: int,
) -> dict[int, Response]:
    """Index of a question → the response to its variant, its own images shown; without those that a server did not take."""
    varied: list[QuestionGroup] = []
    indices: list[int] = []
    start = 0
    for group in groups:
        of_group = [i for i in range(start, start + len(group.questions)) if i in variants]
        start += len(group.questions)
        if of_group:
            varied.append(replace(group, questions=tuple(variants[i] for i in of_group)))
            indices += of_group
    rows = respond(model, dataset, varied, shown_images(varied), batch_size, max_new_tokens)
    stream: list[Response] = []
    for group, row in zip(varied, rows, strict=True):
        if isinstance(row, str):
            raise ShardError(f"{group.key} was readable before, and is not any more: {row}")
        stream += row
    return {i: response for i, response in zip(indices, stream, strict=True) if response.finish not in NOT_ASKED}


def _mean(rows: Sequence[Scores]) -> Scores:
    if not rows:
        return {}
    names = [name for name, value in rows[0].items() if value is not None]
    return {name: sum(row.get(name) or 0.0 for row in rows) / len(rows) for name in names}


def _consistency(orders: Sequence[tuple[Question, Response]]) -> Scores:
    texts: dict[str, list[str | None]] = {}
    for question, response in orders:
        for name, pick in picks(question, response).items():
            picked = sorted(question.options[letter] for letter in pick.split(", ")) if pick else None
            texts.setdefault(name, []).append("\n".join(picked) if picked else None)
    return {
        f"{name}_consistency": float(len(set(of_pick)) == 1 and of_pick[0] is not None)
        for name, of_pick in texts.items()
    }
