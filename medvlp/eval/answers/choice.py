"""The option, or the options, that a reply to a question of multiple choice picks."""

import re
from collections.abc import Callable
from functools import lru_cache

from medvlp.eval.answers.extraction import (
    CONTRADICTION,
    ENTIRE,
    NOTHING,
    REFUSAL,
    Extraction,
    Reply,
    Span,
    first_answer,
)
from medvlp.eval.answers.options import (
    HEDGED,
    Options,
    any_label,
    denies,
    label_list,
    label_of,
    listed_labels,
    lone_label,
    mentioned,
    named_labels,
    read_labels,
    read_whole,
    single,
)
from medvlp.eval.answers.patterns.questions import asks_exception
from medvlp.eval.answers.refusals import is_denied, is_supposed, refuses
from medvlp.eval.answers.statements import (
    Contradiction,
    ReadSpan,
    any_statement,
    first_sentence,
    of_the_answer,
    sentences_of_choice,
    sentences_of_exception,
    stated,
)
from medvlp.eval.answers.verdicts import judged, remaining

LEAD, ENDING, LABEL_NAMED, MENTION = "leading label", "closing label", "named label", "mention"
LONE, LABELS = "only label", "list of labels"
Picked = Callable[[set[str]], tuple[str, ...] | None]
"""Labels that a text names → the answer; None for none. Raises Contradiction: several, where one is right."""
_SENTENCE = 200
"""Characters before a closing label that are looked at for a denial."""
_OPTION_NOUN = r"(?:option|choice)\s+"
SHORT = 12
"""Words of a last line that can be an answer by itself."""


def extract_choice(reply: str, options: Options, multiple: bool = False, question: str = "") -> Extraction:
    """The labels that a reply picks, as a tuple in the order of the options; one of them unless `multiple` may be right.

    In this order, the first that applies: all of the reply is a label, an option's text, or both; a statement (`stated`); a label
    that closes the reply ("…, so B."); a label or a text at the start, set off by a mark; the last line, if it is short; a label
    that is named ("option B") or a text of an option that occurs, if it is the only one; the only label in the reply. The
    options repeated are not read as an answer. Denials ("not pneumonia") count for nothing. A reply that contradicts itself picks
    none, and one that refuses none unless it states an answer after all.

    A question for an exception ("all EXCEPT", "which is NOT", "the least likely") turns words round: "the least likely is B" and
    "B is false" state its answer, and of verdicts on each option the one that differs; what is most likely, or occurs, does not.
    Of other questions "the least likely is B" says nothing.

    options: text by label. question: as it was asked; empty: it is not for an exception. Raises ValueError: no options.
    """
    if not options:
        raise ValueError("no options: expected a text a label")
    return _extract(reply, tuple(options.items()), multiple, asks_exception(question))


@lru_cache(maxsize=2**14)  # scores, traces and measures of reliance ask for the same reply
def _extract(reply: str, pairs: tuple[tuple[str, str], ...], multiple: bool, is_exception: bool) -> Extraction:
    options = dict(pairs)

    def picked(labels: set[str]) -> tuple[str, ...] | None:
        if not multiple:
            label = single(labels)
            return None if label is None else (label,)
        return tuple(label for label in options if label in labels) or None

    def read(text: str) -> tuple[str, ...] | None:
        return picked(read_several(text, options) if multiple else read_labels(text, options))

    def extract(cleaned: Reply) -> Extraction:
        try:
            return _by_rules(cleaned, options, multiple, read, picked, is_exception)
        except Contradiction:
            return Extraction(None, CONTRADICTION)

    return first_answer(reply, extract)


def _by_rules(
    cleaned: Reply, options: Options, multiple: bool, read: ReadSpan, picked: Picked, is_exception: bool
) -> Extraction:
    text = cleaned.text
    full_span = Span(0, len(text), ENTIRE)
    is_plain = not re.search(r"[{<]", text)
    if is_plain and (answer := picked(read_whole(text, options))):
        return cleaned.extraction(answer, full_span)
    if multiple and is_plain and (answer := picked(read_several(text, options, is_whole=True))):
        return cleaned.extraction(answer, full_span)
    if (statement := stated(cleaned, read, is_counted=of_the_answer if is_exception else any_statement)) is not None:
        return statement
    verdicts = judged(text, options, is_exception)
    for labels, span in filter(None, (verdicts, remaining(text, options, multiple, is_exception))):
        if answer := picked(labels):
            return cleaned.extraction(answer, span)
    weaker = sentences_of_exception if is_exception else sentences_of_choice
    if (statement := first_sentence(cleaned, read, weaker)) is not None:
        return statement
    if is_plain and not multiple and (answer := picked(label_list(text, options))):
        return cleaned.extraction(answer, full_span)
    head = re.match(r"\s*([^\n]+)\n\s*\n", text)
    if head and not multiple and len(labels := read_whole(head[1], options)) == 1:
        return cleaned.extraction(picked(labels), Span(*head.span(1), LEAD))
    if refuses(text):
        return Extraction(None, REFUSAL)
    if (ending := _ending(text, options)) is not None:
        return cleaned.extraction((ending[0],), ending[1])
    remainder, has_list = without_list(cleaned, options)
    lead = None if has_list or verdicts else _lead(remainder, options) or _text_first(remainder, options)
    last = _last_lines(remainder, options, picked, multiple)
    if lead is not None:
        label, span = lead
        if last and last[1].start > span.end and last[0] != (label,):
            raise Contradiction
        return remainder.extraction((label,), span)
    if last:
        return remainder.extraction(*last)
    if multiple and (answer := picked(listed_labels(remainder.text, options))):
        return remainder.extraction(answer, Span(0, len(remainder.text), LABELS))
    for rule, find in () if is_exception else ((LABEL_NAMED, named_labels), (MENTION, mentioned)):
        labels = find(remainder.text, options)
        if len(labels) > 1 and not multiple:
            raise Contradiction
        if answer := picked(labels):
            return remainder.extraction(answer, Span(0, len(remainder.text), rule))
    if not (has_list or verdicts or is_exception) and (lone := lone_label(text, options)):
        return cleaned.extraction((lone[0],), Span(lone[1], lone[2], LONE))
    return Extraction(None, NOTHING)


def read_several(text: str, options: Options, is_whole: bool = False) -> set[str]:
    """Labels of several right options: "A, C", "ACD", one a line, texts parted by commas or semicolons.

    is_whole: only where nothing else is in the text. Raises Contradiction: "A or B", "A, possibly B".
    """
    text = (
        re.sub(r"[,;]?\s*(?:\bbut\s+)?\bnot\s+.*$", "", text)
        if re.match(r"\W*(?!not\b)\w", text, re.IGNORECASE)
        else text
    )
    doubt = rf"(?:\b(?:or|possibly|perhaps|maybe)|或|또는)\W*(?:also\s+)?(?:{_OPTION_NOUN})?\(?(?:{any_label(options)})(?![\w'-])"
    if re.search(doubt, text):
        raise Contradiction
    if labels := read_whole(text, options):
        return labels
    bare = re.sub(r"[^\w]+$|^[^\w]+", "", text)
    if re.fullmatch(rf"(?:{any_label(options)}){{2,}}", bare) and all(len(label) == 1 for label in options):
        return set(bare)
    if is_whole and bare.islower() and list(bare) == sorted(set(bare)) and set(bare.upper()) <= set(options):
        return set(bare.upper())
    if labels := label_list(text, options):
        return labels
    parts = [part for part in re.split(r"[\n;]+|,\s*(?=\W*\w)|\s+and\s+", text) if re.search(r"\w", part)]
    read = [read_whole(part, options) for part in parts]
    if len(parts) > 1 and all(len(labels) == 1 for labels in read):
        return set().union(*read)
    return set() if is_whole else read_labels(text, options)


def without_list(cleaned: Reply, options: Options) -> tuple[Reply, bool]:
    """The reply without a list of all options that it repeats, and whether there was one."""
    spans: dict[str, tuple[int, int]] = {}
    for match in re.finditer(rf"(?m)^[\s>•\-]*[(\[]?({any_label(options)})[.):\]][ \t]*([^\n]*)$", cleaned.text):
        label = label_of(match[1], options)
        if label not in spans and read_whole(match[2], options) == {label}:
            spans[label] = match.span()
    if spans.keys() != set(options):
        line = _inline_list(cleaned.text, options)
        if line is None:
            return cleaned, False
        spans = {"": line}
    characters: list[str] = []
    offsets: list[int] = []
    position = 0
    for start, end in sorted(spans.values()):
        characters.append(cleaned.text[position:start])
        offsets += cleaned.offsets[position:start]
        position = end
    characters.append(cleaned.text[position:])
    return Reply("".join(characters), (*offsets, *cleaned.offsets[position:])), True


def _inline_list(text: str, options: Options) -> tuple[int, int] | None:
    """All options, one behind the other: "A. heart B. lung C. liver"."""
    parts = [
        rf"[(\[]?{re.escape(label)}[.):\]]?\s*{re.escape(option.strip())}[\s.,;|]*" for label, option in options.items()
    ]
    match = re.search(r"(?<!\w)" + "".join(parts), text, re.IGNORECASE)
    return match.span() if match else None


def _ending(text: str, options: Options) -> tuple[str, Span] | None:
    """A label that closes the reply behind a word that concludes: "…, so B.", "that leaves (D)"."""
    labels = {label: text for label, text in options.items() if not label.isdigit()}
    pattern = (
        r"(?:\b(?:[Ss]o|[Hh]ence|[Tt]hus|[Tt]herefore|i\.e\.|leav(?:es|ing)(?:\s+(?:us\s+with|only|just))?|(?:which\s+|that\s+)?makes\s+(?:it|this)|corresponds?\s+to|is|it's|that's|be|choose|"
        r"pick|say)\b:?|:|[=-]>|(?P<weak>\b(?:of|with|for|favou?rs?|supports?|suggests?|indicates?|matches|fits)\b))\s*,?\s*"
        rf"(?:it\s+is\s+|it's\s+)?(?:(?:option|choice|answer|letter)\s+)?[(\"']*(?P<label>{any_label(labels)})[)\"']*[.!\s]*$"
    )
    pattern += rf"|[、,]\s*(?P<asian>{any_label(labels)})\s*(?:です|である|だ|입니다|이다)[。.!\s]*$"
    match = re.search(pattern, text) if labels else None
    if match and match["asian"]:
        return match["asian"], Span(*match.span("asian"), ENDING)
    if match is None or is_denied(text, match.start()) or is_denied(text, match.start("label")):
        return None
    if is_supposed(text, match.start("label")) or HEDGED.search(
        re.split(r"[.!?;\n]\s", text[: match.end("label")][-_SENTENCE:].rstrip())[-1]
    ):
        return None
    if match["weak"] and denies(re.split(r"[.!?;\n]\s*|,\s+(?=which\b)", text[: match.start()][-_SENTENCE:])[-1]):
        return None
    return match["label"], Span(match.start("label"), match.end("label"), ENDING)


def _lead(reply: Reply, options: Options) -> tuple[str, Span] | None:
    """A label at the start that is set off by a mark, and of no other option's text."""
    pattern = rf"\W*(?:(?:option|choice|answer)\s+)?\(?({any_label(options)})(?:\s*[.,:;)\]]+(?=\s|$|[^\W\d_]{{2}})|\s*\n|\s-\s"
    pattern += (
        r"|\s(?=\([a-z][^)\n]{{0,60}}\)\W*(?:\n|$))|\s(?=(?:The|This|It|In|Because|Explanation|Reason|Based|As)\s))"
    )
    match = re.match(pattern, reply.text, re.IGNORECASE)
    if not match:
        return None
    label = label_of(match[1], options)
    if re.match(r"\s*[a-z]\.", reply.text[match.end() - 1 :]) or (match[1].islower() and match.group().endswith(",")):
        return None
    first_line = reply.text[match.end() :].partition("\n")[0]
    if re.match(r"\s*(?:is|was|are|would|can|could|cannot|seems|appears|does|has)\b", first_line):
        return None
    if re.search(rf"[,;]\s*\(?(?:{any_label(options)})\)?\s*[:=]", first_line):  # "A: 10%, B: 80%"
        return None
    if match.group().rstrip().endswith(",") and re.match(rf"\W*(?:and\s+)?(?:{any_label(options)})\b", first_line):
        return None  # "A, B and C are out."
    rivals = {name for name in read_labels(first_line, options) if name != label} if first_line.strip() else set()
    is_own_text = label in read_labels(first_line, options) if first_line.strip() else False
    starts = read_whole(first_line, options)
    if (starts and label not in starts) or re.match(rf"\s*[(\[]?(?:{any_label(options)})[.):\]]", first_line):
        raise Contradiction
    if rivals and not is_own_text and re.match(r"\s*(?:or|and)\b", first_line, re.IGNORECASE):
        raise Contradiction
    return label, Span(match.start(1), match.end(1), LEAD)


def _text_first(reply: Reply, options: Options) -> tuple[str, Span] | None:
    """An option's text that is the first sentence."""
    match = re.match(r"\s*([^\n]+?)(?:\.(?=\s)|\n|$)", reply.text)
    labels = read_whole(match[1], options) if match else set()
    return (labels.pop(), Span(*match.span(1), LEAD)) if match and len(labels) == 1 else None


def _last_lines(reply: Reply, options: Options, picked: Picked, multiple: bool) -> tuple[tuple[str, ...], Span] | None:
    """What the last line is, with the lines above it that are options as well: "The signs are:", "A. fever", "C. rash"."""
    line = next(reply.lines(), None)
    if line is None:
        return None
    labels, start = set[str](), line.start
    for span in reply.lines():
        content = reply.text[span.start : span.end]
        if len(content.split()) > SHORT or not (of_line := read_whole(content, options)):
            break
        labels, start = labels | of_line, span.start
    content = reply.text[line.start : line.end]
    if len(labels) < 2 or len(labels) == len(options):  # all options are the list of the question
        labels, start = set(), line.start
    if multiple:
        labels |= read_several(content, options, is_whole=True)
    if not labels:
        labels = _of_last_line(content, reply.text, options)
    answer = picked(labels)
    return None if answer is None else (answer, Span(start, line.end, line.rule))


def _of_last_line(content: str, text: str, options: Options) -> set[str]:
    if len(content.split()) > SHORT:
        return set()
    content = re.sub(
        r"^\W*(?:(?:so|thus|therefore|hence|in conclusion|overall|finally|conclusion|ans(?:wer)?|probably|(?:most\s+)?likely|"
        r"definitely|clearly|i\s+(?:think|believe|guess))\b\W*)+"
        r"(?:it\s+is\s+|it's\s+|this\s+is\s+)?",
        "",
        content,
        flags=re.IGNORECASE,
    )
    labels = read_whole(content, options)
    head, colon, tail = content.rpartition(": ")  # "No contrast was given: D. Non-contrast"
    if (
        not labels
        and colon
        and not re.search(r"\b(?:not|except|excluding|incorrect|wrong|unlikely|out)\W*$", head, re.IGNORECASE)
    ):
        labels = read_whole(tail, options)
    lead = re.match(rf"\W*({any_label(options)})[.):]\s", content)
    if not labels and lead and not re.search(rf"[,;]\s*\(?(?:{any_label(options)})\)?\s*[:=]", content):
        leads = re.findall(rf"(?m)^\W*({any_label(options)})[.):]\s", text)
        labels = {label_of(lead[1], options)} if len(set(leads)) == 1 else set()  # else the options are discussed
    return labels
