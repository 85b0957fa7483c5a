"""Options of retrieval: images and texts by each other, texts by texts, images by an image with a text."""

from dataclasses import dataclass, field

from medvlp.config.evaluation.task import TaskConfig
from medvlp.config.rules import ConfigError


@dataclass(kw_only=True)
class RetrievalConfig(TaskConfig):
    """Retrieval between images and their texts, both ways."""

    kind: str = "retrieval"
    text: str = "caption"
    """The text field."""
    recall_at: list[int] = field(default_factory=lambda: [1, 5, 10])
    """Ranks k of recall@k."""

    def check(self) -> None:
        """Ranks begin at 1. Raises ConfigError."""
        super().check()
        check_ranks_from_1(self.name, "recall_at", self.recall_at)


@dataclass(kw_only=True)
class GradedRetrievalConfig(TaskConfig):
    """What text retrieval and composed retrieval have in common: queries with graded relevant items."""

    recall_at: list[int] = field(default_factory=lambda: [1, 5, 10])
    """Ranks k of recall@k (share of the relevant items among the k best) and hit@k (any of them)."""
    ndcg_at: list[int] = field(default_factory=lambda: [10])
    """Ranks k of ndcg@k."""
    relevant_from: float = 1.0
    """Grade from which an item is relevant, for recall and hits; nDCG takes the grades as they are."""
    query: str = "query"
    """The text field of a query's words."""
    label: str = ""
    """Instead of grades that the data state: every sample is a query and a candidate, and a grade is how far the lists of this
    label overlap (Jaccard, 0 to 1)."""

    def check(self) -> None:
        """Ranks begin at 1, and what is relevant has a grade. Raises ConfigError."""
        super().check()
        check_ranks_from_1(self.name, "recall_at", self.recall_at)
        check_ranks_from_1(self.name, "ndcg_at", self.ndcg_at)
        if not self.relevant_from > 0:
            raise ConfigError(f"task {self.name}: relevant_from={self.relevant_from}, expected a grade above 0")
        if self.label and self.relevant_from > 1:
            raise ConfigError(
                f"task {self.name}: relevant_from={self.relevant_from}, expected at most 1: grades of a label are shares"
            )
        if not self.query:
            raise ConfigError(f"task {self.name}: query is empty; name the text field of queries")


@dataclass(kw_only=True)
class TextRetrievalConfig(GradedRetrievalConfig):
    """Text retrieval: texts by texts, with graded relevance."""

    kind: str = "text_retrieval"
    document: str = "document"
    """The text field of what is looked for."""

    def check(self) -> None:
        """A field of texts to look for. Raises ConfigError."""
        super().check()
        if not self.document:
            raise ConfigError(f"task {self.name}: document is empty; name the text field of what is looked for")


@dataclass(kw_only=True)
class ComposedRetrievalConfig(GradedRetrievalConfig):
    """Composed retrieval: images by an image (or several) and a text that says what is to be other."""

    kind: str = "composed_retrieval"
    text_weight: float = 0.5
    """Of the query's text in its embedding, (1 - w) · image + w · text, both of unit length."""
    change: str = ""
    """With label: the label (one class) that a query asks to be another: its words are change_template with the other class."""
    change_template: str = "{}"
    """Words of such a query, with {} for the class."""

    def check(self) -> None:
        """A weight that is a share, and both labels or none. Raises ConfigError."""
        super().check()
        if not 0 <= self.text_weight <= 1:
            raise ConfigError(f"task {self.name}: text_weight={self.text_weight}, expected a share between 0 and 1")
        if bool(self.label) != bool(self.change):
            raise ConfigError(
                f"task {self.name}: label says what stays and change what becomes other: give both, or neither"
            )
        if "{}" not in self.change_template:
            raise ConfigError(f"task {self.name}: change_template={self.change_template!r} needs {{}} for the class")


def check_ranks_from_1(task: str, key: str, ranks: list[int]) -> None:
    """Ranks are whole numbers from 1. Raises ConfigError."""
    if not ranks or min(ranks) < 1:
        raise ConfigError(f"task {task}: {key}={ranks}, expected ranks of 1 or more")
