"""What tasks share whose answers are texts that a prompting protocol asks for."""

from collections.abc import Mapping
from typing import Any

from medvlp.eval.prompting.protocol import Prompting


class PromptedTask:
    """A task of one response a question. prompt_sets: the same task in other words, by name."""

    prompting: Prompting
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
