"""Where a reply states its answer: boxes and tags, JSON, "final answer", "Answer:", "the answer is", "I choose".

The patterns are of the styles that models are trained to write, in English and the languages of medical exams.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from medvlp.eval.answers.extraction import CONTRADICTION, Extraction, Reply, Span, parsed_json
from medvlp.eval.answers.refusals import asserted_offset, is_denied

BOX, JSON, FINAL, LABEL, PROSE = "box or tag", "json", "final answer", "label", "sentence"
VERDICT, DECLARED, LIKELIEST = "said to be right", "declared", "said to be likeliest"
MOST_BOXES = 16
"""Boxes of a reply that are read, the last ones."""
MOST_STATEMENTS = 32
"""Statements of one kind that are read, the last ones."""
SENTENCES = (PROSE, DECLARED, LIKELIEST)
"""Kinds of statement that end with their sentence."""

_TAGS = re.compile(
    r"<\s*(?P<name>answer|final_answer|ans|choice|option|prediction|conclusion)\s*>(?P<content>.*?)(?:<\s*/\s*(?P=name)\s*>|\Z)"
    r"|<\|begin_of_box\|>(?P<glm>.*?)(?:<\|end_of_box\|>|\Z)"
    r"|\[\s*(?:final\s+)?answer\s*\](?P<square>.*?)(?:\[\s*/\s*(?:final\s+)?answer\s*\]|\n|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_BOXED = re.compile(r"\\?\b(?:boxed|fbox)\s*\{|\\boxed\s+(?=\w)")
_BOX_MARKS = re.compile(r"\}|\\?\b(?:boxed|fbox)\s*\{")
_KEYS = frozenset(
    re.findall(
        r"\w+",
        """answer finalanswer answerchoice answerletter correctanswer correctoption choice option finalchoice letter
        selectedoption selectedanswer prediction predictedanswer diagnosis result output response label value answers choices
        options labels findings antwort respuesta resposta reponse 答案""",
    )
)
_BEST_KEYS = ("answer", "finalanswer", "answerchoice", "answerletter", "correctanswer", "correctoption")
_JSON_PAIR = re.compile(
    r"""["'](?P<key>[\w \-]{1,40})["']\s*:\s*"""
    r"""(?P<value>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\[[^\[\]]*\]|[^\s,{}\[\]"'][^,{}\n]*)"""
)

_ADJECTIVE = (
    r"(?:(?:single|most|correct|best|right|proper|appropriate|accurate|likely|probable|suitable|true|my|our|selected|chosen|"
    r"predicted|short|direct|plausible)\s+){0,4}"
)
_NOUN = r"(?:answers?|ans|options?|choices?|prediction|diagnosis|response|conclusion)"
_IS = r"(?:is|are|was|would\s+be|should\s+be|must\s+be|has\s+to\s+be|will\s+be|appears\s+to\s+be|seems\s+to\s+be)\b"
_ADVERBS = r"(?:\s*,?\s*\b(?:therefore|thus|hence|then|likely|most\s+likely|probably|clearly|simply|indeed|definitely|that)\b,?)*"
_FINAL = re.compile(
    rf"\b(?:final|ultimate)\s+{_ADJECTIVE}(?:{_NOUN}|decision|result|value|score)\b(?:\s+(?:to|for)\s+[^.:\n]{{1,60}}?)?"
    rf"(?:\s*\([^)\n]{{0,30}}\))?\s*(?:{_IS}|[:=])?{_ADVERBS}\s*:?|(?m:^\s*\#{{4}}\s+)",
    re.IGNORECASE,
)
_LABEL = re.compile(
    rf"(?:(?:^|(?<=\n)|(?<=[.!?;)\]]\s)|(?<=[.!?]))[\s>•\-\d.)(\"\[]{{0,12}})(?:the\s+)?{_ADJECTIVE}{_NOUN}"
    r"(?:\s+(?:letter|option|choice|selected|matches))?(?:\s*\([^)\n]{0,30}\))?[\"\]]?\s*(?::|=|-\s|\n)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    rf"\b{_ADJECTIVE}{_NOUN}\b(?:\s+(?:to|for|of|from|among|here|that|which|in)\b[^.?!:\n]{{0,80}}?)?\s+{_IS}{_ADVERBS}\s*:?"
    rf"|\bthe\s+(?:single\s+)?(?:most|next\s+best|best|first)\s+(?!of\b)\w+(?:\s+[\w'-]+){{0,8}}?\s+{_IS}{_ADVERBS}\s*:?"
    r"|\b(?:i|we)\s*(?:'d|'ll|'m\s+going\s+to)?\s*(?:(?:would|will|can|must|should|have\s+to|am\s+going\s+to|therefore|thus|"
    r"confidently)\s+)*(?:choose|chose|select|selected|pick|picked|go\s+with|opt\s+for|answer|conclude(?:\s+that)?|vote\s+for)\b"
    r"(?:\s+(?:with|it\s+is))?\s*:?"
    r"|\b(?:leads?|leading|points?|pointing)\s+(?:us\s+)?to\s+(?:the\s+)?(?:answer|option|choice)\s*:?"
    r"|\b(?:selected|chosen|correct|matching)\s+(?:one|option|choice|answer)?\s*:\s*",
    re.IGNORECASE,
)
_LOCAL = re.compile(
    r"(?:最终|最後の|正确|正確|正しい)?(?:答案|答え|回答|正解|选项|選項|解答)\s*(?:应该|應該|应|應)?\s*(?:是|为|為|选|選|は|が)?\s*:?\s*"
    r"|(?:故|应|應|因此|所以)?\s*(?:选择|選擇|选|選)(?=\s*:?\s*[A-Za-z(（])\s*:?|(?:최종\s*)?(?:정답|답변|답)(?:은|는|이)?\s*:?\s*"
    r"|\b(?:la\s+)?(?:mejor\s+)?respuesta(?:\s+(?:correcta|final))?\s*(?:(?=no\s+es\b)|es|:)\s*(?:la\s+)?(?:opción\s+)?"
    r"|\b(?:a\s+)?(?:resposta|alternativa)(?:\s+(?:correta|final))?\s*(?:é|:)\s*(?:a\s+)?(?:alternativa\s+)?"
    r"|\b(?:la\s+)?(?:bonne\s+)?réponse(?:\s+(?:correcte|finale))?\s*(?:est|:)\s*(?:la\s+)?"
    r"|\b(?:die\s+)?(?:richtige\s+|korrekte\s+)?antwort\s*(?:ist|lautet|:)\s*"
    r"|\b(?:la\s+)?risposta(?:\s+(?:corretta|finale))?\s*(?:è|:)\s*(?:la\s+)?"
    r"|\b(?:prawidłowa\s+|poprawna\s+)?odpowiedź\s*(?:to|:)\s*"
    r"|(?:правильный\s+)?ответ\s*(?:это|-|:)\s*|(?:верният\s+|правилният\s+)?отговор\s*(?:е|:)\s*",
    re.IGNORECASE,
)
_VERDICT = re.compile(
    r"\s*(?<!不)(?:是|为|為)(?:最)?(?:正确|正確)(?:的|答案|选项|選項)?|(?:이|가)\s*(?:정답|맞)|\s+(?:is|are)\s+(?:therefore\s+|thus\s+|hence\s+|indeed\s+|clearly\s+|also\s+)?(?:the\s+)?(?:most\s+)?"
    r"(?:correct|right|best|accurate|appropriate|answer|(?:likely|probable)(?:\s+(?:diagnosis|answer|option|choice)|(?=\s*(?:[,.;]|$))))\b(?!\s+(?:if|when|only|in)\b)",
    re.IGNORECASE,
)
_DECLARED = re.compile(
    r"(?:^|(?<=[.!?]\s)|(?<=\n))[^\w\n]{0,8}(?:(?:so|thus|therefore|hence|overall)\s*,?\s+)?(?:i\s+(?:think|believe|suspect|would\s+say|'d\s+say)\s+"
    r"(?:that\s+)?)?(?:this|it|that|(?:the|this)\s+(?:\w+\s+)?(?:lesion|findings?|diagnosis|abnormality|"
    r"tumou?r|structure|organ|vessel|plane|modality|view|image|scan))(?:\s+is|'s|\s+appears\s+to\s+be|\s+looks)\s+(?:most\s+likely\s+|likely\s+|probably\s+|clearly\s+)*",
    re.IGNORECASE,
)
_LIKELIEST = re.compile(
    r"\b(?:most|highly|best|more|classic(?:ally)?|strongly)\s+(?:likely|consistent\s+with|suggestive\s+of|suggests?|compatible\s+with|indicative\s+of|"
    r"in\s+keeping\s+with|typical\s+(?:of|for)|characteristic\s+of|fits?|explained\s+by)\b"
    r"|\bmak(?:es|ing)\s+(?=[^.,\n]{1,60}\bthe\s+(?:better|best|most|likeliest|correct|right)\b)",
    re.IGNORECASE,
)
CONTENT_END = re.compile(
    r"\b(?:explanation|rationale|reasoning|reason|justification|solution|analysis|explication|explicación|confidence)\s*:|解析\s*:",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<![ (][A-Za-z])(?<!^[A-Za-z])(?:[.!?](?=\s+[A-Z\"'(]|\s*$)|[。！？])|[?!](?=\s)")
_CONCLUDES = re.compile(
    r"(?:therefore|thus|hence|so|in\s+conclusion|in\s+summary|finally|overall|consequently|accordingly|to\s+sum\s+up|"
    r"ultimately|based\s+on\s+[^.\n]{1,80}|given\s+[^.\n]{1,80}|综上|因此|所以|よって|따라서)\s*,?\s*(?:the\s+|my\s+|i\s+|we\s+)?$",
    re.IGNORECASE,
)
_CORRECTS = re.compile(
    r"\b(?:wait|actually|correction|on\s+second\s+thought|let\s+me\s+(?:re|double|correct|check|think)\w*|i\s+made\s+a\s+mistake|"
    r"i\s+was\s+wrong|no,|hmm|sorry|apologi[sz]e|scratch\s+that|reconsider\w*|re-?evaluat\w*|upon\s+(?:further|closer))",
    re.IGNORECASE,
)


class Contradiction(Exception):
    """A statement that says two things."""


ReadSpan = Callable[[str], Any]
"""What a piece of text says as the kind's answer; None: nothing. Raises Contradiction."""


IsCounted = Callable[[str, Span], bool]


def any_statement(text: str, span: Span) -> bool:
    """Every one."""
    return True


def sentences(text: str) -> Iterator[Iterator[Span]]:
    """ "The answer is …", "I choose …"."""
    yield _after(_SENTENCE, PROSE, text)


def sentences_of_choice(text: str) -> Iterator[Iterator[Span]]:
    """Behind these: "… is correct", "this is …", and "most likely …"."""
    yield _said_right(text)
    yield _after(_DECLARED, DECLARED, text)
    yield _after(_LIKELIEST, LIKELIEST, text)


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
            _readings(_after(_FINAL, FINAL, reply.text), reply, read, is_counted),
            _readings(
                [*_after(_LABEL, LABEL, reply.text), *_after(_LOCAL, LABEL, reply.text)], reply, read, is_counted
            ),
        ]
        resolved = [_resolve(tier, reply.text) for tier in tiers if tier]
        for number, reading in enumerate(resolved):
            later = [lower for lower in resolved[number + 1 :] if lower.span.start > reading.span.end]
            if any(lower.answer != reading.answer for lower in later):
                return Extraction(None, CONTRADICTION)
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
        content = _BOX_MARKS.sub(" ", content) if part.rule == BOX else content
        if (answer := read(content)) is not None:
            readings.append(Reading(answer, part))
    return sorted(readings, key=lambda reading: reading.span.start)


def _resolve(readings: Sequence[Reading], text: str) -> Reading:
    """The one that counts. Raises Contradiction."""
    last = readings[-1]
    if all(reading.answer == last.answer for reading in readings) or last.span.rule in (BOX, JSON, FINAL):
        return last
    previous = max(reading.span.start for reading in readings if reading.answer != last.answer)
    between = text[previous : last.span.start]
    clause = text[max(previous, text.rfind("\n", 0, last.span.start) + 1) : last.span.start]
    lead_words = re.sub(rf"(?:the\s+)?{_ADJECTIVE}{_NOUN}\b[^.?!\n]*$", "", clause, flags=re.IGNORECASE)
    if _CORRECTS.search(between) or _CONCLUDES.search(lead_words) or _CONCLUDES.search(lead_words.rpartition(". ")[2]):
        return last
    raise Contradiction


def _boxes(text: str) -> list[Span]:
    spans = []
    for match in _TAGS.finditer(text):
        name = next(group for group in ("content", "glm", "square") if match[group] is not None)
        spans.append(Span(*match.span(name), BOX))
    for match in list(_BOXED.finditer(text))[-MOST_BOXES:]:
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
    for match in _JSON_PAIR.finditer(text):
        key = re.sub(r"[\W_]", "", match["key"]).casefold()
        if key in _KEYS:
            pairs.append((key, match))
    matches = [match for key, match in pairs if key in _BEST_KEYS] or [match for _, match in pairs]
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
        if rule == PROSE and is_denied(text, match.start()):
            continue
        start = match.end()
        if (nested := _SENTENCE.match(text, _skipped(text, start))) and rule not in SENTENCES:
            start = nested.end()
        start = _skipped(text, start)
        end = text.find("\n", start)
        end = min(len(text) if end < 0 else end, max(next_start, start))
        if stop := CONTENT_END.search(text, start, end):
            end = stop.start()
        if rule in SENTENCES and (stop := _SENTENCE_END.search(text, start, end)):
            end = stop.start()
        if end > start:
            yield Span(start, end, rule)


def _skipped(text: str, start: int) -> int:
    """The next place that is no blank, quote or colon."""
    while start < len(text) and (text[start].isspace() or text[start] in "\"':"):
        start += 1
    return start


def _said_right(text: str) -> Iterator[Span]:
    """What stands before "is correct" in its sentence."""
    for match in list(_VERDICT.finditer(text))[-MOST_STATEMENTS:]:
        start = (
            max(text.rfind(mark, 0, match.start()) for mark in ("\n", ". ", "! ", "? ", "; ", ", ", "，", "。", "고 "))
            + 1
        )
        lead = re.compile(r"\s*\(?[A-Za-z0-9]{1,2}[.)]\s").match(text, text.rfind("\n", 0, match.start()) + 1)
        if lead and lead.end() >= start:
            start = lead.start()
        yield Span(start, match.start(), VERDICT)
