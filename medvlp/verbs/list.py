"""`medvlp list`: recipes, tasks, sources, mappings, models and data, a line each."""

from collections.abc import Sequence

from medvlp.cli import run_verb
from medvlp.config import list_options
from medvlp.errors import UsageError

SUBJECTS = ["recipes", "tasks", "sources", "mappings", "models", "data"]
KINDS = {
    **{"recipes": "recipes", "tasks": "configs/task", "mappings": "configs/mappings"},
    **{"data": "configs/data", "models": "configs/model"},
}


def entries(kind: str) -> dict[str, str]:
    """Name → one line, for recipes, tasks, sources, mappings, data or models."""
    if kind == "sources":
        from data_prep.sources import descriptions

        return descriptions()
    return list_options(KINDS[kind])


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp list`; returns the exit code."""
    return run_verb("list", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return f"usage: medvlp list [{'|'.join(SUBJECTS)}]\n       medvlp list tasks <task or group> [...]"


def parse(args: list[str]) -> tuple[list[str], list[str]]:
    """What to list: one subject, or all of them; and the tasks or groups of which all is to be said. Raises UsageError."""
    subjects = [arg for arg in args if not arg.startswith("-")]
    names = subjects[1:] if subjects[:1] == ["tasks"] else []
    subjects = subjects[:1] if names else subjects
    if len(subjects) > 1 or any(name not in SUBJECTS for name in subjects):
        raise UsageError(f"medvlp list: {' '.join(subjects)!r} is not one of {', '.join(SUBJECTS)}")
    return subjects or SUBJECTS, names


def work(parsed: tuple[list[str], list[str]]) -> int:
    """Print a line for each entry of each subject; of tasks alone, by group and with their data."""
    subjects, names = parsed
    is_single = len(subjects) == 1
    if subjects == ["tasks"]:
        from medvlp.verbs.task_list import detail_lines, group_lines

        print("\n".join(detail_lines(names) if names else group_lines()))
        return 0
    for subject in subjects:
        rows = entries(subject)
        width = max(map(len, rows), default=0)
        if not is_single:
            print(f"{subject}:")
        for name, text in sorted(rows.items()):
            print(f"{'' if is_single else '  '}{name:<{width}}  {text}".rstrip())
    return 0
