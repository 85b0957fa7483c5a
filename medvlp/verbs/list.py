"""`medvlp list`, and the help of verbs that take `key=value`."""

from collections.abc import Sequence

from medvlp.cli import run_verb
from medvlp.config import ConfigError, describe, list_options
from medvlp.config.composition.search import read_recipe
from medvlp.config.kinds import VERBS
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
    named = [arg for arg in args if not arg.startswith("-")]
    if len(named) > 1 or any(name not in SUBJECTS for name in named):
        raise UsageError(f"medvlp list: {' '.join(named)!r} is not one of {', '.join(SUBJECTS)}")
    return named or SUBJECTS


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


def verb_help(verb: str) -> str:
    """Usage of a verb: its options, recipes, and every key with default and meaning."""
    lines = [f"usage: medvlp {verb} [recipes=<name>] [key=value ...]", ""]
    recipes = [name for name in list_options("recipes") if _verb_of(name) == verb]
    if recipes:
        lines += [f"recipes: {', '.join(sorted(recipes))}", ""]
    if verb == "train":
        groups = {
            group: ", ".join(sorted(list_options(f"configs/{group}"))) for group in ("data", "model", "objective")
        }
        lines += [f"{group}=<option>: {options}" for group, options in groups.items()]
        lines += ["", "A grid: medvlp train -m recipes=<name> optim.lr=1e-4,1e-3", ""]
    lines.append("keys:")
    for key, default, sentence in describe(VERBS[verb].config):
        lines.append(f"  {key} = {default}" + (f"\n      {' '.join(sentence.split())}" if sentence else ""))
    return "\n".join(lines)


def _verb_of(recipe: str) -> str:
    try:
        return str(read_recipe(recipe).get("verb", ""))
    except ConfigError:
        return ""  # a damaged file is said by the verb that is to use it
