"""The help of verbs that take `key=value`: every key with its default and its own sentence, read from the source."""

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from omegaconf import MISSING

from medvlp.config.composition.search import list_options, read_recipe
from medvlp.config.kinds import KINDS, OPEN_MAPPINGS, VERBS
from medvlp.config.rules import ConfigError


def verb_help(verb: str) -> str:
    """Usage of a verb: its options, recipes, and every key with default and meaning."""
    lines = [f"usage: medvlp {verb} [recipes=<name>] [key=value ...]", ""]
    recipes = [name for name in list_options("recipes") if _recipe_verb(name) == verb]
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


def describe(schema: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, sentence) for every field of a dataclass, nested ones flattened with dots."""
    sentences = _sentences(schema)
    for item in dataclasses.fields(schema):
        key = prefix + item.name
        if item.name in KINDS and not prefix:
            yield from _describe_kinds(item.name)
        elif dataclasses.is_dataclass(item.type):
            yield from describe(item.type, key + ".")  # type: ignore[arg-type]
        else:
            yield key, _default(item), sentences.get(item.name, "")
            if (values := OPEN_MAPPINGS.get(f"{key}.")) is not None:
                yield from describe(values, f"{key}.<name>.")


def _describe_kinds(group: str) -> Iterator[tuple[str, str, str]]:
    """The keys of a group's options. Where kinds have a key in common and mean different things by it, each says its own."""
    rows: dict[str, dict[str, tuple[str, str]]] = {}
    for kind, schema in KINDS[group].items():
        for key, default, sentence in describe(schema, f"{group}."):
            rows.setdefault(key, {})[kind] = (default, sentence)
    for key, by_kind in rows.items():
        if len({sentence for _, sentence in by_kind.values()}) == 1:
            yield key, *next(iter(by_kind.values()))
        else:
            defaults = " or ".join(dict.fromkeys(default for default, _ in by_kind.values()))
            yield key, defaults, " ".join(f"{kind}: {sentence}" for kind, (_, sentence) in by_kind.items())


def _default(item: "dataclasses.Field[Any]") -> str:
    if item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
        return str(value) if value else ("[]" if isinstance(value, list) else "{}")
    if item.default == MISSING or item.default is dataclasses.MISSING:
        return "(required)"
    return "null" if item.default is None else str(item.default) or '""'


def _sentences(schema: type) -> dict[str, str]:
    sentences: dict[str, str] = {}
    for ancestor in reversed(schema.__mro__[:-1]):
        body = ast.parse(inspect.cleandoc(inspect.getsource(ancestor))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, sentence in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(sentence, ast.Expr)
            ):
                assert isinstance(sentence.value, ast.Constant)
                sentences[statement.target.id] = str(sentence.value.value)
    return sentences


def _recipe_verb(recipe: str) -> str:
    try:
        return str(read_recipe(recipe).get("verb", ""))
    except ConfigError:
        return ""  # a damaged file is said by the verb that is to use it
