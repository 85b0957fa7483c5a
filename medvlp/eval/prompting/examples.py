"""Examples of few-shot prompts: the questions of a split that is not scored, with their answers."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache

from medvlp.boxes.placeholders import BOXES
from medvlp.eval.answers.normalization import normalize
from medvlp.eval.vqa.metrics import MULTIPLE_CHOICE, NUMBER, SET
from medvlp.eval.vqa.questions import Question, QuestionFilter, QuestionGroup, question_of
from medvlp.shards import BadSample, Sample, ShardDataset
from medvlp.shards.vocabulary import IMAGE_TOKEN

FREE = "free text"
SAMPLES = 64
"""Samples whose image files stay in memory."""
ReadSample = Callable[[Sample, int], Sequence[tuple[Question, str]]]
"""(sample without its images, row) → its questions, each with the reasons that the data give for the answer."""


@dataclass(frozen=True)
class Example:
    """A question with its answer.

    row, key, cluster: of its sample. rationale: why the answer is right; empty where the data do not say. images: how many it is
    shown with.
    """

    row: int
    key: str
    cluster: str
    question: Question = field(repr=False)
    rationale: str = ""
    images: int = 0

    @property
    def id(self) -> str:
        """The question's."""
        return self.question.id


def kind_of(question: Question) -> tuple[str, str]:
    """Questions of one kind can be examples of each other: (form of the answer, language)."""
    form = question.answer_type if question.answer_type in (MULTIPLE_CHOICE, NUMBER, SET) else FREE
    return form, question.language


class ExamplePool:
    """All examples of a split.

    Args:
        dataset: the split.
        read: gives the questions of a sample.
        with_images: whether they are shown with their images.
    """

    def __init__(self, dataset: ShardDataset, read: ReadSample, with_images: bool) -> None:
        self.dataset, self.read, self.with_images = dataset, read, with_images

    @cached_property
    def examples(self) -> list[Example]:
        """In the order of the split."""
        return list(self._read())

    def _read(self) -> Iterator[Example]:
        for row in range(len(self.dataset)):
            try:
                sample = self.dataset.read_text(row)
            except BadSample:
                continue
            cluster = str(sample.metadata.get("group") or sample.key)
            for question, rationale in self.read(sample, row):
                images = sum(turn.text.count(IMAGE_TOKEN) for turn in question.turns)
                if not self.with_images:
                    question = question.without_images()
                yield Example(
                    row, sample.key, cluster, question, rationale, images if images and self.with_images else 0
                )

    @cached_property
    def files_of(self) -> Callable[[int], tuple[bytes, ...]]:
        """Row → the sample's image files, in the order of their names. Raises BadSample."""

        @lru_cache(maxsize=SAMPLES)
        def files(row: int) -> tuple[bytes, ...]:
            images = self.dataset.read(row).images
            return tuple(images[name] for name in sorted(images))

        return files

    @cached_property
    def digests_of(self) -> Callable[[int], frozenset[str]]:
        """Row → sha256 of the sample's image files; of a sample that cannot be read none."""

        @cache
        def digests(row: int) -> frozenset[str]:
            try:
                return image_digests(self.files_of(row))
            except BadSample:
                return frozenset()

        return digests


def image_digests(files: Iterable[bytes]) -> frozenset[str]:
    """sha256 of each image file."""
    return frozenset(hashlib.sha256(data).hexdigest() for data in files)


def questions_of(question_filter: QuestionFilter) -> ReadSample:
    """Reads the questions of a sample that a task over conversations could ask, and the reasons for their answers
    (`rationale`). Those with boxes are no examples."""

    def read(sample: Sample, row: int) -> list[tuple[Question, str]]:
        pairs = []
        for number, conversation in enumerate(sample.conversations):
            if BOXES in conversation.metadata:
                continue  # each model writes boxes in its own form
            name = f"{sample.key}#{conversation.id or number}"
            with suppress(BadSample):
                question = question_of(name, conversation, question_filter)
                pairs.append((question, str(conversation.metadata.get("rationale") or "").strip()))
        return pairs

    return read


@dataclass(frozen=True)
class Subject:
    """A question that examples are looked for, with its sample. words: what it asks, as `words_of` has them."""

    group: QuestionGroup
    question: Question
    digests: frozenset[str]

    def is_told_by(self, example: Example, digests_of: Callable[[int], frozenset[str]]) -> bool:
        """Whether an example would tell of the question's own case: its group or sample, one of its images, or the very words of
        a question without images."""
        if example.cluster == self.group.cluster or example.key == self.group.key:
            return True
        if self.digests:
            return not self.digests.isdisjoint(digests_of(example.row))
        return words_of(example.question) == words_of(self.question)


def words_of(question: Question) -> str:
    """What a question asks, its options included, normalised."""
    texts = [turn.text.replace(IMAGE_TOKEN, " ") for turn in question.turns]
    return normalize("\n".join([*texts, *question.options.values()]))
