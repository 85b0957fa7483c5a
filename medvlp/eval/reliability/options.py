"""Questions of multiple choice with their options in another order, or with none of the above in the right one's place."""

import re
from dataclasses import replace

from medvlp.eval.reliability.errors import NotVaried
from medvlp.eval.vqa.questions import Question

TEXT_OF_NONE = "None of the above"
_CROSS_REFERENCE = re.compile(r"\b(?:none|all|both|neither|any)\s+of\b|\bcannot be determined\b", re.IGNORECASE)
"""Options that speak of the others."""


def rotated(question: Question, shift: int) -> Question:
    """The question with every option's text moved on by so many labels; the labels stay where they are."""
    labels, texts = list(question.options), list(question.options.values())
    options = {label: texts[(position - shift) % len(texts)] for position, label in enumerate(labels)}
    right = {(labels.index(letter) + shift) % len(labels) for letter in question.letters}
    letters = tuple(label for position, label in enumerate(labels) if position in right)
    return replace(question, options=options, letters=letters)


def none_of_the_above(question: Question) -> Question:
    """The question whose right option is "None of the above" (Med-HALT; Pal 2023).

    Raises:
        NotVaried: several options are right, or one speaks of the others.
    """
    if not question.options:
        raise NotVaried("not of multiple choice")
    if len(question.letters) != 1:
        raise NotVaried("several options are right")
    if any(map(_CROSS_REFERENCE.search, question.options.values())):
        raise NotVaried("an option speaks of the others")
    options = {**question.options, question.letters[0]: TEXT_OF_NONE}
    return replace(question, options=options, target=TEXT_OF_NONE, answers=(TEXT_OF_NONE,))
