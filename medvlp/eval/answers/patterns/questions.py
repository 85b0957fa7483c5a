"""Questions that ask for an exception: "all EXCEPT", "which is NOT", "the least likely", "which statement is false"."""

import re

_EXCEPTION = re.compile(
    r"\b(?:EXCEPT|NOT|FALSE|INCORRECT|LEAST)\b"
    r"|(?i:\ball\b[^?\n]{0,120}\bexcept\b|\bexcept\s*(?:for\s*)?[:?.]|\bleast\s+(?:likely|probable|appropriate|common|consistent|associated|helpful|useful|suitable)\b)"
    r"|(?i:\b(?:which|what)\b[^?\n]{0,80}\b(?:is|are|was|does|do|would|should|can)\s+not\b)|(?i:\b(?:which|what)\b[^?\n]{0,80}\b(?:isn't|doesn't|don't)\b)"
    r"|(?i:\b(?:which|what|the|following)\b[^?\n]{0,60}\b(?:false|incorrect|untrue|wrong)\b)"
    r"|不正确|不正確|错误的?(?:是|选项|说法|一项)|(?:说法|哪项|哪个|哪一项|表述)[^?？\n]{0,10}(?:错误|有误|不当)|錯誤的|不属于|不屬於|不包括|不符合|不恰当|不是|除[^?？\n]{0,30}外|誤っている|誤り|適切でない|でないもの"
    r"|옳지\s?않은|틀린|아닌\s?것|잘못된|않는\s?것"
    r"|(?i:\b(?:excepto|salvo|incorrecta|falsa|menos\s+probable|sauf|fausse|inexacte|falsch|nicht\s+zu|außer|incorreta|exceto|tranne)\b)"
)


def asks_exception(question: str) -> bool:
    """Whether the right option is the one that is false, absent or least likely."""
    return _EXCEPTION.search(question) is not None
