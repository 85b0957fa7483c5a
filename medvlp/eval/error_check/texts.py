"""Texts that are checked for an error: what is asked, and what is right."""

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from medvlp.eval.error_check.verdicts import CORRECT, Verdict, read_verdict
from medvlp.eval.models.answering import AnsweringModel
from medvlp.eval.prompting.examples import ReadSample
from medvlp.eval.statistics.fields import fields_of
from medvlp.eval.vqa.questions import Question, QuestionFilter, QuestionGroup, check_prompt, question_of
from medvlp.shards import BadSample, Sample

_NUMBERED = re.compile(r"(?m)^[ \t]*(?P<number>\d{1,4})(?:\s*[|.):])?[ \t]+(?P<sentence>\S[^\n]*?)[ \t]*$")
REASONS = {
    "no_error_fields": "error_sentence_id is missing or no number; it is -1 where the text is right",
    "no_sentences": "no numbered sentences, a line each",
    "unknown_sentence": "error_sentence_id is the number of no sentence",
}
"""Why a conversation is no text to check, in words."""


@dataclass(frozen=True)
class CheckedTexts:
    """The texts of one sample. group: their questions. sentences, truths: of each by the question's id."""

    group: QuestionGroup
    sentences: dict[str, dict[int, str]]
    truths: dict[str, Verdict]
    error_types: dict[str, str]


def read_texts(
    sample: Sample, row: int, question_filter: QuestionFilter, model: AnsweringModel
) -> tuple[CheckedTexts, Counter[str]]:
    """The texts of a sample that are asked about, and a count of its other conversations by reason."""
    images = [sample.images[name] for name in sorted(sample.images)] if model.takes_images else []
    questions, excluded = [], Counter[str]()
    sentences: dict[str, dict[int, str]] = {}
    truths: dict[str, Verdict] = {}
    for number, conversation in enumerate(sample.conversations):
        name = f"{sample.key}#{conversation.id or number}"
        try:
            question = question_of(name, conversation, question_filter)
            of_text = sentences_of(question.text)
            truth = truth_of(conversation.metadata, of_text)
            question = question if model.takes_images else question.without_images()
            check_prompt(question, images, question_filter, model)
        except BadSample as problem:
            excluded[problem.reason] += 1
            continue
        questions.append(question)
        sentences[name], truths[name] = of_text, truth
    metadata = sample.metadata
    group = QuestionGroup(
        row,
        sample.key,
        str(metadata.get("group") or sample.key),
        str(metadata.get("group_kind") or ""),
        len(images),
        tuple(questions),
        fields_of(metadata, sample.labels),
        len(sample.images) - len(images),
    )
    return CheckedTexts(group, sentences, truths, {q.id: q.question_type for q in questions}), excluded


def examples_of(question_filter: QuestionFilter) -> ReadSample:
    """Reads the texts of a sample as examples: each with its verdict in the words of MEDEC's prompt, and the reasons that the
    data give (`rationale`)."""

    def read(sample: Sample, row: int) -> list[tuple[Question, str]]:
        pairs = []
        for number, conversation in enumerate(sample.conversations):
            with suppress(BadSample):
                question = question_of(f"{sample.key}#{conversation.id or number}", conversation, question_filter)
                truth = truth_of(conversation.metadata, sentences_of(question.text))
                rationale = str(conversation.metadata.get("rationale") or "").strip()
                pairs.append((replace(question, target=words_of(truth)), rationale))
        return pairs

    return read


def vote_of(question: Question, scorer: str, response: str) -> str | None:
    """What of a reply votes: its sentence, or that there is none; corrections differ by a word, and have no votes of their own.
    None where it cannot be told."""
    verdict = read_verdict(response, sentences_of(question.text)).answer
    if verdict is None:
        return None
    if not verdict.has_error:
        return "CORRECT"
    return "an error" if verdict.sentence is None else f"sentence {verdict.sentence}"


def words_of(verdict: Verdict) -> str:
    """A verdict in the form that MEDEC's prompt asks for."""
    return f"{verdict.sentence} {verdict.correction}".strip() if verdict.has_error else "CORRECT"


def sentences_of(text: str) -> dict[int, str]:
    """Number → sentence of the lines that begin with a number. Raises BadSample `no_sentences`."""
    sentences = {int(match["number"]): match["sentence"] for match in _NUMBERED.finditer(text)}
    if not sentences:
        raise BadSample("no_sentences")
    return sentences


def truth_of(metadata: Mapping[str, Any], sentences: Mapping[int, str]) -> Verdict:
    """What is right, from a conversation's `error_sentence_id` (-1: the text is) and `corrected_sentence`.

    Raises:
        BadSample: `no_error_fields`, `unknown_sentence`.
    """
    try:
        number = int(str(metadata.get("error_sentence_id", "")))
    except ValueError:
        raise BadSample("no_error_fields") from None
    if number < 0:
        return CORRECT
    if number not in sentences:
        raise BadSample("unknown_sentence")
    return Verdict(True, number, str(metadata.get("corrected_sentence") or "").strip())
