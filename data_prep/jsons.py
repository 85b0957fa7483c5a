"""JSON as preparations write it."""

from __future__ import annotations

import json
from typing import Any


def encode_json(content: Any, indent: int | None = None, sort: bool = False) -> bytes:
    """JSON in UTF-8, by default on one line.

    File names that are not UTF-8 come as lone surrogates, which JSON's escapes can hold.
    """
    return json.dumps(content, ensure_ascii=False, indent=indent, sort_keys=sort).encode("utf-8", "backslashreplace")
