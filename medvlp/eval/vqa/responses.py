"""Responses of a model to all questions of a batch: texts, and likelihoods of the options of multiple choice."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medvlp.data.chat.templates import split_thought
from medvlp.eval.models.answering import Answer, AnsweringModel, Prompt
from medvlp.eval.prompting.votes import Voted
from medvlp.eval.vqa.questions import Question, QuestionGroup
from medvlp.models.api.completion import NOT_ASKED
from medvlp.wording.questions import GENERATED, LETTER, SIMILAR, TEXT

LIKELIHOOD = "loglikelihood"
EXAMPLES = 20
"""Questions that were not taken are all counted in a protocol; this many are named."""


@dataclass(frozen=True)
class Response:
    """A model's response to one question; letters and options have log-likelihoods for multiple choice only, and only of
    models that give them.

    text: the answer; empty where likelihoods alone pick an option. reasoning: what a model that thinks wrote before it.
    similar: the answer to the prompt of the scorer `most_similar`, where the task has it.
    letters: letter → nats. options: letter → (nats, tokens) of the option's text. finish, usage, request: as of `Answer`.
    voted: the vote that it stands for, where several responses were sampled.
    """

    text: str
    letters: dict[str, float] = field(default_factory=dict)
    options: dict[str, tuple[float, int]] = field(default_factory=dict)
    reasoning: str = ""
    similar: str | None = None
    finish: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    request: str = ""
    voted: Voted | None = None


def response_of(answer: str) -> Response:
    """An answer, and what was thought before it."""
    reasoning, text = split_thought(answer)
    response = Response(text.strip(), reasoning=reasoning)
    if not isinstance(answer, Answer):
        return response
    voted = answer if isinstance(answer, Voted) else None
    return replace(response, finish=answer.finish, usage=answer.usage, request=answer.request, voted=voted)


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
    request counts once), why they ended (`endings`), the first questions that were `not_taken`, and of refined ones for how many
    questions how many first samples were shown (`reasonings_used`)."""
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
        "reasonings_used": _reasonings_used(responses),
    }
    return {name: content for name, content in notes.items() if content}


def _reasonings_used(responses: Sequence[Response]) -> dict[str, int]:
    counts = Counter(r.voted.reasonings_used for r in responses if r.voted is not None and r.voted.reasonings)
    return {str(count): counts[count] for count in sorted(counts)}


def responses_to(
    model: AnsweringModel, groups: Sequence[tuple[QuestionGroup, Any]], max_new_tokens: int
) -> list[Response]:
    """Responses to all questions of some groups, in order; without likelihoods where the model gives none.

    groups: each with its images, as the model's `pictures` gives them.
    """
    prompts = [
        (question, Prompt(question.turns, group.images, pixels, question, scorer_of(question)))
        for group, pixels in groups
        for question in group.questions
    ]
    responses = [Response("")] * len(prompts)
    replying = [i for i, (question, _) in enumerate(prompts) if question.is_answered]
    similar = [(i, question.prompts[SIMILAR]) for i, (question, _) in enumerate(prompts) if SIMILAR in question.prompts]
    similar_jobs = [(i, turns) for i, turns in similar if turns != prompts[i][0].turns]
    jobs = [prompts[i][1] for i in replying]
    jobs += [prompts[i][1]._replace(turns=turns, scorer=SIMILAR) for i, turns in similar_jobs]
    answers = model.generate(jobs, max_new_tokens) if jobs else []
    for i, answer in zip(replying, answers[: len(replying)], strict=True):
        responses[i] = response_of(answer)
    for i, _ in similar:
        responses[i] = replace(responses[i], similar=responses[i].text)
    for (i, _), answer in zip(similar_jobs, answers[len(replying) :], strict=True):
        responses[i] = replace(responses[i], similar=response_of(answer).text)
    if LIKELIHOOD in model.offers:
        _add_likelihoods(model, prompts, responses)
    return responses


def _add_likelihoods(
    model: AnsweringModel, prompts: Sequence[tuple[Question, Prompt]], responses: list[Response]
) -> None:
    """Log-likelihoods of the letters and of the texts, each behind the prompt of its scorer."""
    with_options = [i for i, (question, _) in enumerate(prompts) if question.has_likelihoods]
    for scorer in (LETTER, TEXT):
        indices = [i for i in with_options if scorer in prompts[i][0].prompts]
        if not indices:
            continue
        options = [prompts[i][0].options for i in indices]
        # Texts in an order of their own, each once: behind a prompt that does not show the options, all orders ask the same.
        continuations = [
            list(of_question) if scorer == LETTER else sorted(set(of_question.values())) for of_question in options
        ]
        likelihoods = model.loglikelihood(
            [prompts[i][1]._replace(turns=prompts[i][0].prompts[scorer], scorer=scorer) for i in indices], continuations
        )
        for i, of_question, words, row in zip(indices, options, continuations, likelihoods, strict=True):
            by_words = dict(zip(words, row, strict=True))
            if scorer == LETTER:
                responses[i] = replace(responses[i], letters={name: by_words[name][0] for name in of_question})
            else:
                of_options = {name: by_words[text] for name, text in of_question.items()}
                responses[i] = replace(responses[i], options=of_options)


def first_prompt(model: AnsweringModel, group: QuestionGroup) -> str:
    """The prompt of a group's first question as the model reads it, the tokens of each image as one."""
    question = group.questions[0]
    text_of = getattr(model, "question_text", None)
    return (
        text_of(question, scorer_of(question), group.images)
        if text_of
        else model.prompt_text(question.turns, group.images)
    )


def scorer_of(question: Question) -> str:
    """The scorer in whose words `turns` ask; "" for a question without options."""
    return next((scorer for scorer in (GENERATED, SIMILAR, LETTER, TEXT) if scorer in question.prompts), "")


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
