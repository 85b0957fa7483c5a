"""`medvlp list`, and the help of verbs that take `key=value`."""

import sys
from collections.abc import Sequence

from medvlp.config import ConfigError, describe, list_options
from medvlp.config.composition.search import read_recipe
from medvlp.config.kinds import VERBS

KINDS = {"recipes": "recipes", "tasks": "configs/task", "data": "configs/data", "models": "configs/model"}


def entries(kind: str) -> dict[str, str]:
    """Name → one line, for recipes, tasks, sources, data or models."""
    if kind == "sources":
        from data_prep.sources import descriptions

        return descriptions()
    return list_options(KINDS[kind])


def main(argv: Sequence[str]) -> int:
    """`medvlp list [kind]`."""
    kinds = ["recipes", "tasks", "sources", "models", "data"]
    chosen = [word for word in argv if not word.startswith("-")]
    if "--help" in argv or "-h" in argv:
        print(f"usage: medvlp list [{'|'.join(kinds)}]")
        return 0
    if len(chosen) > 1 or any(word not in kinds for word in chosen):
        print(f"medvlp list: {' '.join(chosen)!r} is not one of {', '.join(kinds)}", file=sys.stderr)
        return 2
    for kind in chosen or kinds:
        rows = entries(kind)
        width = max(map(len, rows), default=0)
        if not chosen:
            print(f"{kind}:")
        for name, text in sorted(rows.items()):
            print(f"{'' if chosen else '  '}{name:<{width}}  {text}".rstrip())
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
