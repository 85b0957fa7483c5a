"""Conditions on the tables of splits, such as `width >= 224` or `top 30% by similarity`: which samples are trained on."""

from medvlp.selection.selected import Conditions, Selected, select
from medvlp.selection.syntax import ConditionError, parse_condition

__all__ = ["ConditionError", "Conditions", "Selected", "parse_condition", "select"]
