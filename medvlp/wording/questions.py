"""The words in which questions are put to a model: one place for tasks that ask, and for training in a task's words."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvlp.shards.vocabulary import IMAGE_TOKEN

SCORERS = LETTER, TEXT, GENERATED, SIMILAR = ("letter_likelihood", "text_likelihood", "generated", "most_similar")
"""How multiple choice is scored."""
DEFAULT_SCORERS = (LETTER, TEXT, GENERATED)
ANSWERED = (GENERATED, SIMILAR, LETTER, TEXT)
"""Scorers in the order in which one gives the words of a question that is answered in writing."""
CHOICE_PROMPTS = {
    LETTER: "{question}\n{options}\n{instruction}",
    TEXT: "{question}",
    GENERATED: "{question}\n{options}\n{instruction}",
}
"""Scorer → its prompt where a task file gives none. `most_similar` has none: its protocol asks for the text of an option."""
OPTION_LINE = "{letter}. {text}"
_LEADING_IMAGES = re.compile(rf"(?:{re.escape(IMAGE_TOKEN)}\s*)*")


def with_instruction(question: str, instruction: str) -> str:
    """A question without options: the instruction stands behind it, on a line of its own."""
    return "\n".join(filter(None, [question, instruction]))


def stated_options(metadata: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """(letter → text, the right letters) of a question; no letters where its metadata lack options or a right one."""
    content = metadata.get("options")
    options = {str(name): str(text) for name, text in content.items()} if isinstance(content, Mapping) else {}
    stated_letters = metadata.get("answer_letters") or [metadata.get("answer_letter") or ""]
    letters = tuple(name for name in options if name in [str(letter) for letter in stated_letters])
    is_whole = len(letters) == len(set(stated_letters)) and len(options) > 1 and all(map(str.strip, options.values()))
    return options, letters if is_whole else ()


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
    def answered(self) -> str:
        """The scorer in whose words a question is answered in writing."""
        return next(scorer for scorer in ANSWERED if scorer in self.scorers)

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


@dataclass(frozen=True)
class QuestionWording:
    """All words of a task around its questions: what a model is asked, and what a right answer is in writing."""

    instruction: str = ""
    choice: ChoicePrompts = field(default_factory=ChoicePrompts)

    def question(self, question: str, options: Mapping[str, str]) -> str:
        """The user's turn. question: with its placeholders of images. options: letter → text; empty where there are none."""
        if not options:
            return with_instruction(question, self.instruction)
        return self.choice.texts(question, options, self.instruction)[self.choice.answered]

    def answer(self, options: Mapping[str, str], letters: Sequence[str]) -> str:
        """The right options as the task wants them: letters, or texts where its prompt asks for a text."""
        is_text = self.choice.answered in (SIMILAR, TEXT)
        return ", ".join(options[letter] if is_text else letter for letter in letters)
