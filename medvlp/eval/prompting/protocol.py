"""A prompting protocol of a task: its examples, the model that is asked by it, and what a protocol card says of it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.eval.errors import TaskError
from medvlp.eval.items import read_samples
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.prompting.examples import Example, ExamplePool, ReadSample, Subject, image_digests
from medvlp.eval.prompting.model import PromptedModel, Read
from medvlp.eval.prompting.selection import Embedder, Order, order_of
from medvlp.eval.prompting.turns import is_generated, with_examples
from medvlp.eval.task import TaskSettings
from medvlp.eval.vqa.questions import Question, QuestionGroup
from medvlp.shards import BadSample, Sample, ShardDataset, ShardError
from medvlp.wording.questions import TEXT


@dataclass(frozen=True)
class Prompting:
    """How a task puts its questions.

    config: the task's key `prompting`. examples: the split that examples are of. embedder: what says which are near.
    """

    config: PromptingConfig = field(default_factory=PromptingConfig)
    examples: ShardDataset | None = None
    embedder: Embedder | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the examples next to the task's keys."""
        parts = {"examples": self.examples.manifest_hash if self.examples else None}
        embedder = {"embedder": self.embedder.identity} if self.embedder else {}
        return {**parts, **embedder} if self.examples else {}

    def image_names(self, row: int) -> list[str]:
        """Names of the images of a sample of the examples' split. Raises BadSample."""
        return self.examples.image_names(row) if self.examples else []

    @property
    def decoding(self) -> str:
        """How responses are made, in words, without their length."""
        config = self.config
        if not config.temperature:
            return "greedy"
        top_p = f", top_p {config.top_p:g}" if config.top_p < 1 else ""
        samples = "1 sample" if config.samples == 1 else f"{config.samples} samples"
        words = f"{samples} at temperature {config.temperature:g}{top_p}, seed {config.seed}"
        if config.refinements:
            return f"{words}; {config.refinements} refinements given these; their majority, ties are no answer"
        return f"{words}; their majority, ties are no answer" if config.samples > 1 else words

    def prompted(self, model: AnsweringModel, read: Read, sample_read: ReadSample, batch_size: int) -> Any:
        """The model as it is asked by the protocol; the model itself where there is none."""
        if self.config.is_default:
            return model
        pool = None
        if self.examples and self.config.shots:
            pool = ExamplePool(self.examples, sample_read, self.config.example_images and model.takes_images)
        return PromptedModel(model, self.config, read, pool, batch_size)

    def with_examples(
        self,
        task: str,
        model: Any,
        dataset: ShardDataset,
        groups: Sequence[QuestionGroup],
        max_new_tokens: int,
        subject_of: Callable[[Question], str],
    ) -> list[QuestionGroup]:
        """Groups whose questions have their examples. Where not all of them fit into the model, those that stand farthest from
        the question fall out.

        model: as `prompted` gives it.

        Raises:
            TaskError: no example, or images of examples for a model that does not take them.
        """
        if not isinstance(model, PromptedModel) or model.pool is None:
            return list(groups)
        pool = model.pool
        if not pool.examples:
            raise TaskError(f"task {task}: prompting.shots: no question of {pool.dataset.folder} can be an example")
        shows_images = any(example.images for example in pool.examples)
        if shows_images and not model.takes_several_images:
            raise TaskError(
                f"task {task}: prompting.shots={self.config.shots} shows examples with their images, and this model takes images "
                f"in one turn only; set prompting.example_images: false to show the examples' texts, or shots: 0"
            )
        questions = [(group, question) for group in groups for question in group.questions]
        order = order_of(self.config, task, pool, questions, dataset, self.embedder, subject_of)
        first = [0, *(sum(len(group.questions) for group in groups[: i + 1]) for i in range(len(groups)))]
        of_row = {group.row: (first[i], group) for i, group in enumerate(groups)}
        selection = _Selection(self.config, model, pool, order, max_new_tokens)
        selected, _ = read_samples(dataset, list(of_row), lambda sample, row: selection.group(sample, *of_row[row]))
        by_row = {group.row: group for group in selected}
        return [by_row.get(group.row, group) for group in groups]

    def protocol(self, questions: Sequence[Question]) -> dict[str, Any]:
        """What a card says: the keys that decide, and where the examples are from."""
        protocol = self.config.to_protocol()
        if self.config.shots and self.examples:
            counts = Counter(len(question.examples) for question in questions)
            protocol["examples_hash"] = self.examples.manifest_hash
            protocol["examples_per_question"] = {str(count): counts[count] for count in sorted(counts)}
            protocol["order"] = "the nearest last" if self.config.selection == "nearest" else "as they are selected"
            if self.embedder:
                protocol["embedder_weights"] = self.embedder.identity
        return {"prompting": protocol} if protocol else {}


def open_prompting(config: Any, dataset: ShardDataset, settings: TaskSettings) -> Prompting:
    """The protocol of a task's configuration. dataset: the split that is scored.

    Raises:
        TaskError: examples of that very split, or of one that is not there.
        UserError: an embedder that is not there, or gives no embeddings.
    """
    prompting: PromptingConfig = config.prompting
    if not prompting.shots:
        return Prompting(prompting)
    folder = Path(config.data) / prompting.split
    try:
        examples = ShardDataset(folder)
    except ShardError as error:
        raise TaskError(f"task {config.name}: prompting.split={prompting.split}: {error}") from None
    if examples.manifest_hash == dataset.manifest_hash:
        raise TaskError(
            f"task {config.name}: prompting.split={prompting.split} is the split that is scored ({dataset.folder}); its answers "
            f"would stand in the prompts. Name another one"
        )
    capability = "encode_image" if prompting.embedding == "image" else "encode_text"
    embedder = None
    if prompting.embedder and settings.embedder_of:
        embedder = settings.embedder_of(prompting.embedder, capability)
    return Prompting(prompting, examples, embedder)


@dataclass(frozen=True)
class _Selection:
    """The examples of one group after another."""

    config: PromptingConfig
    model: PromptedModel
    pool: ExamplePool
    order: Order
    max_new_tokens: int
    _usable: dict[str, bool] = field(default_factory=dict)

    def group(self, sample: Sample, start: int, group: QuestionGroup) -> QuestionGroup:
        """start: number of its first question."""
        images = [sample.images[name] for name in sorted(sample.images)] if self.model.takes_images else []
        images = images if group.images else []
        digests = image_digests(sample.images.values())
        questions = []
        for number, question in enumerate(group.questions, start):
            subject = Subject(group, question, digests)
            candidates = self.order(number, group, question)
            allowed = (
                example
                for example in candidates
                if not subject.is_told_by(example, self.pool.digests_of) and self._is_usable(example)
            )
            examples = [example for _, example in zip(range(self.config.shots), allowed, strict=False)]
            if self.config.selection == "nearest":
                examples.reverse()
            while examples and not self._fits(question, examples, images):
                del examples[0]
            questions.append(replace(question, examples=tuple(examples)))
        return replace(group, questions=tuple(questions))

    def _is_usable(self, example: Example) -> bool:
        """Whether a model can be shown it: images that can be read, and text without control tokens."""
        if example.id not in self._usable:
            try:
                if example.images:
                    self.model.example_pictures(example)
                self.model.fits(example.question.turns, example.question.turns, self._files(example), (), 1)
                self._usable[example.id] = True
            except BadSample:
                self._usable[example.id] = False
        return self._usable[example.id]

    def _files(self, example: Example) -> Sequence[bytes]:
        return self.pool.files_of(example.row) if example.images else ()

    def _fits(self, question: Question, examples: Sequence[Example], images: Sequence[bytes]) -> bool:
        files = [*chain.from_iterable(self._files(example) for example in examples), *images]
        scorers: Mapping[str, Any] = question.prompts or {"": question.turns}
        option_turns = with_examples(scorers.get(TEXT, question.turns), examples, TEXT, self.config)
        options = sorted(set(question.options.values())) if TEXT in question.prompts else []
        try:
            return all(
                self.model.fits(
                    with_examples(turns, examples, scorer, self.config),
                    option_turns,
                    files,
                    options,
                    self.max_new_tokens if is_generated(scorer) else 1,
                )
                for scorer, turns in scorers.items()
            )
        except BadSample:
            return False
