"""Responses of a model to all questions of a batch: texts, and likelihoods of the options of multiple choice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medvlp.data.chat.templates import split_thought
from medvlp.eval.models.answering import AnsweringModel, Prompt
from medvlp.eval.vqa.questions import QuestionGroup

LIKELIHOOD = "loglikelihood"


@dataclass(frozen=True)
class Response:
    """A model's response to one question; letters and options have log-likelihoods for multiple choice only, and only of
    models that give them.

    text: the answer. reasoning: what a model that thinks wrote before it.
    letters: letter → nats. options: letter → (nats, tokens) of the option's text.
    """

    text: str
    letters: dict[str, float] = field(default_factory=dict)
    options: dict[str, tuple[float, int]] = field(default_factory=dict)
    reasoning: str = ""


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
    parts = [split_thought(answer) for answer in answers]
    responses = [Response(text.strip(), reasoning=reasoning) for reasoning, text in parts]
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
        by_option = dict(zip(names, of_options, strict=True))
        responses[i] = replace(responses[i], letters=by_letter, options=by_option)
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
