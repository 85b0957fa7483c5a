"""Reports of which half have one error that was put in: from the texts of any prepared folder.

Texts in English are cut into numbered sentences. Whether one stays right is decided by a hash of its key, and so are the kind of
error, the sentence and the change. What was changed stands in the conversation's metadata: `question_type` (the kind),
`error_sentence_id` (-1: nothing), `error_sentence` and `corrected_sentence` (the original). Texts in which the rules find no
place for any error are drops, whether they would have stayed right or not: otherwise short texts would be right more often.
The limits of the rules stand in `rules`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from data_prep.captions.sentences import sentences
from data_prep.errors import PrepError
from data_prep.source import Dropped, Options
from data_prep.sources.prepared.folders import PreparedSource, name_of
from data_prep.sources.prepared.report_errors.rules import KINDS, Change, changes
from data_prep.vocabulary.text import tidy
from medvlp.shards import Conversation, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN


@dataclass(frozen=True)
class ReportErrorOptions(Options):
    """Options of the source report_errors."""

    text: str = "caption"
    """The text field, e.g. findings."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Kinds of error, of side, negation_removed, negation_added, severity, number, unit, organ, inserted, dropped."""
    question: str = "Does this text contain an error?"
    """Stands behind the text."""
    show_images: bool = True
    """Whether the sample's images are shown next to the text."""
    least_sentences: int = 1
    """Texts with fewer sentences are drops."""
    seed: int = 0
    """Of what is chosen, which depends besides on the sample's key alone."""


class ReportErrors(PreparedSource):
    """Reader of a prepared folder with texts. Raises PrepError: options that name nothing."""

    name = "report_errors"
    description = "reports of which half have one error put in, from the texts of a prepared folder"
    page = "docs/data.md#errors-put-into-reports"
    files = "a folder that medvlp prep wrote, whose samples have texts in English"
    option_type = ReportErrorOptions
    choices: ReportErrorOptions

    def __init__(self, input: str, samples_per_shard: int = 1000, **options: Any) -> None:
        super().__init__(input, samples_per_shard, **options)
        choices = self.choices
        if unknown := [kind for kind in choices.kinds if kind not in KINDS]:
            raise PrepError(f"options.kinds: {', '.join(unknown)} are no kinds of error; there are {', '.join(KINDS)}")
        if not choices.kinds or not choices.text or not choices.question.strip():
            raise PrepError("options.kinds, options.text and options.question: none of them may be empty")
        if choices.least_sentences < 1:
            raise PrepError(f"options.least_sentences={choices.least_sentences}, expected 1 or more")

    def options(self) -> dict[str, Any]:
        """All choices."""
        choices = self.choices
        return super().options() | {
            "text": choices.text,
            "kinds": list(choices.kinds),
            "question": choices.question,
            "show_images": choices.show_images,
            "least_sentences": choices.least_sentences,
            "seed": choices.seed,
        }

    def made_of(self, sample: Sample, split: str) -> Sample | Dropped:
        """The sample with one conversation about its text.

        Drops: no_text, placeholder_count, too_few_sentences, no_error_fits.
        """
        text = tidy(sample.texts.get(self.choices.text, ""))
        name = name_of(sample)
        if not text:
            return Dropped(name, "no_text", f"the sample has no text {self.choices.text!r}")
        if IMAGE_TOKEN in text:
            return Dropped(name, "placeholder_count", f"the text holds {IMAGE_TOKEN}, which stands for images")
        lines = [text[start:stop] for start, stop in sentences(text)]
        if len(lines) < self.choices.least_sentences:
            return Dropped(name, "too_few_sentences", f"{len(lines)}, expected {self.choices.least_sentences} or more")
        possible = changes(lines, self.choices.kinds)
        if not possible:
            return Dropped(name, "no_error_fits", "no rule finds a place for an error in this text")
        change = None if self._number(sample.key, "clean") % 2 else self._chosen(sample.key, possible)
        self.counts["read", f"error: {change.kind}" if change else "texts left right"] += 1
        sample.images = sample.images if self.choices.show_images else {}
        sample.texts, sample.conversations = {}, [self._conversation(lines, change, len(sample.images))]
        return sample

    def _chosen(self, key: str, possible: list[Change]) -> Change:
        """Of the kinds that fit each alike, then of the kind's changes."""
        kinds = sorted({change.kind for change in possible}, key=lambda kind: self._number(key, f"kind {kind}"))
        of_kind = [change for change in possible if change.kind == kinds[0]]
        return min(of_kind, key=lambda change: self._number(key, f"change {change.sentence} {change.text}"))

    def _number(self, key: str, subject: str) -> int:
        digest = hashlib.sha256(f"{self.choices.seed}\0{key}\0{subject}".encode()).digest()
        return int.from_bytes(digest[:8], "big")

    def _conversation(self, lines: list[str], change: Change | None, images: int) -> Conversation:
        metadata: dict[str, Any] = {"answer_type": "closed", "language": "en", "error_sentence_id": -1}
        if change:
            metadata |= {
                "question_type": change.kind,
                "error_sentence_id": change.sentence,
                "error_sentence": change.text,
                "corrected_sentence": lines[change.sentence],
            }
            lines = [*lines[: change.sentence], change.text, *lines[change.sentence + 1 :]]
        numbered = "\n".join(f"{number} {line}" for number, line in enumerate(lines))
        question = f"{IMAGE_TOKEN}\n" * images + f"{numbered}\n{self.choices.question}"
        answer = "yes" if change else "no"
        return Conversation([Turn("user", question), Turn("assistant", answer)], "error", metadata)
