"""Questions asked by a prompting protocol: the examples are chosen, the responses collected, and gaps counted by reason."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medvlp.eval.prompting.protocol import Prompting
from medvlp.eval.vqa.controls import respond, shown_images
from medvlp.eval.vqa.questions import Question, QuestionGroup
from medvlp.eval.vqa.responses import Response, taken


@dataclass(frozen=True)
class Answers:
    """Responses to questions.

    answered: groups of those that have one. not_taken: id of a question that the model's server did not take → reason. bad: key
    of a sample that cannot be read → reason.
    """

    answered: list[tuple[QuestionGroup, list[Response]]]
    not_taken: dict[str, str]
    bad: dict[str, str]

    @property
    def groups(self) -> list[QuestionGroup]:
        """With their questions."""
        return [group for group, _ in self.answered]

    @property
    def responses(self) -> list[Response]:
        """One a question, in the order of the groups."""
        return [response for _, row in self.answered for response in row]

    @property
    def excluded(self) -> Counter[str]:
        """Reason → questions that were not taken."""
        return Counter(self.not_taken.values())


def ask(
    task: Any,
    prompting: Prompting,
    model: Any,
    groups: Sequence[QuestionGroup],
    max_new_tokens: int,
    subject_of: Callable[[Question], str],
) -> Answers:
    """Ask a task's questions. Where torch.distributed runs, every rank asks its share and gets the whole result.

    model: as `prompting.prompted` gives it. subject_of: the text of a question that examples are compared with.

    Raises:
        TaskError: no example can be shown.
    """
    groups = prompting.with_examples(task.name, model, task.dataset, groups, max_new_tokens, subject_of)
    rows = respond(model, task.dataset, groups, shown_images(groups), task.batch_size, max_new_tokens)
    bad = {groups[i].key: reason for i, reason in enumerate(rows) if isinstance(reason, str)}
    answered, not_taken = taken(
        (group, row) for group, row in zip(groups, rows, strict=True) if not isinstance(row, str)
    )
    return Answers(answered, not_taken, bad)
