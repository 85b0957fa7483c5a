"""Responses of a model to all questions of a batch: texts, and likelihoods of the options of multiple choice."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medvlp.data.chat.templates import split_thought
from medvlp.eval.models.answering import Answer, AnsweringModel, Prompt
from medvlp.eval.vqa.questions import QuestionGroup
from medvlp.models.api.completion import NOT_ASKED

LIKELIHOOD = "loglikelihood"
EXAMPLES = 20
"""Questions that were not taken are all counted in a protocol; this many are named."""


@dataclass(frozen=True)
class Response:
    """A model's response to one question; letters and options have log-likelihoods for multiple choice only, and only of
    models that give them.

    text: the answer. reasoning: what a model that thinks wrote before it.
    letters: letter → nats. options: letter → (nats, tokens) of the option's text. finish, usage, request: as of `Answer`.
    """

    text: str
    letters: dict[str, float] = field(default_factory=dict)
    options: dict[str, tuple[float, int]] = field(default_factory=dict)
    reasoning: str = ""
    finish: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    request: str = ""


def response_of(answer: str) -> Response:
    """An answer, and what was thought before it."""
    reasoning, text = split_thought(answer)
    response = Response(text.strip(), reasoning=reasoning)
    if not isinstance(answer, Answer):
        return response
    return replace(response, finish=answer.finish, usage=answer.usage, request=answer.request)


def taken(
    answered: Iterable[tuple[QuestionGroup, list[Response]]],
) -> tuple[list[tuple[QuestionGroup, list[Response]]], dict[str, str]]:
    """Groups without the questions that the model's server did not take, and the reason of each of those by its id."""
    groups: list[tuple[QuestionGroup, list[Response]]] = []
    reasons: dict[str, str] = {}
    for group, responses in answered:
        pairs = list(zip(group.questions, responses, strict=True))
        reasons |= {question.id: response.finish for question, response in pairs if response.finish in NOT_ASKED}
        pairs = [pair for pair in pairs if pair[0].id not in reasons]
        if len(pairs) < len(responses):
            group = replace(group, questions=tuple(question for question, _ in pairs))
        if pairs:
            groups.append((group, [response for _, response in pairs]))
    return groups, reasons


def response_notes(
    responses: Sequence[Response], controls: Mapping[str, Sequence[Response]], not_taken: Mapping[str, str]
) -> dict[str, Any]:
    """What a protocol says of the responses themselves, as far as the model tells it: what they took together (`usage`: each
    request counts once), why they ended (`endings`), and the first questions that were `not_taken`."""
    by_name = {"responses": responses, **controls}
    by_request = {response.request: response.usage for row in by_name.values() for response in row if response.usage}
    usage = Counter[str]()
    for counts in by_request.values():
        usage.update(counts)
    endings = {
        name: dict(sorted(Counter(response.finish for response in row if response.finish).items()))
        for name, row in by_name.items()
    }
    notes = {
        "usage": dict(usage),
        "endings": {name: counts for name, counts in endings.items() if counts},
        "not_taken": dict(sorted(not_taken.items())[:EXAMPLES]),
    }
    return {name: content for name, content in notes.items() if content}


def responses_to(
    model: AnsweringModel, groups: Sequence[tuple[QuestionGroup, Any]], max_new_tokens: int
) -> list[Response]:
    """Responses to all questions of some groups, in order; without likelihoods where the model gives none.

    groups: each with its images, as the model's `pictures` gives them.
    """
    prompts = [
        (question, Prompt(question.turns, group.images, pixels))
        for group, pixels in groups
        for question in group.questions
    ]
    answers = model.generate([prompt for _, prompt in prompts], max_new_tokens)
    responses = [response_of(answer) for answer in answers]
    with_options = [i for i, (question, _) in enumerate(prompts) if question.options]
    if not with_options or LIKELIHOOD not in model.offers:
        return responses
    letters = model.loglikelihood(
        [prompts[i][1] for i in with_options], [list(prompts[i][0].options) for i in with_options]
    )
    options = model.loglikelihood(
        [prompts[i][1]._replace(turns=prompts[i][0].unlisted) for i in with_options],
        [list(prompts[i][0].options.values()) for i in with_options],
    )
    for i, of_letters, of_options in zip(with_options, letters, options, strict=True):
        names = list(prompts[i][0].options)
        by_letter = {name: total for name, (total, _) in zip(names, of_letters, strict=True)}
        responses[i] = replace(responses[i], letters=by_letter, options=dict(zip(names, of_options, strict=True)))
    return responses


def batches_of(sizes: Sequence[int], limit: int) -> Iterator[range]:
    """Neighbouring groups, so that a batch has at most so many questions, or one group.

    sizes: questions of each group.
    """
    start, total = 0, 0
    for index, size in enumerate(sizes):
        if index > start and total + size > limit:
            yield range(start, index)
            start, total = index, 0
        total += size
    if sizes:
        yield range(start, len(sizes))
