"""Texts that templates join of a sample's fields, such as a caption and the sentences that refer to its figure.

    {caption}[ Mentioned as: {references}]

A name in braces is a text field, `label.<name>` or `metadata.<name>`; what stands in brackets is left out where a field in it is
empty. Nothing else happens in braces or brackets: templates are data, and values are never read again.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medvlp.errors import UserError
from medvlp.shards import Sample

GAP = re.compile(r"\{([^\W\d][\w.-]*)\}")
PART = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
LABEL, METADATA = "label.", "metadata."


class TemplateError(UserError):
    """A template that cannot be read; the message says where it stands and what is wrong with it."""


@dataclass(frozen=True)
class JoinedTemplate:
    """A template, checked.

    parts: its pieces in order, each with whether it stands in brackets.
    """

    text: str
    parts: tuple[tuple[str, bool], ...]

    @classmethod
    def read(cls, text: str, key: str) -> "JoinedTemplate":
        """From a configuration. key: where it stands. Raises TemplateError."""
        parts = tuple((match[1] or match[2] or "", match[1] is not None) for match in PART.finditer(text))
        outside = PART.sub("", text)
        if outside or any(set("{}") & set(GAP.sub("", part)) for part, _ in parts):
            raise TemplateError(
                f"{key}={text!r}: braces hold the name of a text field, label.<name> or metadata.<name>, and brackets what is "
                f"left out where a field in it is empty, not inside each other, as in '{{caption}}[ {{references}}]'"
            )
        if optional := [part for part, is_optional in parts if is_optional and not GAP.search(part)]:
            raise TemplateError(f"{key}={text!r}: [{optional[0]}] has no field in it, so it would always stand there")
        if not GAP.search(text):
            raise TemplateError(
                f"{key}={text!r} names no field, so every text would be the same; name one, as {{caption}}"
            )
        return cls(text, parts)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names in braces, each once."""
        return tuple(dict.fromkeys(GAP.findall(self.text)))

    def filled(self, value_of: Callable[[str], str]) -> tuple[str, list[str]]:
        """(text, fields that are empty); the text is empty where one of them stands outside of brackets.

        White space is as in the template and the fields, but for that at the ends.
        """
        values = {name: value_of(name) for name in self.fields}
        empty = [name for name, value in values.items() if not value]
        pieces = []
        for part, is_optional in self.parts:
            if not all(values[name] for name in GAP.findall(part)):
                if is_optional:
                    continue
                return "", empty
            # Not str.format: a name such as {caption.__class__} would reach into objects.
            pieces.append(GAP.sub(lambda match: values[match[1]], part))
        return "".join(pieces).strip(), empty


def field_text(sample: Sample, name: str) -> str:
    """A text field, `label.<name>` or `metadata.<name>` of a sample as text, without blanks at its ends; "" where it has none.

    Names of a list are joined by commas; a mapping gives the names whose value is 1 or true.
    """
    for prefix, mapping in ((LABEL, sample.labels), (METADATA, sample.metadata)):
        if name.startswith(prefix):
            return ", ".join(words_of(mapping.get(name.removeprefix(prefix))))
    return sample.texts.get(name, "").strip()


def words_of(value: Any) -> list[str]:
    """A label's or metadata's value as words: none of null and blanks."""
    if isinstance(value, Mapping):
        return [str(name).strip() for name, state in value.items() if state in (1, "1", True)]
    values = value if isinstance(value, list) else [value]
    texts = [
        str(int(item)) if isinstance(item, float) and item.is_integer() else str(item)
        for item in values
        if item is not None
    ]
    return [text.strip() for text in texts if text.strip()]


def names_in(sample: Sample) -> Iterator[str]:
    """What a template may name of a sample."""
    yield from sample.texts
    yield from (f"{LABEL}{name}" for name in sample.labels)
    yield from (f"{METADATA}{name}" for name in sample.metadata)
