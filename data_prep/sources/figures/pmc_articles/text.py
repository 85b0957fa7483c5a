"""JATS markup as readable text.

Superscripts and subscripts become Unicode's where all their characters have one (10⁻³, H₂O, Ca²⁺), otherwise ^ and _
(n_e, t_KCN, x^(a+b)); those that only cite become [12,13]. Formulas are read from MathML, else from TeX, and left out
where the publisher has only a picture of them. Cross references keep their text. Footnotes, tables, and figures that
stand inside a paragraph are not part of it.
"""

from __future__ import annotations

import re
from html.entities import html5
from typing import Any

from lxml import etree

_SKIPPED_TAGS = frozenset(
    re.findall(
        r"\S+",
        "fig fig-group table-wrap table-wrap-group boxed-text supplementary-material media graphic inline-graphic fn "
        "object-id index-term table array disp-quote",
    )
)
_BLOCK_TAGS = frozenset(
    re.findall(r"\S+", "p title break list list-item def-list def-item def term disp-formula sec speech verse-line")
)
"""Elements whose text does not run into that of their neighbours."""

_FORMULAS = frozenset(re.findall(r"\S+", "inline-formula disp-formula math tex-math alternatives chem-struct"))
_SUPERSCRIPTS = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")


class TextBuilder:
    """Text as it grows: white space becomes single blanks, and the places of cross references are remembered."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._ends_blank = True
        self.links: list[tuple[int, int, list[str]]] = []
        """(start, stop, ids) of each cross reference's own text."""

    def add(self, text: str | None) -> None:
        """Append; a blank at the start, or after a blank, is none."""
        text = re.sub(r"\s+", " ", text or "")
        if self._ends_blank:
            text = text.lstrip(" ")
        if text:
            self._parts.append(text)
            self._length += len(text)
            self._ends_blank = text.endswith(" ")

    def __len__(self) -> int:
        return self._length

    @property
    def text(self) -> str:
        """All of it; places in `links` are places in it. It may end in a blank."""
        return "".join(self._parts)


def text_of(element: Any) -> str:
    """The readable text of an element."""
    words = TextBuilder()
    flow(element, words)
    return words.text.strip()


def first_text(element: Any, *paths: str) -> str:
    return next((text for path in paths for match in element.iterfind(path) if (text := text_of(match))), "")


def flow(element: Any, words: TextBuilder) -> None:
    """Append what an element says, without its tail."""
    words.add(element.text)
    for child in element:
        if isinstance(child.tag, str):
            _child(child, words)
        elif child.tag is etree.Entity:  # named in the DTD, which is not read; HTML's names are the same
            words.add(html5.get(f"{child.name};", f"&{child.name};"))
        words.add(child.tail)


def _child(child: Any, words: TextBuilder) -> None:
    tag = child.tag
    if tag in _SKIPPED_TAGS:
        words.add(" ")
    elif tag in ("sup", "sub"):
        _shifted(child, words)
    elif tag == "xref":
        start = len(words)
        flow(child, words)
        words.links.append((start, len(words), (child.get("rid") or "").split()))
    elif tag in _FORMULAS:
        blank = " " if tag == "disp-formula" else ""
        words.add(f"{blank}{formula(child)}{blank}")
    elif tag in _BLOCK_TAGS:
        words.add(" ")
        flow(child, words)
        words.add(" ")
    else:
        flow(child, words)


def _shifted(child: Any, words: TextBuilder) -> None:
    inner = TextBuilder()
    flow(child, inner)
    text = inner.text.strip()
    cites = child.find(".//xref[@ref-type='bibr']") is not None or child.getparent().get("ref-type") == "bibr"
    if (child.text or "")[:1].isspace():
        words.add(" ")
    start = len(words)
    words.add(f"[{text}]" if cites and text else raised(text) if child.tag == "sup" else lowered(text))
    words.links += [(start, len(words), ids) for _, _, ids in inner.links]
    if inner.text.endswith(" "):  # publishers put the blank between two words into the subscript of the first
        words.add(" ")


def raised(text: str) -> str:
    """A superscript in plain text: ² for 2, ⁻¹ for -1, ^abc for what Unicode has no superscripts for."""
    text = re.sub("^[–‐]", "-", text)
    shifted = text.translate(_SUPERSCRIPTS)
    if text in ("st", "nd", "rd", "th") or not any(c.isalnum() for c in text.replace("º", "")):
        return text.replace("º", "°") if not re.fullmatch(r"[+\-−=]+", text) else shifted
    if text == "o":  # 37 <sup>o</sup>C
        return "°"
    if text.upper() == "TM":
        return "™"
    return shifted if _all_changed(text, shifted) else f"^{_grouped(text)}"


def lowered(text: str) -> str:
    """A subscript in plain text: ₂ for 2, _abc for what Unicode has no subscripts for."""
    shifted = text.translate(_LOWERED)
    if not any(c.isalnum() for c in text) and not re.fullmatch(r"[+\-−=]+", text):
        return text
    return shifted if _all_changed(text, shifted) else f"_{_grouped(text)}"


def _all_changed(text: str, shifted: str) -> bool:
    return all(character != shifted_character for character, shifted_character in zip(text, shifted, strict=True))


def _grouped(text: str) -> str:
    return text if re.fullmatch(r"\w+|\(.*\)|\[.*\]|\{.*\}", text) else f"({text})"


def formula(element: Any) -> str:
    """A formula in plain text, from MathML, TeX, or text, in this order; empty where there is only a picture."""
    math = element if element.tag == "math" else element.find(".//math")
    if math is not None:
        return " ".join(mathml(math).split())
    tex = element if element.tag == "tex-math" else element.find(".//tex-math")
    if tex is not None:
        return plain_tex("".join(tex.itertext()))
    words = TextBuilder()
    flow_of_alternatives(element, words)
    return words.text.strip()


def flow_of_alternatives(element: Any, words: TextBuilder) -> None:
    """Of alternatives the first that says anything; of another element, all of it."""
    if element.tag != "alternatives":
        flow(element, words)
        return
    for child in element:
        if isinstance(child.tag, str) and child.tag not in _SKIPPED_TAGS:
            _child(child, words)
        if len(words):
            return


def plain_tex(source: str) -> str:
    """The formula of a TeX source, without the document that publishers wrap around each."""
    body = re.search(r"\\begin\{document\}(.*)\\end\{document\}", source, re.DOTALL)
    text = " ".join((body[1] if body else source).replace("$", " ").split())
    text = re.sub(r"\\(?:left|right|displaystyle|textstyle|limits|nolimits)\b", "", text)
    text = re.sub(r"\\(?:mathrm|mathbf|mathit|mathsf|text|textrm|textbf|textit|rm|it|bf|operatorname)\b\s*", "", text)
    text = re.sub(r"\\[,;:! ]|~|\\q?quad\b", " ", text)
    text = re.sub(r"\\frac ?\{([^{}]*)\} ?\{([^{}]*)\}", lambda parts: _fraction(parts[1], parts[2]), text)
    # \alpha, \le: HTML has the same names.
    text = re.sub(r"\\([A-Za-z]+)", lambda name: html5.get(f"{name[1]};", name[0]), text)
    text = re.sub(r" ?\^ ?(?:\{([^{}]*)\}|(\w))", lambda parts: raised((parts[1] or parts[2] or "").strip()), text)
    text = re.sub(r" ?_ ?(?:\{([^{}]*)\}|(\w))", lambda parts: lowered((parts[1] or parts[2] or "").strip()), text)
    return " ".join(re.sub(r"[{}]", "", text).split())


def _fraction(numerator: str, denominator: str) -> str:
    return "/".join(
        part if re.fullmatch(r"\w+", part) else f"({part})" for part in (numerator.strip(), denominator.strip())
    )


_SHAPES = {"msup": "^", "mover": "^", "msub": "_", "munder": "_"}


def mathml(element: Any) -> str:
    """A MathML tree in plain text: x², a_i, (a + b)/c, √(x)."""
    tag = element.tag
    children = [child for child in element if isinstance(child.tag, str) and not child.tag.startswith("annotation")]
    if tag in ("mi", "mn", "mo", "mtext", "ms"):
        text = " ".join("".join(element.itertext(etree.Element, tag)).split())
        return f" {text} " if tag == "mo" and text in ("=", "<", ">", "≤", "≥", "≈", "±", "×", "→", "∈", "∼") else text
    parts = [mathml(child).strip() if tag in _SHAPES or tag == "mfrac" else mathml(child) for child in children]
    if tag in _SHAPES and len(parts) == 2:
        return parts[0] + (raised if _SHAPES[tag] == "^" else lowered)(parts[1])
    if tag in ("msubsup", "munderover") and len(parts) == 3:
        return parts[0] + lowered(parts[1].strip()) + raised(parts[2].strip())
    if tag == "mfrac" and len(parts) == 2:
        return _fraction(*parts)
    if tag == "msqrt":
        return f"√({''.join(parts).strip()})"
    if tag == "mfenced":
        return f"{element.get('open', '(')}{element.get('separators', ',')[:1].join(parts)}{element.get('close', ')')}"
    if tag in ("mtr", "mtable"):
        return "; ".join(parts)
    return " " if tag == "mspace" else "".join(parts)
