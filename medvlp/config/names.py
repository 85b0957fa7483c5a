"""The one rule for names that become folders or files: a run's, a stage's, a task's, a source's."""

import re
from pathlib import Path

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_BYTES = 150
"""File systems take 255, and to a name endings and numbers are added."""


def fault_of(name: str) -> str:
    """Why a name cannot become a folder's, in words; empty if it can. Anything goes that stays where it is put."""
    if not name or name != name.strip():
        return "it is empty, or has white space at an end"
    if "/" in name or "\\" in name:
        return "a slash leads into other folders"
    if name.startswith((".", "-")):
        return f"it begins with {name[0]!r}"
    if _CONTROL.search(name):
        return "it has control characters"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it cannot be written as UTF-8"
    if size > MAX_BYTES:
        return f"it has {size} bytes, at most {MAX_BYTES} are taken"
    return "" if Path(name).name == name else "it is not the name of a file"
