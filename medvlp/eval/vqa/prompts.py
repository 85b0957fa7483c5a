"""Prompts of multiple choice: each scorer asks in the words that its protocol uses."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvlp.config.evaluation.choice import CHOICE_PROMPTS, OPTION_LINE, SCORERS
from medvlp.shards.vocabulary import IMAGE_TOKEN

LETTER, TEXT, GENERATED, SIMILAR = SCORERS
DEFAULT_SCORERS = (LETTER, TEXT, GENERATED)
_LEADING_IMAGES = re.compile(rf"(?:{re.escape(IMAGE_TOKEN)}\s*)*")


@dataclass(frozen=True)
class ChoicePrompts:
    """How questions of multiple choice are put.

    scorers: of `SCORERS`. prompts: scorer → its words, with {question}, {options} (a line each, as in `option_line`),
    {candidates} (the options' texts alone) and {instruction}. Scorers that have none of their own take `CHOICE_PROMPTS`.
    """

    scorers: tuple[str, ...] = DEFAULT_SCORERS
    prompts: Mapping[str, str] = field(default_factory=dict)
    option_line: str = OPTION_LINE

    @property
    def generating(self) -> bool:
        """Whether a scorer reads a text that the model writes."""
        return GENERATED in self.scorers or SIMILAR in self.scorers

    def texts(self, question: str, options: Mapping[str, str], instruction: str) -> dict[str, str]:
        """Scorer → the user's turn. Images that the question begins with stay in front; an empty instruction takes its line.

        question: with its placeholders of images."""
        images = _LEADING_IMAGES.match(question)
        start = images.end() if images else 0
        lines = [self.option_line.replace("{letter}", name).replace("{text}", text) for name, text in options.items()]
        values = {
            "question": question[start:],
            "options": "\n".join(lines),
            "candidates": "; ".join(options.values()),
            "instruction": instruction,
        }
        return {scorer: question[:start] + self._filled(scorer, values) for scorer in self.scorers}

    def _filled(self, scorer: str, values: Mapping[str, str]) -> str:
        prompt = self.prompts.get(scorer) or CHOICE_PROMPTS[scorer]
        if not values["instruction"]:
            prompt = re.sub(r"\n?\{instruction\}", "", prompt)
        return re.sub(r"\{(question|options|candidates|instruction)\}", lambda match: values[match[1]], prompt)


def choice_protocol(choice: ChoicePrompts, questions: Sequence[Any]) -> dict[str, Any]:
    """What a protocol says of multiple choice: each scorer's prompt of the first such question, and how many questions have
    several right options, which likelihoods do not score."""
    with_options = [question for question in questions if question.options]
    if not with_options:
        return {}
    prompts = {scorer: turns[-1].text for scorer, turns in with_options[0].prompts.items()}
    count = sum(len(question.letters) > 1 for question in with_options)
    note = {"several_right": f"{count} questions; likelihoods, which pick one option, are of the others"}
    return {"choice_prompts": prompts, **(note if count else {})}
