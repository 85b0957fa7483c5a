"""The grammar of a condition, read by recursive descent; nothing of it is ever run as code.

    either     = both { "or" both }
    both       = single { "and" single }
    single     = "not" single | "(" either ")" | best | test
    best       = ( "top" | "bottom" ) ( number "%" | number ) "by" column
    test       = column ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
               | column [ "not" ] "in" ( "(" value { "," value } ")" | "file" path )
               | column "is" [ "not" ] "missing"

A value with blanks, commas or signs stands in quotes.
"""

import re
from dataclasses import dataclass, field
from fractions import Fraction

from medvlp.errors import UserError

TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'[^']*'|"[^"]*")|(?P<sign><=|>=|!=|==|[=<>(),\[\]])|(?P<word>[^\s()\[\],<>=!'"]+))"""
)
COLUMN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?")
NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "file", "missing", "top", "bottom", "by"})
MAX_LENGTH = 10_000
"""Characters of a condition."""
MAX_DEPTH = 50
"""Brackets and negations inside each other."""


class ConditionError(UserError):
    """A condition that is none, or that a table cannot answer; the message says where, and what is expected."""


@dataclass(frozen=True)
class Comparison:
    """A column against a value."""

    column: str
    sign: str
    value: str


@dataclass(frozen=True)
class Membership:
    """A column among values."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ListedIn:
    """A column among the lines of a file."""

    column: str
    path: str


@dataclass(frozen=True)
class Missing:
    """A column without a value."""

    column: str


@dataclass(frozen=True)
class Best:
    """The highest (or lowest) by a column of numbers.

    share: of all samples of the split; None: `count` of them.
    """

    column: str
    highest: bool
    share: Fraction | None = None
    count: int = 0


@dataclass(frozen=True)
class Negation:
    """What its member is not."""

    member: "Node"


@dataclass(frozen=True)
class Both:
    """What all members are."""

    members: tuple["Node", ...]


@dataclass(frozen=True)
class Either:
    """What at least one member is."""

    members: tuple["Node", ...]


Node = Comparison | Membership | ListedIn | Missing | Best | Negation | Both | Either


def leaves(node: Node) -> list[Comparison | Membership | ListedIn | Missing | Best]:
    """The tests on columns that a condition is made of."""
    if isinstance(node, Negation):
        return leaves(node.member)
    if isinstance(node, Both | Either):
        return [leaf for member in node.members for leaf in leaves(member)]
    return [node]


def parse_condition(text: str, key: str) -> Node:
    """A condition's tree.

    key: what messages call it.
    Raises:
        ConditionError: not of the grammar; the message points at the place.
    """
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_LENGTH:
        raise ConditionError(f"{key}: {text!r:.80} is no condition, such as 'width >= 224'")
    return _Parser(text, key).condition()


@dataclass
class _Parser:
    text: str
    key: str
    tokens: list[tuple[str, str, int]] = field(default_factory=list)
    """(kind, text, position)"""
    position: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        start = 0
        while self.text[start:].strip():
            match = TOKEN.match(self.text, start)
            if match is None:
                raise self.error("a column, a sign or a value", len(self.text) - len(self.text[start:].lstrip()))
            kind = str(match.lastgroup)
            self.tokens.append((kind, match[kind], match.start(kind)))
            start = match.end()

    def error(self, expected: str, start: int | None = None) -> ConditionError:
        if start is None:
            start = self.tokens[self.position][2] if self.position < len(self.tokens) else len(self.text)
        marked = f"{self.text[:start]}⟨here⟩{self.text[start:]}"
        return ConditionError(f"{self.key}: {marked} — expected {expected}")

    def next_is(self, *texts: str) -> bool:
        """Whether the next token is one of these, and no quoted value."""
        if self.position >= len(self.tokens):
            return False
        kind, text, _ = self.tokens[self.position]
        return kind != "quoted" and text in texts

    def take(self, *texts: str) -> str:
        """The next token, if it is one of these; else ""."""
        if not self.next_is(*texts):
            return ""
        self.position += 1
        return self.tokens[self.position - 1][1]

    def need(self, *texts: str) -> str:
        token = self.take(*texts)
        if not token:
            raise self.error(" or ".join(texts))
        return token

    def condition(self) -> Node:
        node = self.either()
        if self.position < len(self.tokens):
            raise self.error("and, or, or the end")
        return node

    def either(self) -> Node:
        members = [self.both()]
        while self.take("or"):
            members.append(self.both())
        return Either(tuple(members)) if len(members) > 1 else members[0]

    def both(self) -> Node:
        members = [self.single()]
        while self.take("and"):
            members.append(self.single())
        return Both(tuple(members)) if len(members) > 1 else members[0]

    def single(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"no more than {MAX_DEPTH} brackets and negations inside each other")
        node: Node
        if self.take("not"):
            node = Negation(self.single())
        elif self.take("("):
            node = self.either()
            self.need(")")
        else:
            direction = self.take("top", "bottom")
            node = self.best(direction == "top") if direction else self.test()
        self.depth -= 1
        return node

    def best(self, highest: bool) -> Best:
        amount = self.word("a share such as 30%, or a number of samples")
        number = amount.removesuffix("%")
        if not NUMBER.fullmatch(number) or not (amount.endswith("%") or number.isdecimal()) or Fraction(number) <= 0:
            self.position -= 1
            raise self.error("a share such as 30%, or a number of samples")
        self.need("by")
        column = self.column()
        if not amount.endswith("%"):
            return Best(column, highest, count=int(number))
        if Fraction(number) > 100:
            raise ConditionError(f"{self.key}: {self.text}: {amount} is more than there is")
        return Best(column, highest, share=Fraction(number) / 100)

    def test(self) -> Node:
        column = self.column()
        if self.take("is"):
            is_negated = bool(self.take("not"))
            self.need("missing")
            return Negation(Missing(column)) if is_negated else Missing(column)
        is_negated = bool(self.take("not"))
        if is_negated or self.next_is("in"):
            self.need("in")
            node: Node = ListedIn(column, self.value("a file")) if self.take("file") else self.values(column)
            return Negation(node) if is_negated else node
        sign = self.take("==", *COMPARISONS)
        if not sign:
            raise self.error(f"{' '.join(COMPARISONS)}, in, not in, or is missing")
        return Comparison(column, "=" if sign == "==" else sign, self.value("a value"))

    def values(self, column: str) -> Membership:
        end = {"(": ")", "[": "]"}[self.need("(", "[")]
        values = [self.value("a value")]
        while self.take(","):
            values.append(self.value("a value"))
        self.need(end)
        return Membership(column, tuple(values))

    def column(self) -> str:
        name = self.word("a column's name")
        if not COLUMN.fullmatch(name) or name in KEYWORDS:
            self.position -= 1
            raise self.error("a column's name")
        return name

    def word(self, expected: str) -> str:
        if self.position >= len(self.tokens) or self.tokens[self.position][0] != "word":
            raise self.error(expected)
        self.position += 1
        return self.tokens[self.position - 1][1]

    def value(self, expected: str) -> str:
        if self.position < len(self.tokens) and self.tokens[self.position][0] == "quoted":
            self.position += 1
            return self.tokens[self.position - 1][1][1:-1]
        return self.word(expected)
