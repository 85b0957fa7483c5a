"""Fields of an item: the labels and metadata by which subgroups can be formed from records alone."""

import math
from collections.abc import Mapping
from typing import Any

MAX_CHARACTERS = 200
"""Longer texts are no name of a subgroup, and would make records heavy."""

Field = str | int | float | bool


def fields_of(*mappings: Mapping[str, Any]) -> dict[str, Field]:
    """The scalar values of labels and metadata, a later mapping's before an earlier one's, by name.

    Lists, mappings, null, empty texts, NaN, and texts of more than `MAX_CHARACTERS` are no fields. Neither are `group` and
    `group_kind`, which a record has by themselves.
    """
    values = {name: value for mapping in mappings for name, value in mapping.items() if _is_field(value)}
    return {name: values[name] for name in sorted(values) if name not in ("group", "group_kind")}


def _is_field(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip()) and len(value) <= MAX_CHARACTERS
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
