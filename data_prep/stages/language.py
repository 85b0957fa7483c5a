"""Language of a sample's texts, by py3langid (langid.py, Lui & Baldwin 2012; no download, deterministic)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from data_prep.draft import Draft, Drop
from medvlp.shards import Conversation

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

UNDETERMINED = "undetermined"
LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "ru", "zh", "ja", "ko", "tr", "ar", "fa"),
    *("he", "sv", "da", "no", "fi", "hu", "ro", "el", "uk", "vi", "th", "id", "hi", "ca", "bg", "hr"),
)
"""ISO 639-1 codes that are told apart. Among all of the model's 140, captions full of anatomy pass for Latin or Pidgin."""

MIN_BYTES = 20
"""Letters that a text needs, in bytes of UTF-8: a Chinese character counts as three, for it says as much."""
MIN_PROBABILITY = 0.5


def language(draft: Draft, keep: list[str] | None = None) -> Draft:
    """metadata["language"] of the caption and of each conversation; what is in none of the languages to keep, goes.

    keep: ISO 639-1 codes; none given: all stay. A conversation keeps the language that its publisher says. Texts that are
    short (`MIN_BYTES`) or unclear (`MIN_PROBABILITY`) are "undetermined", and stay. A sample without a caption speaks the
    languages of its conversations ("en+zh"). Conversations in other languages are taken out and counted. Raises Drop
    "language_not_kept" if the caption is in another language, or nothing is left.
    """
    sample = draft.sample
    languages = set(keep or [])
    unknown = languages - set(LANGUAGES)
    if unknown:
        raise ValueError(f"language: cannot tell {', '.join(sorted(unknown))}; keep can be of {', '.join(LANGUAGES)}")

    def is_kept(code: str) -> bool:
        return not languages or code in languages or code == UNDETERMINED

    caption = sample.texts.get("caption", "")
    by_language: dict[str, list[Conversation]] = {}
    for conversation in sample.conversations:
        text = " ".join(turn.text for turn in conversation.turns)
        code = str(conversation.metadata.get("language") or detect(text))
        conversation.metadata["language"] = code
        by_language.setdefault(code, []).append(conversation)
    languages_of_sample = detect(caption) if caption else "+".join(sorted(c for c in by_language if is_kept(c)))
    if caption and not is_kept(languages_of_sample):
        raise Drop("language", "language_not_kept", languages_of_sample)
    if by_language and not caption and not languages_of_sample:
        raise Drop("language", "language_not_kept", "+".join(sorted(by_language)))
    for code, conversations in sorted(by_language.items()):
        if not is_kept(code):
            draft.count("language", f"conversations in {code}", len(conversations))
            sample.conversations = [c for c in sample.conversations if c.metadata["language"] != code]
    sample.metadata["language"] = languages_of_sample or UNDETERMINED
    draft.count("language", sample.metadata["language"])
    return draft


def detect(text: str) -> str:
    """The ISO 639-1 code of the text's language, or "undetermined"."""
    if sum(len(c.encode("utf-8", "replace")) for c in text if c.isalpha()) < MIN_BYTES:
        return UNDETERMINED
    code, probability = _identifier().classify(text)
    return str(code) if probability >= MIN_PROBABILITY else UNDETERMINED


@lru_cache(maxsize=1)
def _identifier() -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(LANGUAGES))
    return identifier
