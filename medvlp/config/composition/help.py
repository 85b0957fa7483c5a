"""What `--help` prints: every key of a schema with its default and its own sentence, read from the source."""

import ast
import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from omegaconf import MISSING

from medvlp.config.kinds import KINDS


def describe(schema: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, sentence) for every field of a dataclass, nested ones flattened with dots."""
    sentences = _sentences(schema)
    for item in dataclasses.fields(schema):
        key = prefix + item.name
        if item.name in KINDS and not prefix:
            first: dict[str, tuple[str, str, str]] = {}  # kinds may have keys in common
            for option in KINDS[item.name].values():
                for row in describe(option, key + "."):
                    first.setdefault(row[0], row)
            yield from first.values()
        elif dataclasses.is_dataclass(item.type):
            yield from describe(item.type, key + ".")  # type: ignore[arg-type]
        else:
            yield key, _default(item), sentences.get(item.name, "")


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
