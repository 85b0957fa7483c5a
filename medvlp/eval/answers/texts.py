"""The answer in a response to a question that is answered in free text."""

import re
from functools import lru_cache

from medvlp.eval.answers.extraction import ENTIRE, NOTHING, REFUSAL, Extraction, Reply, Span, first_answer
from medvlp.eval.answers.patterns.cues import CONTENT_END
from medvlp.eval.answers.refusals import refuses
from medvlp.eval.answers.statements import LABEL, PROSE, stated

_ANSWER = re.compile(
    r"\b(?:answers?|ans|respuesta|resposta|réponse|antwort|risposta|odpowiedź|ответ|отговор)\b|答|回答|정답|답",
    re.IGNORECASE,
)
_REACH = 60
"""Characters before a statement in which it has to be called an answer."""


@lru_cache(maxsize=2**14)
def extract_text(reply: str) -> Extraction:
    """The text that a reply states as its answer (`stated`), else all of the reply; None for a refusal, or a blank one.

    Only what is called an answer is one: "Diagnosis: …" is a part of a longer text. An "Answer:" that begins the reply is
    followed by all of it, up to a blank line or an explanation.
    """
    return first_answer(reply, _extract)


def _extract(cleaned: Reply) -> Extraction:
    text = cleaned.text
    statement = stated(cleaned, _read, is_counted=_is_answer)
    if statement is not None:
        return _to_paragraph(cleaned, statement) or statement
    if refuses(text[:200]):
        return Extraction(None, REFUSAL)
    if not text.strip():
        return Extraction(None, NOTHING)
    return cleaned.extraction(text.strip(), Span(0, len(text), ENTIRE))


def _is_answer(text: str, span: Span) -> bool:
    return span.rule not in (LABEL, PROSE) or bool(_ANSWER.search(text[max(0, span.start - _REACH) : span.start]))


def _to_paragraph(cleaned: Reply, statement: Extraction) -> Extraction | None:
    """All that follows a label at the start of the reply, where that is more than its line."""
    if statement.rule != LABEL:
        return None
    start = cleaned.offsets.index(statement.start)
    if "\n" in cleaned.text[:start].strip() or len(cleaned.text[:start].split()) > 3:
        return None
    end = re.compile(r"\n[ \t]*\n").search(cleaned.text, start)
    stop = end.start() if end else len(cleaned.text)
    if explanation := CONTENT_END.search(cleaned.text, start, stop):
        stop = explanation.start()
    if "\n" not in cleaned.text[start:stop].strip():
        return None
    return cleaned.extraction(cleaned.text[start:stop].strip(), Span(start, stop, LABEL))


def _read(content: str) -> str | None:
    """A statement's content without the reason behind it, and the marks at its ends."""
    content = re.split(r",?\s+\b(?:because|since|as\s+(?:shown|seen|indicated|evidenced))\b", content)[0]
    content = content.strip().strip("\"'“”{}[]|").strip()
    content = re.sub(r"(?<=\w)[.。]+$", "", content)
    return content if re.search(r"\w", content) else None
