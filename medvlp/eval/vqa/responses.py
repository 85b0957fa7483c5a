"""Responses of a model to all questions of a batch: texts, and likelihoods of the options of multiple choice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from medvlp.data.chat.templates import split_thought
from medvlp.eval.vqa.model import Prompt, VqaModel
from medvlp.eval.vqa.questions import QuestionGroup


@dataclass(frozen=True)
class Response:
    """A model's response to one question; letters and options have log-likelihoods for multiple choice only.

    letters: letter → nats. options: letter → (nats, tokens) of the option's text.
    """

    text: str
    letters: dict[str, float] = field(default_factory=dict)
    options: dict[str, tuple[float, int]] = field(default_factory=dict)


def responses_to(
    model: VqaModel, groups: Sequence[tuple[QuestionGroup, Tensor]], max_new_tokens: int
) -> list[Response]:
    """Responses to all questions of some groups, in order. groups: each with the pixels of its images."""
    prompts = [
        (question, Prompt(question.turns, group.images, pixels))
        for group, pixels in groups
        for question in group.questions
    ]
    answers = model.generate([prompt for _, prompt in prompts], max_new_tokens)
    responses = [Response(split_thought(answer)[1].strip()) for answer in answers]
    with_options = [i for i, (question, _) in enumerate(prompts) if question.options]
    if not with_options:
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
        responses[i] = Response(responses[i].text, by_letter, dict(zip(names, of_options, strict=True)))
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
