"""Questions about images as a task sees them: which conversations of a sample are asked, and in what words."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medvlp.data.chat.templates import split_thought
from medvlp.eval.answers.normalization import normalize, yes_no
from medvlp.eval.answers.targets import NumberTarget, item_set, number_target
from medvlp.eval.boxes.questions import BoxTarget, in_form, style_of
from medvlp.eval.models.answering import AnsweringModel, without_images
from medvlp.eval.reliability.pairs import PAIR_ID
from medvlp.eval.statistics.fields import Field, fields_of
from medvlp.eval.vqa.metrics import CLOSED, MULTIPLE_CHOICE, NUMBER, OPEN, SET
from medvlp.shards import BadSample, Conversation, Sample, ShardDataset, Turn
from medvlp.shards.vocabulary import ANSWER_TYPES, IMAGE_TOKEN
from medvlp.wording.questions import GENERATED, LETTER, SIMILAR, TEXT, ChoicePrompts, stated_options, with_instruction

NO_MARK = "answer type not stated"
LANGUAGE = "language "
REASONS = {
    "no_answer": "the last turn is no answer",
    "no_options": "fewer than two options, or no right one among them",
    "empty_option": "an option without tokens: it has no likelihood",
    "bad_number": "a number, bounds or a number_type that cannot be read",
    "bad_set": "no list of the right items",
    "bad_boxes": "boxes that are none",
    "box_count": "more or fewer boxes than placeholders",
    "box_not_seen": "a box outside of what the model sees of the image",
    "no_pixels": "boxes in pixels, for a model whose processor nobody knows",
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
    stem: what the data ask, without the task's words; of multiple choice without the options.
    prompts: multiple choice: scorer → what it asks; `turns` are of the one that reads a text.
    target, answers: the right answer, and all that count as right.
    options, letters: multiple choice: letter → text, and the right ones.
    number, items, boxes: of a number, of a set and of boxes, what is right.
    fields: what the data say of the question, by which subgroups can be formed.
    examples: what stands in front of it (`medvlp.eval.prompting.examples`).
    """

    id: str
    text: str
    turns: tuple[Turn, ...]
    target: str
    answers: tuple[str, ...]
    answer_type: str
    question_type: str
    language: str
    options: dict[str, str] = field(default_factory=dict)
    letters: tuple[str, ...] = ()
    prompts: dict[str, tuple[Turn, ...]] = field(default_factory=dict)
    stem: tuple[Turn, ...] = ()
    number: NumberTarget | None = None
    items: tuple[str, ...] = ()
    boxes: BoxTarget | None = None
    fields: dict[str, Field] = field(default_factory=dict)
    examples: tuple[Any, ...] = ()

    @property
    def has_likelihoods(self) -> bool:
        """Whether a likelihood can pick its answer: options of which one is right, and a scorer by likelihood."""
        return len(self.letters) == 1 and (LETTER in self.prompts or TEXT in self.prompts)

    @property
    def is_answered(self) -> bool:
        """Whether the model writes a text; False where likelihoods alone pick an option."""
        return not self.options or GENERATED in self.prompts or SIMILAR in self.prompts

    def without_images(self) -> "Question":
        """The same question, its images left out."""
        prompts = {scorer: without_images(turns) for scorer, turns in self.prompts.items()}
        return replace(self, turns=without_images(self.turns), prompts=prompts, stem=without_images(self.stem))


@dataclass(frozen=True)
class QuestionGroup:
    """The questions about one sample; `row` is its index in the dataset, `fields` what the data say of the sample.

    images: how many the model is shown. withheld: how many it is not, because it takes none.
    lost_pairs: the `pair_id` of each question that belongs here and is not asked.
    """

    row: int
    key: str
    cluster: str
    cluster_kind: str
    images: int
    questions: tuple[Question, ...]
    fields: dict[str, Field] = field(default_factory=dict)
    withheld: int = 0
    lost_pairs: tuple[str, ...] = ()


@dataclass(frozen=True)
class QuestionFilter:
    """Which conversations become questions, and how they are put.

    instruction: text appended to the question, on a line of its own.
    languages, answer_types: those that are asked; empty asks all.
    max_new_tokens: of an answer.
    choice: how questions of multiple choice are put.
    box_form: how boxes are written, instead of the model's own form. box_words: a question for boxes says in which form.
    """

    instruction: str = ""
    languages: tuple[str, ...] = ()
    answer_types: tuple[str, ...] = ()
    max_new_tokens: int = 64
    choice: ChoicePrompts = field(default_factory=ChoicePrompts)
    box_form: str = ""
    box_words: bool = True


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


def pair_ids(questions: Sequence[Question]) -> list[str]:
    """The `pair_id` of each of some questions that has one."""
    return [str(question.fields[PAIR_ID]) for question in questions if question.fields.get(PAIR_ID) is not None]


def lost_pairs(groups: Sequence[QuestionGroup], answered: Sequence[QuestionGroup]) -> set[str]:
    """Pairs of which an item is missing among the answered questions: left out, cut off by a limit, not taken, unreadable."""
    counts = Counter(pair for group in groups for pair in (*pair_ids(group.questions), *group.lost_pairs))
    return set(counts - Counter(pair for group in answered for pair in pair_ids(group.questions)))


def cut(groups: Sequence[QuestionGroup], limit: int) -> list[QuestionGroup]:
    """The first `limit` questions; 0 takes all."""
    selected: list[QuestionGroup] = []
    remaining = limit or sum(len(group.questions) for group in groups)
    lost: list[str] = []
    for group in groups:
        if remaining > 0 and group.questions:
            selected.append(replace(group, questions=group.questions[:remaining]))
            lost += pair_ids(group.questions[remaining:])
            remaining -= len(group.questions)
        else:
            lost += [*group.lost_pairs, *pair_ids(group.questions)]
    if lost and selected:
        selected[-1] = replace(selected[-1], lost_pairs=(*selected[-1].lost_pairs, *lost))
    return selected


def read_group(
    sample: Sample, row: int, question_filter: QuestionFilter, model: AnsweringModel
) -> tuple[QuestionGroup, Counter[str]]:
    """The sample's questions that are asked, and a count of the others by reason (and of those whose answer type the
    data leave open, under `NO_MARK`)."""
    questions: list[Question] = []
    excluded: Counter[str] = Counter()
    lost_pairs: list[str] = []
    images = [sample.images[name] for name in sorted(sample.images)] if model.takes_images else []
    for number, conversation in enumerate(sample.conversations):
        name = f"{sample.key}#{conversation.id or number}"
        try:
            style = style_of(model, question_filter.box_form)
            boxed_conversation, boxes = in_form(conversation, sample, style, question_filter.box_words)
            question = replace(question_of(name, boxed_conversation, question_filter), boxes=boxes)
            if not model.takes_images:
                question = question.without_images()
            check_prompt(question, images, question_filter, model)
        except BadSample as problem:
            excluded[problem.reason] += 1
            lost_pairs += [str(conversation.metadata[PAIR_ID])] if PAIR_ID in conversation.metadata else []
            continue
        excluded[NO_MARK] += "answer_type" not in conversation.metadata
        questions.append(question)
    metadata = sample.metadata
    cluster, cluster_kind = str(metadata.get("group") or sample.key), str(metadata.get("group_kind") or "")
    fields = fields_of(metadata, sample.labels)
    withheld = len(sample.images) - len(images)
    of_sample = (row, sample.key, cluster, cluster_kind, len(images))
    return QuestionGroup(*of_sample, tuple(questions), fields, withheld, tuple(lost_pairs)), excluded


def question_of(name: str, conversation: Conversation, question_filter: QuestionFilter) -> Question:
    """The conversation as an item.

    Where the data do not state an answer type, a target of yes or no is closed and any other open.

    Raises:
        BadSample: `language <name>`, `answer_type <name>` (not asked for), `no_answer`, `no_options`, `bad_number`, `bad_set`.
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
    question = Question(
        id=name,
        text=turns[-2].text.replace(f"{IMAGE_TOKEN}\n", "").replace(IMAGE_TOKEN, "").strip(),
        turns=(),
        stem=tuple(turns[:-1]),
        target=target,
        answers=tuple(dict.fromkeys([target, *_texts(metadata, "answers")])),
        answer_type=answer_type,
        question_type=str(metadata.get("question_type", "")),
        language=language,
        fields=fields_of(metadata, {"answer_type": answer_type}),
    )
    if answer_type == MULTIPLE_CHOICE:
        return _with_options(question, metadata, question_filter)
    question = with_prompts(question, question_filter)
    if answer_type == NUMBER:
        return replace(question, number=number_target(target, metadata))
    return replace(question, items=item_set(metadata.get("answer_set"))) if answer_type == SET else question


def _with_options(question: Question, metadata: Mapping[str, Any], question_filter: QuestionFilter) -> Question:
    """A question of multiple choice. Raises BadSample `no_options`, `bad_options`, `bad_answer_letters`."""
    _texts(metadata, "answer_letters")
    if not isinstance(metadata.get("options") or {}, Mapping):
        detail = f"options is {metadata['options']!r:.80}, expected a text for each letter"
        raise BadSample("bad_options", detail=detail)
    options, letters = stated_options(metadata)
    if not letters:
        raise BadSample("no_options")
    return with_prompts(replace(question, options=options, letters=letters), question_filter)


def _texts(metadata: Mapping[str, Any], name: str) -> list[str]:
    """A list of the metadata, its entries as texts. Raises BadSample bad_<name>: it is none; one text is no list of letters."""
    value = metadata.get(name) or []
    if not isinstance(value, list):
        raise BadSample(f"bad_{name}", detail=f"{name} is {value!r:.80}, expected a list of texts")
    return [str(text) for text in value]


def with_prompts(question: Question, question_filter: QuestionFilter) -> Question:
    """A question put in the task's words: of multiple choice those of every scorer, else with the instruction behind it."""
    if not question.options:
        text = with_instruction(question.stem[-1].text, question_filter.instruction)
        return replace(question, turns=(*question.stem[:-1], Turn("user", text)))
    texts = question_filter.choice.texts(question.stem[-1].text, question.options, question_filter.instruction)
    prompts = {scorer: (*question.stem[:-1], Turn("user", text)) for scorer, text in texts.items()}
    return replace(question, turns=prompts[question_filter.choice.answered], prompts=prompts)


def check_prompt(
    question: Question, images: Sequence[bytes], question_filter: QuestionFilter, model: AnsweringModel
) -> None:
    """That a model can be asked a question about these images. Raises BadSample: `too_long`, and as the model's `fits`."""
    option_turns = question.prompts.get(TEXT, question.turns)
    options = sorted(set(question.options.values())) if TEXT in question.prompts else ()
    turns_of_lists = [question.prompts[scorer] for scorer in question.prompts if scorer != TEXT]
    for turns in [question.turns, *(turns for turns in turns_of_lists if turns != question.turns)]:
        if not model.fits(turns, option_turns, images, options, question_filter.max_new_tokens):
            raise BadSample("too_long")
