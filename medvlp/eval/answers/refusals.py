"""Responses that give no answer because the model will not, or says that it cannot."""

import re

_REFUSES = re.compile(
    r"\b(?:i(?:'m| am)?\s+(?:very\s+|really\s+|truly\s+)?sorry\b|i\s+apologi[sz]e\b|as\s+an?\s+(?:ai|artificial|language|large)\b"
    r"|i(?:'m| am)\s+(?:just\s+|only\s+)?an?\s+(?:ai|language\s+model|virtual|assistant)\b|"
    r"i\s+(?:can\s*not|can't|could\s+not|couldn't|won't|will\s+not|am\s+(?:not\s+able|unable)|'m\s+(?:not\s+able|unable))"
    r"\s*(?:to\s+|really\s+|confidently\s+|accurately\s+|definitively\s+)*(?:help|assist|provide|give|offer|answer|determine|tell|say|see|"
    r"view|access|identify|interpret|analy[sz]e|diagnose|make|comment|recommend|process|be\s+sure|reliably)\b|"
    r"i\s+(?:do\s+not|don't)\s+(?:know|have\s+(?:the\s+)?(?:ability|access|enough|capab|information))|"
    r"i'm\s+(?:not\s+able|unable)\s+to\b|unable\s+to\s+(?:answer|determine|provide|view|see|assist)\b|"
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
