"""Questions about images as a task sees them: which conversations of a sample are asked, and in what words."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from medvlp.data.chat.templates import split_thought
from medvlp.eval.models.answering import AnsweringModel, without_images
from medvlp.eval.statistics.fields import Field, fields_of
from medvlp.eval.vqa.metrics import CLOSED, MULTIPLE_CHOICE, OPEN, normalize, yes_no
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from medvlp.shards.vocabulary import ANSWER_TYPES, IMAGE_TOKEN

NO_MARK = "answer type not stated"
LANGUAGE = "language "
REASONS = {
    "no_answer": "the last turn is no answer",
    "no_options": "fewer than two options, or no right one among them",
    "empty_option": "an option without tokens: it has no likelihood",
    "too_long": "too long for the model, with room for an answer",
    "too_large": "larger than what the server takes",
}
"""Why a question is not asked, in words."""


@dataclass(frozen=True)
class Question:
    """One item.

    id: the sample's key, `#`, and the conversation's id, or its number.
    text: the question as the data have it.
    turns: what is asked: the conversation before its last answer, the task's instruction and any options added.
    unlisted: multiple choice: the same without the options.
    target, answers: the right answer, and all that count as right.
    options, letter: multiple choice: letter → text, and the right one.
    fields: what the data say of the question, by which subgroups can be formed.
    """

    id: str
    text: str
    turns: tuple[Turn, ...]
    unlisted: tuple[Turn, ...]
    target: str
    answers: tuple[str, ...]
    answer_type: str
    question_type: str
    language: str
    options: dict[str, str]
    letter: str
    fields: dict[str, Field] = field(default_factory=dict)


@dataclass(frozen=True)
class QuestionGroup:
    """The questions about one sample; `row` is its index in the dataset, `fields` what the data say of the sample.

    images: how many the model is shown. withheld: how many it is not, because it takes none.
    """

    row: int
    key: str
    cluster: str
    cluster_kind: str
    images: int
    questions: tuple[Question, ...]
    fields: dict[str, Field] = field(default_factory=dict)
    withheld: int = 0


@dataclass(frozen=True)
class QuestionFilter:
    """Which conversations become questions, and how they are put.

    instruction: text appended to the question, on a line of its own.
    languages, answer_types: those that are asked; empty asks all.
    max_new_tokens: of an answer.
    """

    instruction: str = ""
    languages: tuple[str, ...] = ()
    answer_types: tuple[str, ...] = ()
    max_new_tokens: int = 64


def reason_in_words(reason: str) -> str:
    """Why a question is not asked, for people."""
    if reason.startswith((LANGUAGE, "answer_type ")):
        return f"{reason.replace('_', ' ')}, which the task does not ask"
    return REASONS.get(reason, reason.replace("_", " "))


def rows_of(dataset: ShardDataset, limit: int) -> list[int]:
    """All rows; with a limit, that many of them, spread over the dataset by the hash of their keys."""
    if not limit:
        return list(range(len(dataset)))
    by_hash = sorted(range(len(dataset)), key=lambda row: hashlib.sha256(dataset.key(row).encode()).digest())
    return by_hash[:limit]


def cut(groups: Sequence[QuestionGroup], limit: int) -> list[QuestionGroup]:
    """The first `limit` questions; 0 takes all."""
    selected: list[QuestionGroup] = []
    remaining = limit or sum(len(group.questions) for group in groups)
    for group in groups:
        if remaining > 0 and group.questions:
            selected.append(replace(group, questions=group.questions[:remaining]))
            remaining -= len(group.questions)
    return selected


def read_group(
    sample: Sample, row: int, question_filter: QuestionFilter, model: AnsweringModel
) -> tuple[QuestionGroup, Counter[str]]:
    """The sample's questions that are asked, and a count of the others by reason (and of those whose answer type the
    data leave open, under `NO_MARK`)."""
    questions: list[Question] = []
    excluded: Counter[str] = Counter()
    images = [sample.images[name] for name in sorted(sample.images)] if model.takes_images else []
    for number, conversation in enumerate(sample.conversations):
        name = f"{sample.key}#{conversation.id or number}"
        try:
            question = question_of(name, conversation, question_filter)
            if not model.takes_images:
                turns, unlisted = without_images(question.turns), without_images(question.unlisted)
                question = replace(question, turns=turns, unlisted=unlisted)
            _check_prompt(question, images, question_filter, model)
        except BadSample as problem:
            excluded[problem.reason] += 1
            continue
        excluded[NO_MARK] += "answer_type" not in conversation.metadata
        questions.append(question)
    metadata = sample.metadata
    cluster, cluster_kind = str(metadata.get("group") or sample.key), str(metadata.get("group_kind") or "")
    fields = fields_of(metadata, sample.labels)
    withheld = len(sample.images) - len(images)
    group = QuestionGroup(row, sample.key, cluster, cluster_kind, len(images), tuple(questions), fields, withheld)
    return group, excluded


def question_of(name: str, conversation: Conversation, question_filter: QuestionFilter) -> Question:
    """The conversation as an item.

    Where the data do not state an answer type, a target of yes or no is closed and any other open.

    Raises:
        BadSample: `language <name>`, `answer_type <name>` (not asked for), `no_answer`, `no_options`.
    """
    turns, metadata = conversation.turns, conversation.metadata
    language = str(metadata.get("language", ""))
    if question_filter.languages and language not in question_filter.languages:
        raise BadSample(f"{LANGUAGE}{language or 'not stated'}")
    if len(turns) < 2 or turns[-1].role != "assistant" or not turns[-1].text.strip():
        raise BadSample("no_answer")
    target = split_thought(turns[-1].text)[1]
    closed = yes_no(target) is not None and yes_no(target) == normalize(target)
    answer_type = str(metadata.get("answer_type") or (CLOSED if closed else OPEN))
    if answer_type not in (question_filter.answer_types or ANSWER_TYPES):
        raise BadSample(f"answer_type {answer_type}")
    options: dict[str, str] = {}
    letter = ""
    if answer_type == MULTIPLE_CHOICE:
        options = {str(name): str(text) for name, text in dict(metadata.get("options") or {}).items()}
        letter = str(metadata.get("answer_letter") or "")
        if letter not in options or len(options) < 2 or not all(text.strip() for text in options.values()):
            raise BadSample("no_options")
    prompt = turns[-2].text
    option_lines = [f"{name}. {text}" for name, text in options.items()]
    instruction = [question_filter.instruction] if question_filter.instruction else []
    return Question(
        id=name,
        text=prompt.replace(f"{IMAGE_TOKEN}\n", "").replace(IMAGE_TOKEN, "").strip(),
        turns=(*turns[:-2], Turn("user", "\n".join([prompt, *option_lines, *instruction]))),
        unlisted=(*turns[:-2], Turn("user", prompt)),
        target=target,
        answers=tuple(dict.fromkeys([target, *(str(text) for text in metadata.get("answers") or [])])),
        answer_type=answer_type,
        question_type=str(metadata.get("question_type", "")),
        language=language,
        options=options,
        letter=letter,
        fields=fields_of(metadata, {"answer_type": answer_type}),
    )


def _check_prompt(
    question: Question, images: Sequence[bytes], question_filter: QuestionFilter, model: AnsweringModel
) -> None:
    if not model.fits(
        question.turns, question.unlisted, images, question.options.values(), question_filter.max_new_tokens
    ):
        raise BadSample("too_long")
