"""Where a reply states its answer: boxes and tags, JSON, "final answer", "Answer:", "the answer is", "I choose".

The patterns are of the styles that models are trained to write, in English and the languages of medical exams.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from medvlp.eval.answers.extraction import CONTRADICTION, Extraction, Reply, Span, parsed_json
from medvlp.eval.answers.patterns import cues
from medvlp.eval.answers.refusals import asserted_offset, is_denied, is_supposed, is_taken_back

BOX, JSON, FINAL, LABEL, PROSE = "box or tag", "json", "final answer", "label", "sentence"
VERDICT, DECLARED, LIKELIEST = "said to be right", "declared", "said to be likeliest"
MOST_BOXES = 16
"""Boxes of a reply that are read, the last ones."""
MOST_STATEMENTS = 32
"""Statements of one kind that are read, the last ones."""
_CLAUSE = 400
"""Characters before a verdict that are looked at for what it is of."""
_REACH = 40
"""Characters behind a verdict in which it is called one of the answer."""
SENTENCES = (PROSE, DECLARED, LIKELIEST)
"""Kinds of statement that end with their sentence."""


class Contradiction(Exception):
    """A statement that says two things."""


ReadSpan = Callable[[str], Any]
"""What a piece of text says as the kind's answer; None: nothing. Raises Contradiction."""


IsCounted = Callable[[str, Span], bool]


def any_statement(text: str, span: Span) -> bool:
    """Every one."""
    return True


def of_the_answer(text: str, span: Span) -> bool:
    """Those that are called an answer, an option or a choice; "the most common cause is …" is not."""
    return span.rule != PROSE or _names_the_answer(text, span)


def _names_the_answer(text: str, span: Span) -> bool:
    sentence = re.split(r"[.!?\n]\s", text[max(0, span.start - 2 * _REACH) : span.start])[-1]
    return bool(cues.RIGHT_ANSWER.search(sentence) or re.search(r"\b(?:i|we)\b", sentence, re.IGNORECASE))


def sentences(text: str) -> Iterator[Iterator[Span]]:
    """ "The answer is …", "I choose …"."""
    spans = list(_after(cues.SENTENCE, PROSE, text))
    yield iter([span for span in spans if _names_the_answer(text, span)])
    yield iter(spans)


def sentences_of_exception(text: str) -> Iterator[Iterator[Span]]:
    """Of a question for an exception: "the least likely is …", "all except …", "… is not", "… is the right answer"."""
    yield _after(cues.EXCEPTION, LIKELIEST, text)
    yield _said(cues.EXCEPTION_VERDICT, text)
    yield (span for span in _said(cues.VERDICT, text) if cues.RIGHT_ANSWER.search(text, span.end, span.end + _REACH))


def sentences_of_choice(text: str) -> Iterator[Iterator[Span]]:
    """Behind these: "… is correct", "this is …", and "most likely …"."""
    yield _said(cues.VERDICT, text)
    yield _after(cues.DECLARED, DECLARED, text)
    yield _after(cues.LIKELIEST, LIKELIEST, text)


def stated(
    reply: Reply,
    read: ReadSpan,
    read_value: Callable[[Any], Any] | None = None,
    weaker: Callable[[str], Iterator[Iterator[Span]]] = sentences,
    is_counted: IsCounted = any_statement,
) -> Extraction | None:
    """The answer that a reply states as its answer; None where no statement can be read.

    The kinds of statement have an order: a box or tag, JSON, "final answer", "Answer:", a sentence. Within one kind equal
    readings are one; of different ones the last counts where it concludes or corrects, or is one of the first three kinds. Two
    kinds of the first four that disagree, the lower one coming later, contradict each other.

    read: of a text. read_value: of a JSON value that is no text. weaker: what else is read of a text, if nothing is stated so.
    is_counted: whether a statement of a text is one of the answer.
    """
    try:
        tiers = [
            _readings(_boxes(reply.text), reply, read, is_counted),
            _json_readings(reply.text, read, read_value),
            _readings(_after(cues.FINAL, FINAL, reply.text), reply, read, is_counted),
            _readings(
                [*_after(cues.LABEL, LABEL, reply.text), *_after(cues.LOCAL, LABEL, reply.text)],
                reply,
                read,
                is_counted,
            ),
        ]
        resolved = [_resolve(tier, reply.text) for tier in tiers if tier]
        for number, reading in enumerate(resolved):
            later = [lower for lower in resolved[number + 1 :] if lower.span.start > reading.span.end]
            if any(lower.answer != reading.answer for lower in later):
                return Extraction(None, CONTRADICTION)
            reading = _corrected(reading, reply, read, is_counted)
            return reply.extraction(reading.answer, reading.span)
    except Contradiction:
        return Extraction(None, CONTRADICTION)
    return first_sentence(reply, read, weaker, is_counted)


def first_sentence(
    reply: Reply,
    read: ReadSpan,
    kinds: Callable[[str], Iterator[Iterator[Span]]],
    is_counted: IsCounted = any_statement,
) -> Extraction | None:
    """What the first kind of sentence says that can be read."""
    try:
        for spans in kinds(reply.text):
            if readings := _readings(spans, reply, read, is_counted):
                reading = _resolve(readings, reply.text)
                return reply.extraction(reading.answer, reading.span)
    except Contradiction:
        return Extraction(None, CONTRADICTION)
    return None


class Reading(NamedTuple):
    """What a statement says, and where."""

    answer: Any
    span: Span


def _readings(
    spans: Sequence[Span] | Iterator[Span], reply: Reply, read: ReadSpan, is_counted: IsCounted
) -> list[Reading]:
    readings = []
    for span in spans:
        if not is_counted(reply.text, span) or (offset := asserted_offset(reply.text[span.start : span.end])) is None:
            continue
        part = Span(span.start + offset, span.end, span.rule)
        content = reply.text[part.start : part.end]
        content = cues.BOX_MARKS.sub(" ", content) if part.rule == BOX else content
        try:
            answer = read(content)
        except Contradiction:
            if part.rule != DECLARED:  # "It is a sac next to the liver." describes
                raise
            continue
        if answer is not None:
            readings.append(Reading(answer, part))
    return sorted(readings, key=lambda reading: reading.span.start)


def _corrected(reading: Reading, reply: Reply, read: ReadSpan, is_counted: IsCounted) -> Reading:
    """The sentence that takes a statement back: "Answer: B. Wait, the answer is C." The statement where none does."""
    correction = cues.CORRECTS.search(reply.text, reading.span.end)
    if correction is None or reading.span.rule in (BOX, JSON):
        return reading
    later = _readings(_after(cues.SENTENCE, PROSE, reply.text), reply, read, is_counted)
    return next((r for r in reversed(later) if r.span.start > correction.start()), reading)


def _resolve(readings: Sequence[Reading], text: str) -> Reading:
    """The one that counts. Raises Contradiction."""
    last = readings[-1]
    if all(reading.answer == last.answer for reading in readings) or last.span.rule in (BOX, JSON, FINAL):
        return last
    previous = max(reading.span.start for reading in readings if reading.answer != last.answer)
    between = text[previous : last.span.start]
    clause = text[max(previous, text.rfind("\n", 0, last.span.start) + 1) : last.span.start]
    lead_words = re.sub(rf"(?:the\s+)?{cues.ADJECTIVE}{cues.NOUN}\b[^.?!\n]*$", "", clause, flags=re.IGNORECASE)
    if (
        cues.CORRECTS.search(between)
        or cues.CONCLUDES.search(lead_words)
        or cues.CONCLUDES.search(lead_words.rpartition(". ")[2])
    ):
        return last
    raise Contradiction


def _boxes(text: str) -> list[Span]:
    spans = []
    for match in cues.TAGS.finditer(text):
        name = next(group for group in ("content", "glm", "square") if match[group] is not None)
        spans.append(Span(*match.span(name), BOX))
    for match in list(cues.BOXED.finditer(text))[-MOST_BOXES:]:
        depth, end = 1, match.end()
        if not match.group().endswith("{"):
            word = re.compile(r"\w+").match(text, match.end())
            end = word.end() if word else end
            spans.append(Span(match.end(), end, BOX))
            continue
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        spans.append(Span(match.end(), end - (depth == 0), BOX))
    spans.sort()
    merged: list[Span] = []
    for span in spans:
        gap = text[merged[-1].end : span.start] if merged else "\n\n"
        if merged and re.fullmatch(r"[\s}]*(?:,|and|or|/)\s*\\?(?:boxed|fbox)\s*\{", gap):
            merged[-1] = Span(merged[-1].start, span.end, BOX)
        else:
            merged.append(span)
    return merged


def _json_readings(text: str, read: ReadSpan, read_value: Callable[[Any], Any] | None) -> list[Reading]:
    """The last pair whose key names an answer; keys that say "answer" go before others. Broken JSON is read as well."""
    pairs = []
    for match in cues.JSON_PAIR.finditer(text):
        key = re.sub(r"[\W_]", "", match["key"]).casefold()
        if key in cues.KEYS:
            pairs.append((key, match))
    matches = [match for key, match in pairs if key in cues.BEST_KEYS] or [match for _, match in pairs]
    for match in reversed(matches):
        value, content = match["value"], match["value"].strip("\"'")
        parsed = parsed_json(value)
        answer = read_value(parsed) if read_value and not isinstance(parsed, str) else None
        if answer is None and isinstance(parsed, list):
            content = ", ".join(map(str, parsed))
        if answer is None and asserted_offset(content) == 0:
            answer = read(content)
        if answer is not None:
            return [Reading(answer, Span(*match.span("value"), JSON))]
    return []


def _after(pattern: re.Pattern[str], rule: str, text: str) -> Iterator[Span]:
    """What follows each match: the rest of its line, or the next line that is not empty; of a sentence, up to its end."""
    matches = list(pattern.finditer(text))[-MOST_STATEMENTS:]
    starts = [match.start() for match in matches[1:]] + [len(text)]
    for match, next_start in zip(matches, starts[: len(matches)], strict=True):
        if rule in SENTENCES and (is_denied(text, match.start()) or is_supposed(text, match.end())):
            continue
        start = match.end()
        if (nested := cues.SENTENCE.match(text, _skipped(text, start))) and rule not in SENTENCES:
            start = nested.end()
        start = _skipped(text, start)
        end = text.find("\n", start)
        end = min(len(text) if end < 0 else end, max(next_start, start))
        if stop := cues.CONTENT_END.search(text, start, end):
            end = stop.start()
        if rule in SENTENCES and (stop := cues.SENTENCE_END.search(text, start, end)):
            end = stop.start()
        if rule in (DECLARED, LIKELIEST) and (stop := cues.TURN.search(text, start, end)):
            end = stop.start()
        if end > start:
            yield Span(start, end, rule)


def _skipped(text: str, start: int) -> int:
    """The next place that is no blank, quote or colon."""
    while start < len(text) and (text[start].isspace() or text[start] in "\"':"):
        start += 1
    return start


_SUBJECT = re.compile(
    r"(?:[(]?\b[A-Z1-9]\b[)]?(?:\s*(?:[,、&/]|\b(?:and|or|y|et|und)\b|和|과|와)\s*)+)+[(]?[A-Z1-9][)]?$"
)
_CONCLUDING = re.compile(
    r"\s*(?:(?:and|so|thus|therefore|hence|then|i\s+(?:think|believe)(?:\s+that)?)\b,?\s*)+", re.IGNORECASE
)
_CLAUSE_MARK = re.compile(r"\n|[.!?;]\s|,(?!\d)|。|[고며]\s")


def _said(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    """What stands before "is correct" in its clause; a list of labels is one."""
    for match in list(pattern.finditer(text))[-MOST_STATEMENTS:]:
        if is_supposed(text, match.start()) or is_taken_back(text, match.end()):
            continue
        line_start = text.rfind("\n", 0, match.start()) + 1
        line = text[max(line_start, match.start() - _CLAUSE) : match.start()]
        start = match.start() - len(line)
        end = max((mark.end() for mark in _CLAUSE_MARK.finditer(line)), default=0)
        if labels := _SUBJECT.search(line):
            end = min(end, labels.start())
        lead = re.match(r"\s*\(?[A-Za-z0-9]{1,2}[.)]\s", line)
        if lead and lead.end() >= end and start == line_start:
            end = 0
        concluding = _CONCLUDING.match(line, end)
        yield Span(start + (concluding.end() if concluding else end), match.start(), VERDICT)
