"""What is asked about a sample whose text is wanted, and what the text is compared with."""

from collections import Counter
from dataclasses import dataclass

from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.statistics.fields import fields_of
from medvlp.eval.vqa.metrics import OPEN
from medvlp.eval.vqa.questions import Question, QuestionGroup
from medvlp.shards import BadSample, Sample, Turn
from medvlp.shards.vocabulary import IMAGE_TOKEN

LONGEST = 100_000
"""Characters of a reference or a source: what is longer is no caption or report, and would take hours to compare."""
REASONS = {
    "no_reference": "no text to compare with",
    "no_source": "no text to write about",
    "no_image": "no image to write about",
    "text_too_long": f"a text of more than {LONGEST} characters",
    "too_long": "too long for the model, with room for an answer",
    "too_large": "larger than what the server takes",
}
"""Why no text is asked for, in words."""


@dataclass(frozen=True)
class TextPrompt:
    """How a text is asked for.

    references: text fields that it is compared with. instruction, source, shows_images, max_new_tokens: as of the task.
    """

    references: tuple[str, ...]
    instruction: str
    source: str = ""
    shows_images: bool = True
    max_new_tokens: int = 256

    def group(self, sample: Sample, row: int, model: AnsweringModel) -> tuple[QuestionGroup, Counter[str]]:
        """The one question about a sample, or none and the reason."""
        fields = fields_of(sample.metadata, sample.labels)
        metadata = sample.metadata
        cluster, cluster_kind = str(metadata.get("group") or sample.key), str(metadata.get("group_kind") or "")
        all_images = [sample.images[name] for name in sorted(sample.images)] if self.shows_images else []
        images = all_images if model.takes_images else []
        withheld = len(all_images) - len(images)
        reason = ""
        questions: tuple[Question, ...] = ()
        try:
            question = self.question(sample, len(all_images))
            if not images:
                question = question.without_images()
            if not model.fits(question.turns, question.turns, images, (), self.max_new_tokens):
                raise BadSample("too_long")
            questions = (question,)
        except BadSample as problem:
            reason = problem.reason
        group = QuestionGroup(row, sample.key, cluster, cluster_kind, len(images), questions, fields, withheld)
        return group, Counter([reason] if reason else [])

    def texts_of(self, texts: dict[str, str]) -> list[str]:
        """A sample's references: those of the fields that it has, each text once. Raises BadSample: `text_too_long`."""
        references = [texts.get(name, "").strip() for name in self.references]
        if any(len(text) > LONGEST for text in references):
            raise BadSample("text_too_long")
        return list(dict.fromkeys(text for text in references if text))

    def question(self, sample: Sample, count: int) -> Question:
        """What is asked about a sample with so many images that are shown. Raises BadSample: one of `REASONS`."""
        references = self.texts_of(sample.texts)
        source = sample.texts.get(self.source, "").strip() if self.source else ""
        if not references:
            raise BadSample("no_reference")
        if self.source and not source:
            raise BadSample("no_source")
        if not self.source and not count:
            raise BadSample("no_image")
        if len(source) > LONGEST:
            raise BadSample("text_too_long")
        turns: tuple[Turn, ...] = (Turn("user", f"{IMAGE_TOKEN}\n" * count + self._words(source)),)
        return Question(
            id=sample.key,
            text=self.instruction,
            turns=turns,
            target=references[0],
            answers=tuple(references),
            answer_type=OPEN,
            question_type="",
            language="",
        )

    def _words(self, source: str) -> str:
        if "{text}" in self.instruction:
            return self.instruction.replace("{text}", source)
        return f"{self.instruction}\n\n{source}" if source else self.instruction


def reason_in_words(reason: str) -> str:
    """Why no text is asked for, for people."""
    return REASONS.get(reason, reason.replace("_", " "))
