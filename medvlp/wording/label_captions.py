"""Captions from labels: sentences with gaps, several for a label, in named files that anybody can add to.

`configs/templates/<name>.yaml`, in the working folder or shipped:

    # One line for a listing.
    modality: X-ray                       of samples whose source names none
    fields: {subject: chest X-ray}        what fills a gap, unless the source has a column of that name
    templates:                            what an image shows; each makes a caption of its own
      - "{a subject} showing {label}"
    negated:                              the same for what is labelled as absent; the label's words begin with "no"
      - "{a subject} showing {label}"
    normal:                               labels that say that nothing was found, with sentences that do not name them
      labels: [no finding, normal]
      templates: ["{a subject} without an abnormal finding"]
    labels:                               words for a label, article included; one that is not here speaks for itself
      mass: [a mass, a lung mass]

A gap is {label}, or a field or column; {a ...} puts "a" or "an" in front. Nothing else happens in braces. Several captions
an image, from templates and synonyms: as in UniMed-CLIP (Khattak et al. 2024).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from medvlp.errors import UserError

LABEL = "label"

UNCLEAR = frozenset(("yes", "no", "true", "false", "positive", "negative", "other", "others", "unknown", "uncertain"))
"""Labels that mean nothing outside of their data set; so do bare numbers. They need words of their own in a file."""

GAP = re.compile(r"\{(a )?([^\W\d][^{}]*)\}")
_NEGATION = re.compile(r"(?:no|not|without|absence of)\s+(?=\S)", re.IGNORECASE)


class NoCaption(Exception):
    """Labels of which no caption can be made: why, as a reason and in words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class GapError(UserError):
    """A template has a gap that nothing fills."""


@dataclass(frozen=True)
class Templates:
    """A file of templates, checked."""

    name: str
    digest: str
    """sha256 of the file."""
    templates: tuple[str, ...]
    negated: tuple[str, ...] = ()
    normal: tuple[str, ...] = ()
    normal_labels: frozenset[str] = frozenset()
    """Folded, as are the keys of `words`."""
    words: Mapping[str, tuple[str, ...]] | None = None
    fields: Mapping[str, str] | None = None
    modality: str = ""

    def captions(self, labels: Sequence[str], key: str, values: Mapping[str, str] | None = None) -> list[str]:
        """One caption a template, in the file's order, without repetitions.

        labels: what is said of one image, at least one. key: the sample's; among several wordings of a label it decides,
        so that they take turns over a data set. values: column → text; a template with an empty gap is skipped.

        Raises NoCaption: contradictory_labels (a normal finding next to another), unclear_label, no_template.
        """
        normal = [label for label in labels if fold(label) in self.normal_labels]
        findings = [label for label in labels if fold(label) not in self.normal_labels]
        if normal and findings:
            raise NoCaption("contradictory_labels", f"{normal[0]!r} stands next to {findings[0]!r}")
        wordings = [self.wordings(label) for label in findings]
        # Next to what is there, a caption does not speak of what is not.
        present = [words for words in wordings if not is_negated(words[0])]
        sentences = self.normal if normal else self.templates if present else self.negated
        if not sentences:
            raise NoCaption(
                "no_template", f"templates {self.name!r} has none for labels that negate, as {labels[0]!r} does"
            )
        turn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
        gaps = {**(self.fields or {}), **{name: value for name, value in (values or {}).items() if value}}
        captions = []
        for number, template in enumerate(sentences, start=turn):
            label = _join([words[number % len(words)] for words in present or wordings])
            captions.append(_fill(template, {**gaps, LABEL: label}))
        distinct = list(dict.fromkeys(caption for caption in captions if caption))
        if not distinct:
            raise NoCaption("no_template", f"every template of {self.name!r} has a gap whose column is empty here")
        return distinct

    def wordings(self, label: str) -> tuple[str, ...]:
        """A label in a caption's words. Raises NoCaption unclear_label."""
        words = (self.words or {}).get(fold(label))
        if words:
            return words
        plain = tidy(label)
        if fold(label) in UNCLEAR or not re.search(r"[^\W\d_]", label):
            raise NoCaption(
                "unclear_label",
                f"{plain!r} says nothing by itself; describe it under `labels` in a file configs/templates/<name>.yaml",
            )
        negation = _NEGATION.match(plain)
        return (f"no {plain[negation.end() :]}" if negation else plain,)

    def check_gaps(self, columns: Collection[str]) -> None:
        """Raises GapError if a template has a gap that neither the label, nor a field, nor a column fills."""
        for template in (*self.templates, *self.negated, *self.normal):
            for gap in gaps_of(template):
                names = [LABEL, *(self.fields or {}), *columns]
                if gap not in names:
                    raise GapError(
                        f"templates {self.name!r}: {template!r} has the gap {{{gap}}}, which nothing fills; "
                        f"there are {', '.join(dict.fromkeys(names))}"
                    )

    def columns(self) -> list[str]:
        """Names of all gaps but the label."""
        gaps = [gap for t in (*self.templates, *self.negated, *self.normal) for gap in gaps_of(t) if gap != LABEL]
        return list(dict.fromkeys(gaps))


def gaps_of(template: str) -> list[str]:
    """The names in a template's braces."""
    return [name for _, name in GAP.findall(template)]


def fold(label: str) -> str:
    """Equal for labels that differ in case, blanks, underscores and hyphens alone."""
    return re.sub(r"[\s_-]+", " ", label).strip().casefold()


def tidy(label: str) -> str:
    """A name of a folder or a class as words: underscores are blanks; the case stays, since it can mean something."""
    return " ".join(label.replace("_", " ").split())


def is_negated(phrase: str) -> bool:
    """Whether words for a label say that something is absent: they begin with no, not, without."""
    return _NEGATION.match(phrase) is not None


def _join(phrases: Sequence[str]) -> str:
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def _fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its gaps filled; empty if a value is missing. A sentence begins with a capital."""
    if not all(values.get(name) for name in gaps_of(template)):
        return ""

    # Not str.format: a name such as {label.__class__} would reach into objects, and values are never read again.
    def fill(gap: re.Match[str]) -> str:
        value = values[gap[2]]
        return with_article(value) if gap[1] else value

    text = " ".join(GAP.sub(fill, template).split())
    first = re.match(r"[^\W\d_]+", text)
    if text.endswith(".") and first and first[0].islower():
        text = text[0].upper() + text[1:]
    return text


_LETTERS_WITH_AN = "AEFHILMNORSX"
"""Letters whose names begin with a vowel: an MRI, an X-ray."""
_SAID_AS_WORDS = ("FAST", "FLAIR", "HER", "LASIK", "MALT", "MERS", "MIP", "NASH", "SARS", "SPECT", "STIR")
_LIKE_YOU = re.compile(r"eu|ewe|one|once|u$|ubi|uni(?!n|m|dent)|ur(?![bcgnt])|us[eu]|ut[aeir]|uv")
"""Words that begin with a vowel and sound as "you" or "one": a ureter, a unilateral effusion."""
_SILENT_H = ("heir", "honest", "honor", "honour", "hour")


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an", by how it sounds: an MRI, a CT, a ureter, an ulcer, an 8 mm nodule."""
    match = re.match(r"[^\W_]+", phrase)
    word = match[0] if match else ""
    if word[:1].isdigit():
        vowel = word.startswith("8") or word in ("11", "18")
    elif word.isupper() and word.rstrip("0123456789") not in _SAID_AS_WORDS:
        vowel = word[0] in _LETTERS_WITH_AN
    else:
        lower = word.lower()
        vowel = lower.startswith(_SILENT_H) or (lower[:1] in tuple("aeiou") and not _LIKE_YOU.match(lower))
    return f"{'an' if vowel else 'a'} {phrase}"
