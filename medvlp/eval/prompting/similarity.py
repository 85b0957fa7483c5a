"""Similarity of texts by their words: cosines of tf-idf vectors, without a model.

P: texts.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medvlp.eval.answers.normalization import tokens


class WordVectors:
    """Texts by their words: how often each occurs, weighted by ln((1 + P) / (1 + texts that have it)) + 1, as scikit-learn's
    TfidfVectorizer weights them."""

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [Counter(tokens(text)) for text in texts]
        texts_with = Counter(word for of_text in counts for word in of_text)
        self.size = len(texts)
        self.weights = {word: math.log((1 + len(texts)) / (1 + n)) + 1 for word, n in texts_with.items()}
        postings: dict[str, list[tuple[int, float]]] = {}
        for index, of_text in enumerate(counts):
            for word, weight in self._vector(of_text).items():
                postings.setdefault(word, []).append((index, weight))
        self._postings = {
            word: (np.array([i for i, _ in entries], np.int64), np.array([weight for _, weight in entries], np.float64))
            for word, entries in postings.items()
        }

    def similarity(self, text: str) -> NDArray[np.float64]:
        """similarity_P: cosines of a text and all of them; words that none of them has do not count."""
        similarity_P = np.zeros(self.size)
        for word, weight in self._vector(Counter(tokens(text))).items():
            indices, weights = self._postings[word]
            similarity_P[indices] += weight * weights
        return similarity_P

    def _vector(self, counts: Counter[str]) -> dict[str, float]:
        vector = {word: count * self.weights[word] for word, count in counts.items() if word in self.weights}
        norm = math.sqrt(sum(weight**2 for weight in vector.values()))
        return {word: weight / norm for word, weight in vector.items()}
