"""Questions of multiple choice with their options in another order, or with none of the above in the right one's place."""

import re
from dataclasses import replace

from medvlp.eval.reliability.errors import NotVaried
from medvlp.eval.vqa.questions import Question

TEXT_OF_NONE = "None of the above"
_CROSS_REFERENCE = re.compile(
    r"\b(?:none|all|both|neither|any|either)\s+(?:of\b|above\b|are\b|answers?\b|options?\b|choices?\b|statements?\b)"
    r"|^\W*(?:none|all|both|neither|nothing)\W*$|\b(?:cannot|can't|can not)\s+be\s+(?:determined|said|told)\b|\bthe above\b"
    r"|\b(?:ningun[oa]|tod[oa]s|ambas?|nenhum[a]?|aucune?|toutes|tous|keine|alle|nessun[ao]|tutt[ei])\b.*"
    r"\b(?:anterior(?:es)?|précédent\w*|ci-dessus|genannten|obigen|precedenti)\b"
    r"|以上|上述|上記|いずれも|全部|都(?:不)?(?:是|对|對)|皆(?:是|非)|모두|위의|해당\s*없음|없다\s*$",
    re.IGNORECASE,
)
"""Options that speak of the others, in the languages of the exams that have a mapping."""


def rotated(question: Question, shift: int) -> Question:
    """The question with every option's text moved on by so many labels; the labels stay where they are.

    Raises:
        NotVaried: an option names others by their labels ("Both A and B"), which would name other texts then.
    """
    if any(_names_labels(question, text) for text in question.options.values()):
        raise NotVaried("an option names others by their labels")
    labels, texts = list(question.options), list(question.options.values())
    options = {label: texts[(position - shift) % len(texts)] for position, label in enumerate(labels)}
    right = {(labels.index(letter) + shift) % len(labels) for letter in question.letters}
    letters = tuple(label for position, label in enumerate(labels) if position in right)
    return replace(question, options=options, letters=letters)


def none_of_the_above(question: Question) -> Question:
    """The question whose right option is "None of the above" (Med-HALT; Pal 2023).

    Raises:
        NotVaried: several options are right, one speaks of the others, or the question is not in English.
    """
    if not question.options:
        raise NotVaried("not of multiple choice")
    if len(question.letters) != 1:
        raise NotVaried("several options are right")
    if question.language and question.language.lower()[:2] != "en":
        raise NotVaried("not in English")
    if any(_CROSS_REFERENCE.search(text) or _names_labels(question, text) for text in question.options.values()):
        raise NotVaried("an option speaks of the others")
    options = {**question.options, question.letters[0]: TEXT_OF_NONE}
    return replace(question, options=options, target=TEXT_OF_NONE, answers=(TEXT_OF_NONE,))


def _names_labels(question: Question, text: str) -> bool:
    """Whether an option is a list of labels: "A and C", "Both (B) and (C)", "A, B", "only A"."""
    label = rf"\(?(?:{'|'.join(map(re.escape, question.options))})\)?"
    between = r"\s*(?:,|;|/|&|\+|and|or|nor|und|et|y|e|和|与|、|및)+\s*"
    label_list = (
        rf"(?:(?:both|either|neither|only|options?|answers?)\s+)*{label}(?:{between}{label})+(?:\s+(?:only|are\s+\w+))?"
    )
    single = rf"(?:(?:only|option|answer)\s+){label}|{label}\s+only"
    return re.fullmatch(rf"\W*(?:{label_list}|{single})\W*", text.strip(), re.IGNORECASE) is not None
