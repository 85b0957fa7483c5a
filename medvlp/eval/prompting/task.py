"""What tasks share whose answers are texts that a prompting protocol asks for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch

from medvlp.eval.embeddings import ImageEmbeddings
from medvlp.eval.exclusions import exclusion_lines
from medvlp.eval.items import Item
from medvlp.eval.models.answering import WITHHELD, AnsweringModel
from medvlp.eval.prompting.protocol import Prompting
from medvlp.eval.task import Task, task_protocol
from medvlp.eval.vqa.questions import QuestionGroup
from medvlp.eval.vqa.responses import first_prompt


class PromptedTask:
    """A task of one response a question. prompt_sets: the same task in other words, by name."""

    prompting: Prompting
    limit: int
    prompt_sets: Mapping[str, Any] = {}

    @classmethod
    def needs(cls, config: Any) -> tuple[str, ...]:
        """Texts."""
        return ("generate",)

    @classmethod
    def uses(cls, config: Any) -> dict[str, tuple[str, ...]]:
        """Nothing else."""
        return {}

    @property
    def prompting_identity(self) -> dict[str, Any]:
        """What decides examples next to the task's keys, by prompt set where there are some."""
        by_name = {name: of_set.prompting.identity for name, of_set in self.prompt_sets.items()}
        return by_name if any(by_name.values()) else self.prompting.identity

    def common_protocol(
        self,
        model: AnsweringModel,
        groups: Sequence[QuestionGroup],
        excluded: Mapping[str, int],
        bad: Mapping[str, str],
        noun: str,
        in_words: Callable[[str], str],
        max_new_tokens: int,
    ) -> dict[str, Any]:
        """What the protocols of these tasks have in common: data, what was left out and why, and how the model was asked.

        noun: what is counted. in_words: a reason for people.
        """
        items = [
            Item(group.key, group.cluster, {}, {}, group.cluster_kind) for group in groups for _ in group.questions
        ]
        images = ImageEmbeddings([], torch.empty(0), dict(bad))
        reasons = {in_words(reason): count for reason, count in excluded.items()}
        return task_protocol(cast(Task, self), model, images, items, excluded) | {
            "exclusions": exclusion_lines(reasons, images.bad_counts(), noun, len(items)),
            "limit": self.limit or None,
            "first_prompt": first_prompt(model, groups[0]),
            "decoding": f"{self.prompting.decoding}, at most {max_new_tokens} tokens",
            **self.prompting.protocol([question for group in groups for question in group.questions]),
            "penalties": "none",
            **({"images": WITHHELD} if any(group.withheld for group in groups) else {}),
            **model.metadata(),
        }
