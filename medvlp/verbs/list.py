"""`medvlp list`: recipes, tasks, sources, models and data, a line each."""

from collections.abc import Sequence

from medvlp.cli import run_verb
from medvlp.config import list_options
from medvlp.errors import UsageError

SUBJECTS = ["recipes", "tasks", "sources", "models", "data"]
KINDS = {"recipes": "recipes", "tasks": "configs/task", "data": "configs/data", "models": "configs/model"}


def entries(kind: str) -> dict[str, str]:
    """Name → one line, for recipes, tasks, sources, data or models."""
    if kind == "sources":
        from data_prep.sources import descriptions

        return descriptions()
    return list_options(KINDS[kind])


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp list`; returns the exit code."""
    return run_verb("list", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return f"usage: medvlp list [{'|'.join(SUBJECTS)}]"


def parse(args: list[str]) -> list[str]:
    """What to list: one subject, or all of them. Raises UsageError."""
    subjects = [arg for arg in args if not arg.startswith("-")]
    if len(subjects) > 1 or any(name not in SUBJECTS for name in subjects):
        raise UsageError(f"medvlp list: {' '.join(subjects)!r} is not one of {', '.join(SUBJECTS)}")
    return subjects or SUBJECTS


def work(subjects: list[str]) -> int:
    """Print a line for each entry of each subject."""
    is_single = len(subjects) == 1
    for subject in subjects:
        rows = entries(subject)
        width = max(map(len, rows), default=0)
        if not is_single:
            print(f"{subject}:")
        for name, text in sorted(rows.items()):
            print(f"{'' if is_single else '  '}{name:<{width}}  {text}".rstrip())
    return 0
