"""Combinations of labels and metadata, such as {modality: CT, organ: liver}: what is held out, and what is trained on.

An item is a conversation of a sample, or the sample where it has none. Its fields are the sample's metadata, its labels, and
the conversation's metadata; a later one goes before an earlier one of its name.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from medvlp.errors import UserError
from medvlp.shards import BadSample, Manifest, Sample
from medvlp.shards.vocabulary import SPLITS

Values = Mapping[str, frozenset[str]]
"""Field → its values of an item, as texts; a list of labels has any number of them."""

MOST_NAMED = 12
"""Combinations, or fields, that a message names."""
NO_VALUE = "(none)"


class CombinationError(UserError):
    """A combination that is none, or that no sample has; the message says which there are."""


@dataclass(frozen=True)
class Combination:
    """What items have in common: each field has one of the values that are listed for it."""

    values: tuple[tuple[str, tuple[str, ...]], ...]
    """(field, values), both in the order of the configuration."""

    @property
    def name(self) -> str:
        """As ledgers, protocols and messages have it: `modality=CT, organ=liver`; of several values `modality=CT|MRI`."""
        return ", ".join(f"{field}={'|'.join(texts)}" for field, texts in self.values)

    @property
    def content(self) -> frozenset[tuple[str, frozenset[str]]]:
        """What it says in whatever order it is written."""
        return frozenset((field, frozenset(texts)) for field, texts in self.values)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields."""
        return tuple(field for field, _ in self.values)

    def matches(self, values: Values) -> bool:
        """Whether an item is of it."""
        return all(not values.get(field, frozenset()).isdisjoint(texts) for field, texts in self.values)

    def to_json(self) -> dict[str, list[str]]:
        """As configurations state it."""
        return {field: list(texts) for field, texts in self.values}


@dataclass(frozen=True)
class ItemFilter:
    """Which items are trained on: those of one of the combinations in `only`, where there are any, and of none in `exclude`."""

    only: tuple[Combination, ...] = ()
    exclude: tuple[Combination, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.only or self.exclude)

    def reason(self, values: Values) -> str:
        """What holds an item out, in words; empty where it is trained on."""
        for combination in self.exclude:
            if combination.matches(values):
                return combination.name
        if self.only and not any(combination.matches(values) for combination in self.only):
            return f"not {' or '.join(combination.name for combination in self.only)}"
        return ""

    def reduced(self, sample: Sample) -> Sample:
        """The sample with the conversations that are trained on. Raises BadSample (`held_out`) where nothing of it is."""
        reasons = [self.reason(values) for values in item_values(sample)]
        if all(reasons):
            raise BadSample("held_out", key=sample.key, detail=reasons[0])
        if not any(reasons):
            return sample
        pairs = zip(sample.conversations, reasons, strict=True)
        return replace(sample, conversations=[conversation for conversation, reason in pairs if not reason])

    @property
    def parts(self) -> tuple["ItemFilter", ...]:
        """Filters of one combination each, `only` as one; together they hold out the same."""
        only = (ItemFilter(only=self.only),) if self.only else ()
        return (*(ItemFilter(exclude=(combination,)) for combination in self.exclude), *only)

    @property
    def name(self) -> str:
        """What is held out, in words."""
        alternatives = " or ".join(combination.name for combination in self.only)
        return "; ".join(
            [*(combination.name for combination in self.exclude), *([f"not {alternatives}"] if self.only else [])]
        )

    def to_json(self) -> dict[str, list[dict[str, list[str]]]]:
        """For checkpoints and hashes."""
        return {name: [c.to_json() for c in getattr(self, name)] for name in ("only", "exclude") if getattr(self, name)}


def filter_of(content: Any, key: str) -> ItemFilter:
    """A filter from `to_json`, which others may have written. Raises CombinationError."""
    if not isinstance(content, Mapping):
        raise CombinationError(f"{key}: {content!r:.80} is no mapping of only and exclude")
    return ItemFilter(*(parse_combinations(f"{key}.{name}", content.get(name) or []) for name in ("only", "exclude")))


def prepared_without(manifest: Manifest) -> tuple[Combination, ...]:
    """Combinations that a preparation held out of this split. Raises CombinationError for a manifest that states none rightly."""
    entries = [entry for entry in manifest.stages if entry.get("stage") == "split" and entry.get("holdout_by")]
    if not entries or manifest.split not in SPLITS or entries[0].get("holdout_to") not in SPLITS:
        return ()
    is_held_out = SPLITS.index(manifest.split) < SPLITS.index(entries[0]["holdout_to"])
    return parse_combinations("holdout_by in the manifest", entries[0]["holdout_by"]) if is_held_out else ()


def parse_combinations(key: str, entries: Any) -> tuple[Combination, ...]:
    """Combinations of a configuration: `[{modality: CT, organ: [liver, spleen]}, {site: 3}]`.

    Raises:
        CombinationError: an entry that is empty or stands there twice, or has a value that is no text, number or boolean.
    """
    example = "[{modality: CT, organ: [liver, spleen]}]"
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise CombinationError(f"{key}={entries!r:.80} is no list of combinations, such as {example}")
    combinations: list[Combination] = []
    for entry in entries:
        values = []
        for field, value in entry.items():
            texts = [_text(member) for member in (value if isinstance(value, list | tuple) else [value])]
            if not texts or None in texts or not str(field).strip():
                raise CombinationError(f"{key}: {field}={value!r} is no value and no list of values, as in {example}")
            values.append((str(field), tuple(dict.fromkeys(text for text in texts if text is not None))))
        combination = Combination(tuple(values))
        if not values or combination.content in [earlier.content for earlier in combinations]:
            fault = f"{combination.name} stands there twice" if values else "an empty combination is of everything"
            raise CombinationError(f"{key}: {fault}; give fields and values, as in {example}")
        combinations.append(combination)
    return tuple(combinations)


def item_values(sample: Sample) -> list[Values]:
    """The values of each of a sample's items: of its conversations in their order, or of itself."""
    of_items = [conversation.metadata for conversation in sample.conversations] or [{}]
    return [values_of(sample.metadata, sample.labels, metadata) for metadata in of_items]


def values_of(*mappings: Mapping[str, Any]) -> Values:
    """Field → values of mappings, a later one's before an earlier one's.

    Texts, numbers and booleans are values. A list has its values, a mapping of labels the names whose state is 1 or true.
    """
    fields = {name: value for mapping in mappings for name, value in mapping.items()}
    return {name: frozenset(texts) for name, value in fields.items() if (texts := list(_texts(value)))}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [name for name, state in value.items() if _text(state) in ("1", "true")]
    for member in value if isinstance(value, list | tuple) else [value]:
        if (text := _text(member)) is not None:
            yield text


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value) if value.is_integer() else value) if math.isfinite(value) else None
    return str(value).strip() or None if isinstance(value, str | int) else None


class Occurrences:
    """How often combinations occur in data, and what there is instead.

    counts: combination → items. fields: of the items. tuples: for the fields of each
    combination, the tuples of values that items have.
    """

    def __init__(self, combinations: Iterable[Combination]) -> None:
        self.combinations = tuple(combinations)
        self.counts: Counter[Combination] = Counter()
        self.fields: dict[str, None] = {}
        self.tuples: dict[tuple[str, ...], Counter[tuple[str, ...]]] = {c.fields: Counter() for c in self.combinations}

    def add(self, values: Values) -> None:
        """Count an item."""
        self.fields.update(dict.fromkeys(values))
        self.counts.update(combination for combination in self.combinations if combination.matches(values))
        for fields, counter in self.tuples.items():
            counter[tuple("|".join(sorted(values.get(field, ()))) or NO_VALUE for field in fields)] += 1

    def check(self, key: str, data: str) -> None:
        """That each combination occurs.

        Raises:
            CombinationError: names the combinations of the same fields that occur, or the fields.
        """
        for combination in self.combinations:
            if self.counts[combination]:
                continue
            for field in combination.fields:
                if field not in self.fields:
                    raise CombinationError(
                        f"{key}: {combination.name}: no sample of {data} has a label or metadata {field!r}"
                        f"{_near(field, self.fields)} Fields there: {_listed(sorted(self.fields))}"
                    )
            counter = self.tuples[combination.fields]
            names = {
                ", ".join(f"{field}={value}" for field, value in zip(combination.fields, values, strict=True)): count
                for values, count in counter.most_common()
            }
            raise CombinationError(
                f"{key}: no sample of {data} is of {combination.name}{_near(combination.name, names)} Combinations there: "
                + _listed([f"{name} ({count})" for name, count in names.items()], "; ")
            )


def _near(name: str, names: Iterable[str]) -> str:
    folded = {choice.casefold(): choice for choice in names}
    close = get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else "."


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    remainder = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return separator.join(names[:MOST_NAMED]) + remainder or "none"
