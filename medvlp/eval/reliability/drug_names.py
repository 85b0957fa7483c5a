"""Drugs by their other name: brand names for generic ones, and back (RABBITS; Gallifant et al. 2024)."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from medvlp.eval.reliability.errors import NotVaried
from medvlp.eval.vqa.questions import Question
from medvlp.shards import Turn

TABLE = Path(__file__).with_name("drug_names.tsv")


@dataclass(frozen=True)
class DrugNames:
    """Names to replace, in lower case → those that take their place."""

    names: Mapping[str, str]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Whole words, the longest name first; not a part of a compound ("amoxicillin-clavulanate", "a/b")."""
        by_length = sorted(self.names, key=lambda name: (-len(name), name))
        return re.compile(rf"(?<![\w/-])(?:{'|'.join(map(re.escape, by_length))})(?![\w/-])", re.IGNORECASE)

    def replace_in(self, text: str) -> str:
        """The text with every name replaced, each in the case of the old one."""
        return self.pattern.sub(lambda match: _cased(self.names[match[0].lower()], match[0]), text)

    def mentions(self, text: str) -> list[str]:
        """The names in a text, in lower case."""
        return [match[0].lower() for match in self.pattern.finditer(text)]

    def put(self, question: Question) -> Question:
        """The question and its options with every name replaced. Of free text both names are right.

        Raises:
            NotVaried: neither names a drug of the list; two options would be equal; the right items of a set are drugs.
        """
        options = {letter: self.replace_in(text) for letter, text in question.options.items()}
        stem = tuple(Turn(turn.role, self.replace_in(turn.text)) for turn in question.stem)
        if stem == question.stem and options == question.options:
            raise NotVaried("no drug of the list is named")
        if len({text.casefold() for text in options.values()}) < len(options):
            raise NotVaried("two options would be equal")
        if any(map(self.mentions, question.items)):
            raise NotVaried("the right items are drugs")
        target = self.replace_in(question.target)
        answers = tuple(dict.fromkeys([target, *map(self.replace_in, question.answers), *question.answers]))
        text = self.replace_in(question.text)
        return replace(question, stem=stem, text=text, options=options, target=target, answers=answers)

    def counts(self, questions: list[Question]) -> Counter[str]:
        """Name → the questions that hold it, options included."""
        texts = ("\n".join([*(turn.text for turn in q.stem), *q.options.values()]) for q in questions)
        return Counter(name for text in texts for name in sorted(set(self.mentions(text))))


def _cased(name: str, model: str) -> str:
    """A name in the case of another: all capitals, a capital in front, or none."""
    if len(model) > 1 and model.isupper():
        return name.upper()
    return name[0].upper() + name[1:] if model[0].isupper() else name.lower()


@cache
def drug_names() -> tuple[DrugNames, DrugNames]:
    """(generic name → brand name, brand names → generic name), of the table next to this file."""
    rows = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pairs = [(generic, brands.split(", ")) for generic, brands in rows[1:]]
    brand_of = {generic.lower(): brands[0] for generic, brands in pairs}
    return DrugNames(brand_of), DrugNames({brand.lower(): generic for generic, brands in pairs for brand in brands})


@cache
def table_digest() -> str:
    """sha256 of the table's file, for protocols."""
    return hashlib.sha256(TABLE.read_bytes()).hexdigest()
