"""Scores of one text against its references, and their names in words."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from medvlp.eval.text import overlap
from medvlp.eval.text.cider import CiderD
from medvlp.eval.text.findings.rules import State, states_of
from medvlp.eval.text.tokens import tokens

SCORERS = {
    "bleu": "corpus BLEU-1 to BLEU-4 as sacrebleu's: clipped n-grams, closest reference, exponential smoothing",
    "chrf": "corpus chrF as sacrebleu's: 6 orders of characters, β = 2, case kept, without whitespace",
    "rouge": "ROUGE-1, -2 and -L: mean F1 of rouge_score, the best reference of each text, no stems",
    "cider_d": "CIDEr-D, 0 to 10, as pycocoevalcap's; document frequencies of the references of all samples of the split",
    "findings": "findings that the text states against those that its references state, by rules "
    "(medvlp.eval.text.findings): present and uncertain count as stated, negated ones do not",
}
"""Name in a task's `metrics` → what it is, without METEOR, which depends on the machine's data."""
METEOR = "METEOR of nltk, the best reference of each text; words match by themselves and by Porter's stems"
WITH_SYNONYMS, WITHOUT_SYNONYMS = (
    ", then by WordNet's synonyms",
    "; synonyms left out: nltk's WordNet data are not here",
)


@dataclass(frozen=True)
class TextScores:
    """What one text got.

    scores: metric → value, of metrics that are means over texts.
    numbers: bleu, chrf → counts that add up over texts.
    findings: finding → state, as the text has it.
    """

    scores: dict[str, float]
    numbers: dict[str, list[int]]
    findings: dict[str, State] = field(default_factory=dict)


class TextScorer:
    """Scores of texts by some of `TEXT_METRICS`.

    Args:
        metrics: their names.
        tokenization: of `TOKENIZATIONS`.
        documents: the references of every sample of the split, of which CIDEr-D counts frequencies.
    """

    def __init__(self, metrics: Iterable[str], tokenization: str, documents: Iterable[Sequence[str]]) -> None:
        self.metrics, self.tokenization = tuple(metrics), tokenization
        self.cider = CiderD(map(self._tokens_of, documents)) if "cider_d" in self.metrics else None

    def score(self, prediction: str, references: Sequence[str]) -> TextScores:
        """Of one text against its references; none of them is blank."""
        words, words_of_references = tokens(prediction, self.tokenization), self._tokens_of(references)
        scores: dict[str, float] = {}
        numbers: dict[str, list[int]] = {}
        for metric in self.metrics:
            if metric == "bleu":
                numbers[metric] = overlap.bleu_numbers(words, words_of_references)
            elif metric == "chrf":
                numbers[metric] = overlap.chrf_numbers(prediction, references)
            elif metric == "rouge":
                scores |= overlap.rouge(words, words_of_references)
            elif metric == "meteor":
                scores["meteor"] = overlap.meteor(words, words_of_references)
            elif self.cider is not None and metric == "cider_d":
                scores["cider_d"] = self.cider.score(words, words_of_references)
        return TextScores(scores, numbers, states_of(prediction) if "findings" in self.metrics else {})

    def _tokens_of(self, references: Sequence[str]) -> list[list[str]]:
        return [tokens(reference, self.tokenization) for reference in references]


def scorers_of(metrics: Iterable[str]) -> dict[str, Any]:
    """Name of `TEXT_METRICS` → what it is, on this machine."""
    names = list(metrics)
    meteor = METEOR + (WITH_SYNONYMS if "meteor" in names and overlap.has_wordnet() else WITHOUT_SYNONYMS)
    return {name: (SCORERS | {"meteor": meteor})[name] for name in names}
