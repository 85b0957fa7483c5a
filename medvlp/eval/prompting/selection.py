"""Which examples stand in front of a question: fixed ones, random ones by seed, the nearest by embedding.

Legend: Q questions, P examples, D embedding width.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from medvlp.config.evaluation.answering.prompting import PromptingConfig
from medvlp.eval.errors import TaskError
from medvlp.eval.prompting.examples import Example, ExamplePool, kind_of
from medvlp.eval.prompting.similarity import WordVectors
from medvlp.eval.vqa.questions import Question, QuestionGroup
from medvlp.shards import ShardDataset

Array = NDArray[np.float64]


class Encoder(Protocol):
    """A model that gives embeddings, as `CachedEncoder` does."""

    def images(self, dataset: ShardDataset) -> Any:
        """`ImageEmbeddings` of a split."""

    def texts(self, texts: Sequence[str]) -> Any:
        """embeddings_ND of texts."""


@dataclass(frozen=True)
class Embedder:
    """The model that says what is near. identity: hash of all that decides its embeddings. open: gives it."""

    name: str
    identity: str
    open: Callable[[], Encoder]


Order = Callable[[int, QuestionGroup, Question], Iterator[Example]]
"""(number of a question, its group, itself) → examples, the first to take first."""


def order_of(
    config: PromptingConfig,
    task: str,
    pool: ExamplePool,
    questions: Sequence[tuple[QuestionGroup, Question]],
    dataset: ShardDataset,
    embedder: Embedder | None,
    subject_of: Callable[[Question], str],
) -> Order:
    """In what order examples are taken for each question of a task.

    subject_of: a question → the text that is compared.

    Raises:
        TaskError: a named example that is not in the split.
    """
    if config.examples:
        examples = _listed(config, task, pool)
        return lambda number, group, question: (e for e in examples if kind_of(e.question)[0] == kind_of(question)[0])
    by_kind: dict[tuple[str, str], list[int]] = {}
    for index, example in enumerate(pool.examples):
        by_kind.setdefault(kind_of(example.question), []).append(index)

    def candidates(question: Question) -> list[int]:
        return by_kind.get(kind_of(question), [])

    if config.selection == "fixed":
        return lambda number, group, question: (pool.examples[i] for i in candidates(question))
    if config.selection == "random":

        def random_order(number: int, group: QuestionGroup, question: Question) -> Iterator[Example]:
            indices = candidates(question)
            digest = hashlib.sha256(f"{config.seed}\0{question.id}".encode()).digest()
            order = np.random.default_rng(int.from_bytes(digest[:8], "big")).permutation(len(indices))
            return (pool.examples[indices[position]] for position in order)

        return random_order
    similarity = _similarity(config, task, pool, questions, dataset, embedder, subject_of)

    def nearest_first(number: int, group: QuestionGroup, question: Question) -> Iterator[Example]:
        indices = np.array(candidates(question), np.int64)
        similarity_P = similarity(number)[indices]
        order = np.argsort(-similarity_P, kind="stable")
        order = order[np.isfinite(similarity_P[order])]
        return (pool.examples[indices[position]] for position in order)

    return nearest_first


def _listed(config: PromptingConfig, task: str, pool: ExamplePool) -> list[Example]:
    by_id = {example.id: example for example in pool.examples}
    if absent := [name for name in config.examples if name not in by_id]:
        raise TaskError(
            f"task {task}: prompting.examples: {absent[0]!r} is no question of {pool.dataset.folder} that the task could ask; "
            f"there are {len(by_id)}, such as {', '.join(list(by_id)[:3])}"
        )
    return [by_id[name] for name in config.examples]


def _similarity(
    config: PromptingConfig,
    task: str,
    pool: ExamplePool,
    questions: Sequence[tuple[QuestionGroup, Question]],
    dataset: ShardDataset,
    embedder: Embedder | None,
    subject_of: Callable[[Question], str],
) -> Callable[[int], Array]:
    """Number of a question → similarity_P of the examples; -inf where one has no embedding."""
    if config.embedding == "words":
        vectors = WordVectors([subject_of(example.question) for example in pool.examples])
        return lambda number: vectors.similarity(subject_of(questions[number][1]))
    if embedder is None:
        raise TaskError(f"task {task}: prompting.embedder={config.embedder} cannot be asked during training")
    encoder = embedder.open()
    if config.embedding == "text":
        text_PD = _array(encoder.texts([subject_of(example.question) for example in pool.examples]))
        text_QD = _array(encoder.texts([subject_of(question) for _, question in questions]))
        return lambda number: text_PD @ text_QD[number]
    image_PD = _image_vectors(encoder, pool.dataset, [example.key for example in pool.examples])
    image_QD = _image_vectors(encoder, dataset, [group.key for group, _ in questions])

    def by_image(number: int) -> Array:
        similarity_P = image_PD @ image_QD[number]
        return np.where(np.isnan(similarity_P), -np.inf, similarity_P)

    return by_image


def _image_vectors(encoder: Encoder, dataset: ShardDataset, keys: Sequence[str]) -> Array:
    """vector_ND by keys of samples; NaN where the image cannot be read. A sample of several images is known by its first."""
    images = encoder.images(dataset)
    embeddings_ND = _array(images.embeddings_ND)
    row_of = {item.key: row for row, item in enumerate(images.items)}
    vector_ND = np.full((len(keys), embeddings_ND.shape[1]), np.nan)
    for index, key in enumerate(keys):
        if key in row_of:
            vector_ND[index] = embeddings_ND[row_of[key]]
    return vector_ND


def _array(embeddings: Any) -> Array:
    """Unit vectors as numpy has them."""
    array_ND: Array = embeddings.double().numpy()
    return array_ND / np.maximum(np.linalg.norm(array_ND, axis=1, keepdims=True), 1e-12)
