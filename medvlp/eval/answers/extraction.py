"""What was read out of a reply, and the reply as rules read it: without markup, with the place of each character."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

ENTIRE, CONTRADICTION, REFUSAL, NOTHING, BLANK = "whole reply", "contradiction", "refusal", "nothing found", "blank"
UNFINISHED, LAST_LINE = "unfinished thought", "last line"


LONGEST = 20_000
"""Characters of a reply that are read, the last ones."""
LONGEST_RUN = 16
"""Characters of one run of blanks and marks that are read at its start, and as many at its end: a model that has lost its way
repeats them, and every rule would look at all of them from each."""
_RUN = re.compile(rf"\W{{{2 * LONGEST_RUN + 1},}}")


class Extraction(NamedTuple):
    """What a reply comes to.

    answer: None where it cannot be told; never a guess. Else what the kind of question has: "yes" or "no", the labels of the
    options, a text, a value, items.
    rule: by which rule, or why there is no answer: `CONTRADICTION`, `REFUSAL`, `NOTHING`, `BLANK`, `UNFINISHED`.
    start, end: the characters of the reply that say it; 0, 0 where nothing does.
    """

    answer: Any
    rule: str
    start: int = 0
    end: int = 0

    def trace(self) -> dict[str, Any]:
        """For a record."""
        return {"rule": self.rule, "span": [self.start, self.end]}


class Span(NamedTuple):
    """Characters of a reply's `text`, and the rule that points at them."""

    start: int
    end: int
    rule: str


_TURN_ENDS = re.compile(r"<\|(?:im_end|eot_id|endoftext|end|eom_id)\|>|</s>|<end_of_turn>|<eos>")
_MARKUP = re.compile(
    r"\*\*(?P<label>[A-Za-z0-9])\*\*|\\[dt]?frac\s*\{(?P<numerator>\d+)\}\s*\{(?P<denominator>\d+)\}|"
    r"\\(?:text|textbf|textit|mathbf|mathrm|boldsymbol|bm)\s*\{(?P<inner>[^{}]*)\}"
    r"|\{(?P<comma>,)\}|\\[()\[\]]|\\[,;!]|\$|\*{2,}|(?!(?<=\d)\*\d)(?:(?<=\S)\*|\*(?!\s))|`+|(?m:^[ \t]*\#{1,6}(?=\s))|__|~~"
    r"|</?(?:b|i|u|p|em|strong|span|br|sub|sup|div|center|mark)\b[^<>]{0,60}>"
    r"|<\|[a-z_]{1,30}\|>|[\u200b-\u200f\u2060\ufeff\ufe0f]",
    re.IGNORECASE,
)
_REASONING_END = re.compile(
    r"</(?:think|thinking|thought|thoughts|reasoning|reason|analysis|rationale|scratchpad)>|<unused95>|◁/think▷"
    r"|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>final<\|message\|>")
_REASONING = re.compile(
    r"\s*(?:<(?:think|thinking|thought|reasoning|analysis|scratchpad)>|<unused94>|◁think▷|<\|channel\|>analysis)",
    re.IGNORECASE,
)
_REPLACED = {"‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "→": ":", "⇒": ":", "\u2044": "/"}
_DASHES = frozenset("\u2010\u2011\u2012\u2013\u2014\u2015\u2212")
_NEXT_TURN = re.compile(
    r"\n\s{0,8}(?:\#{1,6}\s{0,4})?(?:Question|Human|User|Q|Instruction|Input|Patient|Image)\s*\d{0,4}\s*:",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reply:
    """A reply as the rules read it.

    text: without markup (Markdown, LaTeX, tags of letters), without what was thought before it, letters and marks in their plain
    forms. offsets: of each character, its index in the reply as it was given; one more at the end.
    """

    text: str
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, reply: str) -> "Reply":
        """A reply as a model gave it."""
        final = max((match.end() for match in _FINAL_CHANNEL.finditer(reply)), default=0)
        turn_end = _TURN_ENDS.search(reply, final)
        end = turn_end.start() if turn_end and reply[final : turn_end.start()].strip() else len(reply)
        last = trimmed(reply, 0, end)[1]
        start = max((m.end() for m in _REASONING_END.finditer(reply, 0, end) if m.end() < last), default=0)
        start = max(start, end - LONGEST)
        characters: list[str] = []
        offsets: list[int] = []

        def add(first: int, last: int) -> None:
            for index in range(first, last):
                plain_forms = unicodedata.normalize("NFKC", reply[index])
                if "\u2044" in plain_forms and characters and characters[-1].isdigit():  # "1½" is 1 1/2
                    plain_forms = f" {plain_forms}"
                for character in plain_forms:
                    plain = "-" if character in _DASHES else _REPLACED.get(character, character)
                    characters.append(plain)
                    offsets.append(index)

        position = start
        for markup in _MARKUP.finditer(reply, start, end):
            add(position, markup.start())
            if markup["label"]:  # bold sets a label off, as brackets do
                characters += ["(", markup["label"], ")"]
                offsets += [markup.start(), markup.start("label"), markup.end() - 1]
            elif markup["numerator"]:
                fraction = f"{markup['numerator']}/{markup['denominator']}"
                characters += fraction
                offsets += [markup.start()] * (len(fraction) - 1) + [markup.end() - 1]
            elif markup["comma"]:
                add(*markup.span("comma"))
            elif markup["inner"] is not None:
                add(*markup.span("inner"))
            position = markup.end()
        add(position, end)
        return cls("".join(characters), (*offsets, end)).with_short_runs()

    def with_short_runs(self) -> "Reply":
        """The reply with `LONGEST_RUN` characters of each end of a run of blanks and marks, and two of the line ends between."""
        pieces: list[tuple[int, int]] = []
        position = 0
        for run in _RUN.finditer(self.text):
            start, end = run.start() + LONGEST_RUN, run.end() - LONGEST_RUN
            pieces.append((position, start))
            for _ in range(2):
                line_end = self.text.find("\n", start, end)
                if line_end < 0:
                    break
                pieces.append((line_end, line_end + 1))
                start = line_end + 1
            position = end
        if not pieces:
            return self
        pieces.append((position, len(self.text)))
        offsets = [offset for first, last in pieces for offset in self.offsets[first:last]]
        return Reply("".join(self.text[first:last] for first, last in pieces), (*offsets, self.offsets[-1]))

    def before_next_turn(self) -> "Reply":
        """The reply up to where the model goes on with a question of its own; all of it where it does not."""
        match = _NEXT_TURN.search(self.text)
        if match is None or not self.text[: match.start()].strip():
            return self
        return Reply(self.text[: match.start()], self.offsets[: match.start() + 1])

    def extraction(self, answer: Any, span: Span) -> Extraction:
        """What a span of the text says, with its place in the reply as it was given."""
        start, end = trimmed(self.text, span.start, span.end)
        if start >= end:
            return Extraction(answer, span.rule)
        return Extraction(answer, span.rule, self.offsets[start], self.offsets[end - 1] + 1)

    def lines(self) -> Iterator[Span]:
        """Lines that hold more than marks, the last one first."""
        for match in reversed(list(re.finditer(r"[^\n]+", self.text))):
            if re.search(r"\w", match.group()):
                yield Span(match.start(), match.end(), LAST_LINE)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A span without the blanks at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def first_answer(reply: str, read: Callable[[Reply], Extraction]) -> Extraction:
    """What is read of a reply before the model's next question to itself, or of all of it where that gives nothing."""
    if not reply.strip():
        return Extraction(None, BLANK)
    if _REASONING.match(reply) and not _REASONING_END.search(reply) and "<answer>" not in reply.casefold():
        return Extraction(None, UNFINISHED)
    full_reply = Reply.of(reply)
    head = full_reply.before_next_turn()
    extraction = read(head)
    if extraction.answer is None and head is not full_reply and extraction.rule == NOTHING:
        return read(full_reply)
    return extraction


def parsed_json(value: str) -> Any:
    """The value that a text writes as JSON, or with the quotes of Python; the text where it writes none."""
    for text in (value, value.replace("'", '"')):
        try:
            return json.loads(text, parse_constant=str)
        except (ValueError, RecursionError):
            continue
    return value
