"""Overlap of a text with its references: BLEU's and chrF's counts, ROUGE, METEOR."""

from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

from medvlp.eval.text.corpus import BLEU_ORDERS, CHRF_BETA, CHRF_ORDERS

Tokens = Sequence[str]


def bleu_numbers(prediction: Tokens, references: Sequence[Tokens]) -> list[int]:
    """Length, the closest reference's length, matches of each order, n-grams of each order, as sacrebleu counts them."""
    score = _sacrebleu().sentence_score(" ".join(prediction), [" ".join(tokens) for tokens in references])
    return [score.sys_len, score.ref_len, *score.counts, *score.totals]


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics import BLEU  # here: only this metric needs it

    return BLEU(effective_order=True, tokenize="none", max_ngram_order=BLEU_ORDERS)


def chrf_numbers(prediction: str, references: Sequence[str]) -> list[int]:
    """For each order the n-grams of the text, those of its best reference, and the matches: characters as they stand,
    without whitespace. The best reference is the first with the highest chrF of this text alone."""
    counts = _character_ngrams(prediction)
    rows = [_chrf_row(counts, _character_ngrams(reference)) for reference in references]
    return max(rows, key=_chrf_of)


def _chrf_row(counts: Sequence[Counter[str]], reference: Sequence[Counter[str]]) -> list[int]:
    numbers: list[int] = []
    for of_text, of_reference in zip(counts, reference, strict=True):
        matches = sum(min(count, of_reference[ngram]) for ngram, count in of_text.items() if ngram in of_reference)
        numbers += [of_text.total() if of_reference else 0, of_reference.total(), matches]
    return numbers


def _chrf_of(numbers: Sequence[int]) -> float:
    """The order of candidates, which is that of chrF."""
    triples = [numbers[start : start + 3] for start in range(0, len(numbers), 3)]
    triples = [triple for triple in triples if triple[0] and triple[1]]
    if not triples:
        return 0.0
    precision = sum(matches / of_text for of_text, _, matches in triples) / len(triples)
    recall = sum(matches / of_reference for _, of_reference, matches in triples) / len(triples)
    weighted = CHRF_BETA**2 * precision + recall
    return (1 + CHRF_BETA**2) * precision * recall / weighted if weighted else 0.0


@lru_cache(maxsize=256)  # a reference is compared with the text and with each control's
def _character_ngrams(text: str) -> list[Counter[str]]:
    characters = "".join(text.split())
    return [
        Counter(characters[start : start + order] for start in range(len(characters) - order + 1))
        for order in range(1, CHRF_ORDERS + 1)
    ]


def rouge(prediction: Tokens, references: Sequence[Tokens]) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 (Lin 2004) by rouge_score, and ROUGE-L as it has it: F1 of the best reference, without stems."""
    scores = _rouge().score_multi(list(references), prediction)
    values = {name: float(scores[key].fmeasure) for name, key in _ROUGE.items()}
    return values | {"rouge_l": max(_rouge_l(prediction, reference) for reference in references)}


def _rouge_l(prediction: Tokens, reference: Tokens) -> float:
    length = common_length(prediction, reference)
    if not length:
        return 0.0
    precision, recall = length / len(prediction), length / len(reference)
    return 2 * precision * recall / (precision + recall)


def common_length(a: Tokens, b: Tokens) -> int:
    """Length of the longest common subsequence, a bit for each token of `a` (Hyyrö 2004): memory for one row of the table
    alone, which rouge_score holds whole."""
    positions: dict[str, int] = {}
    for position, token in enumerate(a):
        positions[token] = positions.get(token, 0) | 1 << position
    all_bits = row = (1 << len(a)) - 1
    for token in b:
        matches = row & positions.get(token, 0)
        if matches:
            row = ((row + matches) | (row - matches)) & all_bits
    return len(a) - row.bit_count()


_ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2"}


class _Tokens:
    """Stands for rouge_score's tokenizer where texts are tokens already."""

    def tokenize(self, tokens: Tokens) -> list[str]:
        return list(tokens)


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # here: it imports nltk, which takes a second

    return RougeScorer(list(_ROUGE.values()), tokenizer=_Tokens())


def meteor(prediction: Tokens, references: Sequence[Tokens]) -> float:
    """METEOR (Lavie and Agarwal 2007) by nltk: the best reference. Words match by themselves, by Porter's stems and, where
    `has_wordnet`, by synonyms. Linear in the length of the texts, as nltk 3.10.4 is and 3.9 was not."""
    from nltk.translate.meteor_score import meteor_score  # here: nltk takes a second

    wordnet: Any = _wordnet() or NoSynonyms()
    return float(
        meteor_score([list(tokens) for tokens in references], list(prediction), stemmer=_Stems(), wordnet=wordnet)
    )


def has_wordnet() -> bool:
    """Whether nltk's WordNet data are on this machine, so that METEOR matches synonyms."""
    return _wordnet() is not None


class NoSynonyms:
    """Stands for WordNet where its data are absent."""

    def synsets(self, word: str) -> list[Any]:
        """None."""
        return []


class _Stems:
    """Porter's stems, each computed once."""

    def stem(self, word: str) -> str:
        return _stem(word)


@lru_cache(maxsize=2**16)
def _stem(word: str) -> str:
    return str(_porter().stem(word))


@cache
def _porter() -> Any:
    from nltk.stem.porter import PorterStemmer  # here: nltk takes a second

    return PorterStemmer()


@cache
def _wordnet() -> Any:
    from nltk.corpus import wordnet  # here: nltk takes a second

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return None
    return wordnet
