"""Questions about images as a task sees them, and the model that is asked. L: tokens of a prompt; S: side of an image."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medvlp.data.chat.encoder import IMAGE, ChatEncoder
from medvlp.data.chat.images import Pictures
from medvlp.data.chat.templates import split_thought
from medvlp.eval.vqa.metrics import CLOSED, OPEN, normalize, yes_no
from medvlp.models.llava.generate import Answerer, Ids
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn

MULTIPLE_CHOICE = "multiple_choice"
ANSWER_TYPES = (CLOSED, OPEN, MULTIPLE_CHOICE)
NO_MARK = "answer type not stated"
LANGUAGE = "language "
REASONS = {
    "no_answer": "the last turn is no answer",
    "no_options": "fewer than two options, or no right one among them",
    "too_long": "too long for the model, with room for an answer",
}
"""Why a question is not asked, in words."""


@dataclass(frozen=True)
class Respondent:
    """An assistant that is asked.

    answerer: prompts → texts and likelihoods.
    encoder: conversations → prompts.
    pictures: a sample's images as the assistant's tower wants them.
    blank_shape: (1, 3, S, S), pixels of one image.
    identity: hash of the weights.
    """

    answerer: Answerer
    encoder: ChatEncoder
    pictures: Pictures
    blank_shape: tuple[int, ...]
    identity: str

    def continuation(self, turns: Sequence[Turn], answer: str, images: int) -> Ids:
        """Tokens of an answer behind the prompt of `turns`, without the one that would end it.

        Raises:
            BadSample: as `ChatEncoder.encode`.
        """
        whole = self.encoder.encode([*turns, Turn("assistant", answer)], images).ids
        own = whole[len(self.encoder.prompt(turns, images)) :]
        return own[:-1] if own[-1] in self.answerer.stop_ids else own

    def card(self) -> dict[str, Any]:
        """What decides a prompt's tokens."""
        return {
            "template_sha256": hashlib.sha256(self.encoder.template.encode()).hexdigest(),
            "image_tokens": self.encoder.image_tokens,
        }

    def shown(self, prompt: Ids) -> str:
        """A prompt as text, the tokens of each image as one."""
        ids = torch.from_numpy(prompt)
        number = torch.cumsum(ids == self.encoder.image_id, 0) - 1
        kept = ids[(ids != self.encoder.image_id) | (number % self.encoder.image_tokens == 0)]
        return self.encoder.decode(kept.tolist())

    def blank(self, images: int) -> Tensor:
        """(images, 3, S, S): 0 after normalisation, which is the processor's mean colour; (0,) for no image."""
        return torch.zeros(images, *self.blank_shape[1:]) if images else torch.empty(0)


@dataclass(frozen=True)
class Question:
    """One item.

    id: the sample's key, `#`, and the conversation's id, or its number.
    text: the question as the data have it.
    turns: what is asked: the conversation before its last answer, the task's instruction and any options added.
    unlisted: multiple choice: the same without the options.
    target, answers: the right answer, and all that count as right.
    options, letter: multiple choice: letter → text, and the right one.
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


@dataclass(frozen=True)
class Case:
    """A sample with the questions that are asked about it; `row` is its place in the dataset."""

    row: int
    key: str
    group: str
    group_kind: str
    images: int
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Choice:
    """Which conversations are asked, and how.

    instruction: text appended to the question, on a line of its own.
    languages, answer_types: those that are kept; empty keeps all.
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


def cut(cases: Sequence[Case], limit: int) -> list[Case]:
    """The first `limit` questions; 0 keeps all."""
    kept: list[Case] = []
    left = limit or sum(len(case.questions) for case in cases)
    for case in cases:
        if left > 0 and case.questions:
            kept.append(replace(case, questions=case.questions[:left]))
            left -= len(case.questions)
    return kept


def read_case(sample: Sample, row: int, choice: Choice, respondent: Respondent) -> tuple[Case, Counter[str]]:
    """The sample's questions that are asked, and a count of the others by reason (and of those whose answer type the
    data leave open, under `NO_MARK`)."""
    questions: list[Question] = []
    excluded: Counter[str] = Counter()
    for number, conversation in enumerate(sample.conversations):
        name = f"{sample.key}#{conversation.id or number}"
        try:
            question = question_of(name, conversation, choice)
            _check_prompt(question, len(sample.images), choice, respondent)
        except BadSample as problem:
            excluded[problem.reason] += 1
            continue
        excluded[NO_MARK] += "answer_type" not in conversation.metadata
        questions.append(question)
    metadata = sample.metadata
    group, kind = str(metadata.get("group") or sample.key), str(metadata.get("group_kind") or "")
    return Case(row, sample.key, group, kind, len(sample.images), tuple(questions)), excluded


def question_of(name: str, conversation: Conversation, choice: Choice) -> Question:
    """The conversation as an item.

    Where the data do not state an answer type, a target of yes or no is closed and any other open.

    Raises:
        BadSample: `language <name>`, `answer_type <name>` (not asked for), `no_answer`, `no_options`.
    """
    turns, stated = conversation.turns, conversation.metadata
    language = str(stated.get("language", ""))
    if choice.languages and language not in choice.languages:
        raise BadSample(f"{LANGUAGE}{language or 'not stated'}")
    if len(turns) < 2 or turns[-1].role != "assistant" or not turns[-1].text.strip():
        raise BadSample("no_answer")
    target = split_thought(turns[-1].text)[1]
    closed = yes_no(target) is not None and yes_no(target) == normalize(target)
    answer_type = str(stated.get("answer_type") or (CLOSED if closed else OPEN))
    if answer_type not in (choice.answer_types or ANSWER_TYPES):
        raise BadSample(f"answer_type {answer_type}")
    options: dict[str, str] = {}
    letter = ""
    if answer_type == MULTIPLE_CHOICE:
        options = {str(name): str(text) for name, text in dict(stated.get("options") or {}).items()}
        letter = str(stated.get("answer_letter") or "")
        if letter not in options or len(options) < 2 or not all(text.strip() for text in options.values()):
            raise BadSample("no_options")
    asked = turns[-2].text
    listed = [f"{name}. {text}" for name, text in options.items()]
    more = [choice.instruction] if choice.instruction else []
    return Question(
        id=name,
        text=asked.replace(f"{IMAGE}\n", "").replace(IMAGE, "").strip(),
        turns=(*turns[:-2], Turn("user", "\n".join([asked, *listed, *more]))),
        unlisted=(*turns[:-2], Turn("user", asked)),
        target=target,
        answers=tuple(dict.fromkeys([target, *(str(text) for text in stated.get("answers") or [])])),
        answer_type=answer_type,
        question_type=str(stated.get("question_type", "")),
        language=language,
        options=options,
        letter=letter,
    )


def _check_prompt(question: Question, images: int, choice: Choice, respondent: Respondent) -> None:
    room = respondent.answerer.longest - len(respondent.encoder.prompt(question.turns, images))
    said = [len(respondent.continuation(question.unlisted, text, images)) for text in question.options.values()]
    if room < max(choice.max_new_tokens, *said, 0):
        raise BadSample("too_long")
