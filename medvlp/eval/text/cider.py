"""CIDEr-D (Vedantam, Zitnick and Parikh 2015): n-grams weighed by how rare they are in the references of a split."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

ORDERS = 4
SIGMA = 6.0
"""Width of the penalty for a length that differs."""

_Ngram = tuple[str, ...]


class CiderD:
    """The metric with the document frequencies of a split, as the authors' code in pycocoevalcap computes it.

    A document is all references of one item. Lengths are counted in bigrams, and a clipped weight is multiplied by the
    reference's, both as there. Values lie in 0 to 10; papers often give them as percent of the first unit.

    Args:
        documents: the references of each item, each reference as its tokens.
    """

    def __init__(self, documents: Iterable[Sequence[Sequence[str]]]) -> None:
        self.frequency = Counter[_Ngram]()
        self.documents = 0
        for references in documents:
            self.documents += 1
            self.frequency.update({ngram for tokens in references for ngram in _ngrams(tokens)})
        self.longest = math.log(max(1, self.documents))

    def score(self, prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
        """Of one text, as tokens, against the mean of its references; 0.0 of one without tokens."""
        hypothesis = self._vector(prediction)
        total = sum(self._similarity(hypothesis, self._vector(reference)) for reference in references)
        return 10.0 * total / ORDERS / len(references)

    def _vector(self, tokens: Sequence[str]) -> tuple[dict[_Ngram, float], list[float], int]:
        """tf-idf by n-gram, the norm of each order, and the length in bigrams."""
        weights: dict[_Ngram, float] = {}
        squares = [0.0] * ORDERS
        for ngram, count in _ngrams(tokens).items():
            weight = weights[ngram] = count * (self.longest - math.log(max(1, self.frequency[ngram])))
            squares[len(ngram) - 1] += weight**2
        return weights, [math.sqrt(square) for square in squares], max(0, len(tokens) - 1)

    @staticmethod
    def _similarity(
        hypothesis: tuple[dict[_Ngram, float], list[float], int],
        reference: tuple[dict[_Ngram, float], list[float], int],
    ) -> float:
        """The sum over the orders of clipped cosines, times the penalty for the difference of lengths."""
        sums = [0.0] * ORDERS
        weights = reference[0]
        for ngram, weight in hypothesis[0].items():
            if ngram in weights:
                sums[len(ngram) - 1] += min(weight, weights[ngram]) * weights[ngram]
        norms = [a * b for a, b in zip(hypothesis[1], reference[1], strict=True)]
        cosines = sum(total / norm for total, norm in zip(sums, norms, strict=True) if norm)
        return cosines * math.exp(-((hypothesis[2] - reference[2]) ** 2) / (2 * SIGMA**2))


def _ngrams(tokens: Sequence[str]) -> Counter[_Ngram]:
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, ORDERS + 1)
        for start in range(len(tokens) - order + 1)
    )
