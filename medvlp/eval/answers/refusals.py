"""Responses that give no answer because the model will not, or says that it cannot; and statements that are denied."""

import re

_REFUSES = re.compile(
    r"\b(?:i(?:'m| am)?\s+(?:very\s+|really\s+|truly\s+)?sorry\b|i\s+apologi[sz]e\b|as\s+an?\s+(?:ai|artificial|language|large)\b"
    r"|i(?:'m| am)\s+(?:just\s+|only\s+)?an?\s+(?:ai|language\s+model|virtual|assistant)\b|"
    r"i\s+(?:can\s*not|can't|could\s+not|couldn't|won't|will\s+not|am\s+(?:not\s+able|unable)|'m\s+(?:not\s+able|unable))"
    r"\s*(?:to\s+|really\s+|confidently\s+|accurately\s+|definitively\s+)*(?:help|assist|provide|give|offer|answer|determine|tell|say|see|"
    r"view|access|decide|choose|distinguish|differentiate|settl[e]|identify|interpret|analy[sz]e|diagnose|make|comment|recommend|process|be\s+sure|reliably)\b|"
    r"i\s+(?:do\s+not|don't)\s+(?:know|have\s+(?:the\s+)?(?:ability|access|enough|capab|information))|"
    r"i\s+(?:don't|do\s+not)\s+(?:think|believe|feel)\s+(?:that\s+)?i\s+can\b|i'm\s+(?:not\s+able|unable)\s+to\b|unable\s+to\s+(?:answer|determine|provide|view|see|assist)\b|"
    r"(?:please\s+)?consult\s+(?:with\s+)?(?:a|your)\s+(?:qualified\s+|licensed\s+)?(?:doctor|physician|healthcare|medical|radiologist)|"
    r"(?:it|this)\s+(?:can\s*not|can't)\s+be\s+(?:determined|answered|told)|not\s+enough\s+information|insufficient\s+information|"
    r"no\s+image\s+(?:was|is|has\s+been)\s+(?:provided|attached|uploaded|visible)|"
    r"(?:please\s+)?(?:provide|upload|share|attach)\s+the\s+image|i\s+need\s+(?:more|the)\s+(?:information|image|context))",
    re.IGNORECASE,
)
_NOT_ENGLISH = re.compile(
    r"抱歉|对不起|無法(?:回答|提供|判斷)|无法(?:回答|提供|判断|确定|查看)|申し訳|lo siento|no puedo|je ne peux pas|désolé|"
    r"es tut mir leid|ich kann (?:nicht|keine)|desculpe|não posso|mi dispiace|죄송"
)


def refuses(text: str) -> bool:
    """Whether a reply says that it will not or cannot answer."""
    return _REFUSES.search(text) is not None or _NOT_ENGLISH.search(text.casefold()) is not None


_NEGATED = re.compile(
    r"\W*(?:not|neither|none\s+of\s+(?:these|those|them)\b|unlikely|incorrect|wrong|unclear|unknown|uncertain|ambiguous|either)\b",
    re.IGNORECASE,
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|cannot|unlikely|improbable|doubtful|doubt)|n't)(?:\s+(?!but\b|because\b|so\b|only\b)[\w']+){0,4}\s*$"
    r"|\b(?:incorrect|wrong|false|inappropriate|worst|least(?:\s+\w+)?|less\s+\w+|which|what|whether|if|unlikely)"
    r"(?:\s+(?:answers?|options?|choices?|diagnosis))?\s*$",
    re.IGNORECASE,
)
_DOUBTED = re.compile(r"\b(?:no|without|not\s+(?:any|a))\s+(?:doubt|question)\b", re.IGNORECASE)
_CLAUSE_START = re.compile(r"[.;:!?,\n。，；！？]|\b(?:but|so|hence|thus|therefore|because)\b", re.IGNORECASE)
_DENIAL_REACH = 80
"""Characters before a statement in which it can be denied."""
_RATHER = re.compile(
    r"[^.\n。]{0,40}?(?:\bbut\b(?:\s+rather)?|\bsino\b|\bsondern\b|\bmais\b|而是|아니라|아니고|ではなく|じゃなく)\s*",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"\W*(?:不是|并非|並非|no\s+es\b|nicht\b|non\s+è\b)|\W*\w{1,12}\s?(?:아닙니다|아니고|아니다|아닌|아니에요|ではありません|ではない)",
    re.IGNORECASE,
)


def is_denied(text: str, start: int) -> bool:
    """Whether what begins there is denied by the words before it in its clause: "I don't think …", "the wrong …"."""
    clause = _DOUBTED.sub("", text[max(0, start - _DENIAL_REACH) : start])
    return _DENIED_BEFORE.search(_CLAUSE_START.split(clause)[-1]) is not None


_SUPPOSED = re.compile(
    r"\b(?:if|unless|suppose|supposing|assuming|had\s+there)\b(?!\s+(?:i\s+(?:had|have)\s+to|i\s+must|forced|pressed|pushed|only\s+one|anything))"
    r"|\b(?:user|students?|candidates?|many|some|people|others|you|one|they|colleagues?|textbooks?|resident)\s+(?:\w+\s+){0,3}?"
    r"(?:say|says|said|think|thinks|thought|suggest(?:s|ed)?|claim(?:s|ed)?|choose|chose|pick(?:ed)?|argue[sd]?|assume[sd]?|believe[sd]?|"
    r"answer(?:ed)?|consider)\b"
    r"|\b(?:mistake|trap|pitfall|tempt(?:ed|ing)|to\s+say\s+that|to\s+claim\s+that)\b",
    re.IGNORECASE,
)
_RETRACTION = re.compile(
    r"[^.!?\n]{0,60}\b(?:would|is|was)\s+(?:be\s+)?(?:premature|wrong|incorrect|a\s+mistake|tempting|misleading|too\s+(?:simple|early))\b"
    r"|[^.!?\n]{0,40}\s(?:if|unless|provided|only\s+when)\b",
    re.IGNORECASE,
)
_SENTENCE_REACH = 200
"""Characters of a sentence before a statement in which it can be supposed, or be another's."""


def is_supposed(text: str, start: int) -> bool:
    """Whether what begins there is a condition's, or another's: "if …, the answer would be A", "many would say that it is A"."""
    sentence = re.split(r"[.!?;\n。]\s*", text[max(0, start - _SENTENCE_REACH) : start])[-1]
    return _SUPPOSED.search(sentence) is not None


def is_taken_back(text: str, end: int) -> bool:
    """Whether the sentence goes on so that nothing is stated: "… would be premature", "… if the patient has fever"."""
    return _RETRACTION.match(text, end) is not None


def asserted_offset(content: str) -> int | None:
    """Where in a statement begins what it says: of "not A but B" the last; None for a denial."""
    is_negated = _NEGATED.match(content) or _DENIED.match(content)
    if not is_negated and not re.search("아니라|아니고", content) and "ではなく" not in content:
        return 0
    rather = _RATHER.match(content)
    return rather.end() if rather and re.search(r"\w", content[rather.end() :]) else None
