"""How languages say yes and no, deny, and doubt: what `yes_no` looks for in a response to a question in each."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from medvlp.eval.answers.normalization import normalize

_END = r"(?=\s*[,.;:!。、\n)\]-]|\s*$)"
YES_WORD = re.compile(
    r"(?:(?:absolutely|definitely|certainly|indeed|of\s+course|correct|right|exactly|present)(?=\s*[,.;:!\n]|\s*$)"
    r"|(?:yes|yeah|yep|sí|oui|sim|sì|да|tak)(?!\w)|(?:si|ja)(?=\s*[,.;:!\n]|\s*$)"
    rf"|(?:是的|对的|對的|有的|肯定的)|(?:是|对|對|有|存在|可见|可見|能|会|會|正确|正確|肯定){_END}"
    rf"|(?:はい|ええ|その通り)|(?:あります|認めます|認められます|見られます|そうです|あり){_END}"
    rf"|(?:네|예|그렇습니다|맞습니다|있습니다|보입니다|있음){_END})",
    re.IGNORECASE,
)
"""A yes at the start of a response, in any language."""
NO_WORD = re.compile(
    r"(?:(?:(?:absolutely|definitely|certainly)\s+not|not\s+at\s+all|incorrect|wrong|absent|none)(?=\s*[,.;:!\n]|\s*$)"
    r"|none\s+(?:is|are|was|were|seen|visible|identified|noted|detected|present)\b"
    r"|(?:non|nein|não|нет|nie)(?=\s*[,.;:!\n]|\s*$)|no(?=\s*[,.;:!\n]|\s*$)"
    rf"|(?:不是的|没有的)|(?:不是|否|没有|沒有|没|无|無|不存在|不|未见|未見|不对|不能|不会|错误|否定){_END}"
    rf"|いいえ|(?:ありません|ないです|認めません|認められません|見られません|違います|なし){_END}"
    rf"|(?:아니요|아니오|아뇨|아닙니다|없습니다|없음|보이지\s?않습니다){_END})",
    re.IGNORECASE,
)
"""A no at the start of a response, in any language."""


_YES_ANSWERS = "是 是的 对 對 有 有的 存在 能 会 會 可以 はい あり 네 예 sí si oui ja sim sì да"
_NO_ANSWERS = "否 不是 不 没有 沒有 没 无 無 不存在 不能 不会 不可以 いいえ なし 아니요 아니오 non nein não нет"
MEANINGS = {
    word: meaning
    for meaning, words in (("yes", _YES_ANSWERS), ("no", _NO_ANSWERS))
    for word in re.findall(r"\w+", words)
}
"""A right answer in another language → what it means."""


@dataclass(frozen=True)
class Language:
    """What a sentence of a language is taken apart by.

    is_question: of a text that asks for yes or no. denial: words that deny, before what was asked or behind it. hedge: words that
    leave open what the sentence says. keys: the words of a text that carry its meaning. is_suffixed: whether denials stand
    behind what they deny as well.
    """

    is_question: Callable[[str], bool]
    denial: re.Pattern[str]
    hedge: re.Pattern[str]
    keys: Callable[[str], set[str]]
    is_suffixed: bool = False


_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the is are was were be been do does did has have had can could should will would there this that these those it
        its in on of at to for with by from and or any image picture photo scan patient evidence seen see show shows shown visible
        present sign signs findings finding abnormality you your we i here which as into within""",
    )
)
_AUXILIARY = re.compile(r"\W*(?:is|are|was|were|do|does|did|has|have|had|can|could|should|will|would)\b", re.IGNORECASE)


def _stem(word: str) -> str:
    return re.sub(r"(?:ies|es|s|ed|ing)$", "", word) if len(word) > 4 else word


@lru_cache(maxsize=2**12)
def _english_keys(text: str) -> set[str]:
    return {_stem(word) for word in normalize(text).split() if word not in _STOP_WORDS}


ENGLISH = Language(
    is_question=lambda text: bool(_AUXILIARY.match(text)) and not re.search(r"\bor\b", text),
    denial=re.compile(
        r"\b(?:no|not|without|absent|absence|none|neither|nor|never|negative|isn't|aren't|wasn't|doesn't|don't|didn't|hasn't|haven't|"
        r"lacks?|free\s+of|unremarkable|rather\s+than|unlikely|excludes?|excluded|rules?\s+out|ruled\s+out)\b",
        re.IGNORECASE,
    ),
    hedge=re.compile(
        r"\b(?:may|might|could|possibly|possible|perhaps|maybe|unclear|uncertain|cannot|can't|if|whether|difficult|suggest(?:s|ive|ing)?|"
        r"suspected|suspicious|equivocal|borderline|questionable|(?:no|not|without)\s+(?:\w+\s+){0,2}?(?:chang\w*|interval|increas\w*|decreas\w*|progress\w*|growth)|not\s+(?:certain|sure|clear|likely))\b",
        re.IGNORECASE,
    ),
    keys=_english_keys,
)

_LATIN_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """el la los las un una unos unas de del en al y a que se es está están hay haber existe existen observa observan ve ven
        aprecia aprecian muestra muestran presenta presentan tiene tienen imagen radiografía paciente esta este signos signo
        evidencia hallazgos visible alguna algún algun presente presentes identifica identifican por con lo
        le les des du une dans sur est sont il elle a t y cette ce image patient on voit observe observé signes présente présent
        montre visualise
        der die das den dem ein eine einen einer einem gibt es ist sind im in auf bild patient zu sehen zeigt zeigen hinweise
        sichtbar erkennbar liegt vor
        o os as um uma no na nos nas há existe imagem paciente é são está mostra observa presença sinais tem
        il lo gli un è sono c nella nel immagine paziente presente mostra si vede""",
    )
)
_COMMON_WORDS = frozenset(["i", "me", "no", "patient", "image", "signs", "visible", "son", "est", "die", "den", "man"])
"""Words of English as well."""
_LATIN_QUESTION = re.compile(
    r"\W*(?:¿|hay|existe|existen|se\s|es\s|est[áa]\s|tiene|muestra|presenta|est-ce|y\s+a-t-il|la\s|le\s|gibt|ist|sind|zeigt|há|é\s|tem\s|c'è|è\s)",
    re.IGNORECASE,
)
_LATIN_WH = re.compile(
    r"\b(?:qué|cuál(?:es)?|dónde|cuándo|cómo|cuánt[oa]s?|quel(?:le)?s?|où|combien|welche[rsnm]?|wo|wie|was|qual|quais|onde|dove|quale)\b",
    re.IGNORECASE,
)


_ELISION = re.compile(r"(?<!\w)(?:[dlnsjct]|qu)'(?=\w)|(?<=\w)-(?=\w)", re.IGNORECASE)
_NEGATIONS = {"no", "não", "non"}


def _latin_keys(text: str) -> set[str]:
    return {
        _stem(word) for word in normalize(_ELISION.sub(" ", text)).split() if word not in _LATIN_STOP_WORDS | _NEGATIONS
    }


LATIN = Language(
    is_question=lambda text: not _LATIN_WH.search(text) and not re.search(r"\s(?:o|ou|oder)\s", text),
    denial=re.compile(
        r"\b(?:no|sin|ausencia|ausente|niega|ningún|ningun[oa]?|tampoco|descarta(?:n|do)?|pas|sans|aucune?|absence|absente?|kein\w*|nicht|"
        r"ohne|fehlt|fehlen|não|sem|ausência|nenhuma?|non|senza|nessun\w*|assenza)\b",
        re.IGNORECASE,
    ),
    hedge=re.compile(
        r"\b(?:podría|podrían|puede|pueden|posible|posiblemente|quizás?|tal\s+vez|sugiere|duda|dudos\w|pourrait|peut|possible|évoque|"
        r"könnte|kann|möglich\w*|vielleicht|verdacht|pode|poderia|possível|talvez|potrebbe|forse|possibile|difícil|schwer|difficile)\b",
        re.IGNORECASE,
    ),
    keys=_latin_keys,
)

_HAN_STOP = frozenset(
    "图圖像中的这這张張片子里裡是否有没沒吗嗎呢请請问問患者病人显顯示存在可以看到见見出了该該此幅在于吧和与能会會上下部位位置"
    "哪个個不无無未非对對为為一个明显明顯任何迹象跡象征徵所或任"
    "この画像にはがをのでですかますかありませんあるいるられめ認見られい何か"
)
_HAN_HEDGE = re.compile(
    r"可能|疑似|疑い|怀疑|懷疑|或许|也许|不确定|不確定|不清|难以|無法|无法|不能排除|不除外|待排|かもしれ|可能性|不明|判断でき|可疑"
)


def _han_keys(text: str) -> set[str]:
    return {token for token in normalize(text).split() if token not in _HAN_STOP}


HAN = Language(
    is_question=lambda text: bool(
        re.search(r"吗|嗎|是否|有没有|有沒有|是不是|ですか|ますか|でしょうか|かどうか|能否|有无", text)
    ),
    denial=re.compile(r"没|沒|无|無|未|不|非|否|ない|なし|ません|ず|缺"),
    hedge=_HAN_HEDGE,
    keys=_han_keys,
    is_suffixed=True,
)

_HANGUL_STOP = re.compile(
    r"(?:있|없|보이|보입|보여|관찰|확인|않|아니|아닙|영상|사진|이미지|환자|소견|이|그|에서|나타|존재|발견|입니|인가|합니|해당|네|예|아니요)"
)
_PARTICLE = re.compile(r"(?<=[가-힣]{2})(?:에서는|에서|으로|에는|이|가|은|는|을|를|의|에|도|와|과|로)$")


def _hangul_keys(text: str) -> set[str]:
    words = (_PARTICLE.sub("", word) for word in normalize(text).split())
    return {word for word in words if not _HANGUL_STOP.match(word)}


HANGUL = Language(
    is_question=lambda text: bool(re.search(r"까\W*$|나요\W*$|가요\W*$|는지\W*$", text)),
    denial=re.compile(r"없|않|아니|아닙|안\s|배제"),
    hedge=re.compile(r"가능|의심|것\s?같|수\s?있|어렵|불확실|추정|모르"),
    keys=_hangul_keys,
    is_suffixed=True,
)


FORM = 5
"""Letters that two forms of an English word share at least: "calcified", "calcification"."""


def holds(words: set[str], keys: set[str]) -> bool:
    """Whether some words hold all of some others, in any form that begins with the same stem."""
    return all(
        key in words or (len(key) >= FORM and key.isascii() and any(word.startswith(key) for word in words))
        for key in keys
    )


def language_of(question: str) -> Language:
    """The language that a question is taken apart by: by its script, and of Latin ones by how it begins."""
    if re.search("[가-힣]", question):
        return HANGUL
    if re.search("[\u3040-\u30ff\u3400-\u9fff]", question):
        return HAN
    if ENGLISH.is_question(question):
        return ENGLISH
    is_latin = _LATIN_QUESTION.match(question) or set(normalize(question).split()) & (
        _LATIN_STOP_WORDS - _STOP_WORDS - _COMMON_WORDS
    )
    return LATIN if is_latin else ENGLISH
