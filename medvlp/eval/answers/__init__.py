"""Answers in responses: what a model's reply to a question comes to, by which rule, and where in the text it stands."""

from medvlp.eval.answers.choice import extract_choice
from medvlp.eval.answers.extraction import Extraction
from medvlp.eval.answers.numbers import extract_number
from medvlp.eval.answers.sets import extract_set
from medvlp.eval.answers.texts import extract_text
from medvlp.eval.answers.yes_no import extract_yes_no

__all__ = ["Extraction", "extract_choice", "extract_number", "extract_set", "extract_text", "extract_yes_no"]
