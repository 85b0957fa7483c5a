"""Overlap of texts with references equals the figures of sacrebleu, rouge_score, nltk and pycocoevalcap on the same texts."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from nltk.translate.meteor_score import meteor_score
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from medvlp.eval.text import overlap
from medvlp.eval.text.cider import CiderD
from medvlp.eval.text.corpus import corpus_metrics
from medvlp.eval.text.tokens import tokens
from tests.eval.text.texts import PREDICTIONS, REFERENCES, TEXTS

COCO_CIDER = [
    4.357096495472184, 3.6042739992366544, 0.0, 0.42214312185668285, 1.0230122857726816, 5.997481869683085,
    3.169328899317312, 6.316452850651344, 0.0, 1.0912122908690338,
]  # fmt: skip
"""pycocoevalcap 1.2, Cider().compute_score."""
COCO_BLEU = [0.6876535176402295, 0.55763416370311, 0.45485819607718825, 0.36199959647040564]
"""pycocoevalcap 1.2, BleuScorer(n=4).compute_score(option="closest")."""

WEIGHTS_RN = np.random.default_rng(0).multinomial(len(TEXTS), [1 / len(TEXTS)] * len(TEXTS), size=8).astype(np.float64)
ALONE_RN = np.eye(len(TEXTS))


def bleu(tokenization="whitespace"):
    numbers = [
        overlap.bleu_numbers(tokens(text, tokenization), [tokens(reference, tokenization) for reference in references])
        for text, references in TEXTS
    ]
    return corpus_metrics("bleu", numbers, np.ones(len(TEXTS), bool))


def chrf():
    numbers = [overlap.chrf_numbers(text, references) for text, references in TEXTS]
    return corpus_metrics("chrf", numbers, np.ones(len(TEXTS), bool))["chrf"]


def of_library(metric, weights_N):
    rows = np.repeat(np.arange(len(TEXTS)), weights_N.astype(int))
    most = max(len(REFERENCES[row]) for row in rows)
    streams = [[(REFERENCES[row] + [None] * most)[position] for row in rows] for position in range(most)]
    return metric.corpus_score([PREDICTIONS[row] for row in rows], streams).score / 100


@pytest.mark.parametrize(
    ("tokenization", "library"), [("whitespace", "none"), ("13a", "13a"), ("characters", "char"), ("words", "zh")]
)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_is_sacrebleus(order, tokenization, library):
    metric, peer = bleu(tokenization)[f"bleu_{order}"], BLEU(max_ngram_order=order, tokenize=library)
    assert metric(None) == pytest.approx(of_library(peer, np.ones(len(TEXTS))), abs=1e-12)
    expected_R = [of_library(peer, weights_N) for weights_N in WEIGHTS_RN]
    assert metric(WEIGHTS_RN) == pytest.approx(expected_R, abs=1e-12)
    assert metric(ALONE_RN) == pytest.approx([of_library(peer, weights_N) for weights_N in ALONE_RN], abs=1e-12)


def test_bleu_is_that_of_coco_captions():
    assert [metric(None) for metric in bleu().values()] == pytest.approx(COCO_BLEU, abs=1e-9)


def test_chrf_is_sacrebleus():
    for weights_RN in (np.ones((1, len(TEXTS))), WEIGHTS_RN, ALONE_RN):
        expected_R = [of_library(CHRF(), weights_N) for weights_N in weights_RN]
        assert chrf()(weights_RN) == pytest.approx(expected_R, abs=1e-12)
    assert 0 < chrf()(None) < 1


def test_a_resample_without_a_text_has_no_value():
    nothing = np.zeros((1, len(TEXTS)))
    assert np.isnan(chrf()(nothing)).all()
    assert np.isnan(bleu()["bleu_4"](nothing)).all()


def test_rouge_is_rouge_scores_where_that_cuts_texts_alike():
    peer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    latin = [pair for pair in TEXTS if " ".join([pair[0], *pair[1]]).isascii()]
    assert len(latin) == 7
    for text, references in latin:
        scores = overlap.rouge(tokens(text, "words"), [tokens(reference, "words") for reference in references])
        expected = [score.fmeasure for score in peer.score_multi(references, text).values()]
        assert list(scores.values()) == pytest.approx(expected, abs=1e-15)


def test_rouge_l_is_rouge_scores_on_random_tokens():
    generator = np.random.default_rng(0)
    peer = RougeScorer(["rougeL"], tokenizer=SimpleNamespace(tokenize=list))
    for words in (2, 5, 40) * 15:
        text, *references = [[f"w{n}" for n in generator.integers(0, words, generator.integers(0, 70))] for _ in "abc"]
        expected = peer.score_multi(references, text)["rougeL"].fmeasure
        assert overlap.rouge(text, references)["rouge_l"] == expected


def test_rouge_of_long_texts_needs_no_table():
    text = [f"w{n % 977}" for n in range(20_000)]
    assert overlap.common_length(text, text[::2]) == 10_000
    assert overlap.common_length([], text) == 0


def test_rouge_counts_chinese():
    scores = overlap.rouge(tokens("左侧胸腔积液", "words"), [tokens("右侧胸腔积液", "words")])
    assert scores == pytest.approx({"rouge_1": 5 / 6, "rouge_2": 4 / 5, "rouge_l": 5 / 6})


def test_meteor_is_nltks_without_synonyms():
    for text, references in TEXTS:
        words = [reference.split() for reference in references]
        expected = meteor_score(words, text.split(), wordnet=overlap.NoSynonyms())
        assert overlap.meteor(text.split(), words) == expected
    assert overlap.meteor(["fractures"], [["fracture"]]) == pytest.approx(0.5)  # a stem; one match is one chunk
    assert overlap.meteor([], [["heart"]]) == 0.0


def test_meteor_of_long_texts():
    """Linear: texts of 30,000 words that share nothing would be 900 million comparisons."""
    words = [f"x{number % 997}" for number in range(30_000)]
    assert overlap.meteor([f"y{word}" for word in words], [words]) == 0.0
    assert overlap.meteor(words, [words]) == pytest.approx(1.0)


class Synonyms:
    def synsets(self, word):
        lemmas = [SimpleNamespace(name=lambda name=name: name) for name in {"tumor": ["mass"]}.get(word, [])]
        return [SimpleNamespace(lemmas=lambda: lemmas)]


def test_meteor_matches_synonyms_where_the_data_are(monkeypatch):
    pair = ["tumor", "seen"], [["mass", "seen"]]  # words that are their own stems
    monkeypatch.setattr(overlap, "_wordnet", lambda: None)
    assert not overlap.has_wordnet()
    assert overlap.meteor(*pair) == pytest.approx(0.25)
    monkeypatch.setattr(overlap, "_wordnet", Synonyms)
    assert overlap.has_wordnet()
    assert overlap.meteor(*pair) == meteor_score(pair[1], pair[0], wordnet=Synonyms()) == pytest.approx(0.9375)


def test_cider_is_pycocoevalcaps():
    metric = CiderD([[reference.split() for reference in references] for references in REFERENCES])
    values = [metric.score(text.split(), [r.split() for r in references]) for text, references in TEXTS]
    assert values == pytest.approx(COCO_CIDER, abs=1e-12)


def test_cider_knows_how_rare_an_ngram_is_in_other_samples():
    common = CiderD([[["the", "heart"]], [["the", "lung"]], [["the", "liver"]]])
    assert common.frequency[("the",)] == 3
    assert common.score(["the"], [["the", "heart"]]) == 0.0  # log(3 / 3)
    assert common.score(["the", "heart"], [["the", "heart"]]) == pytest.approx(5.0)  # two of four orders
    assert CiderD([[["heart"]]]).score(["heart"], [["heart"]]) == 0.0  # of one document, nothing is rare


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A chest X-ray.", ["a", "chest", "x-ray"]),
        ("1.5 cm; 3/4, 12:30 and -2.5", ["1.5", "cm", "3/4", "12:30", "and", "-2.5"]),
        ("left/right (arrow), patient's", ["left", "right", "arrow", "patient's"]),
        ("mass\u2014likely benign \u2013 T2\u2010weighted", ["mass", "likely", "benign", "t2-weighted"]),
        ("SpO2 95% at 37\u00b0 > 36", ["spo2", "95", "%", "at", "37", "\u00b0", ">", "36"]),
        ("\uff11\uff12 \ufb01brosis", ["12", "fibrosis"]),
        ("肺の影CT画像", ["肺", "の", "影", "ct", "画", "像"]),
        ("ปอดปกติ ๓ cm", ["ป", "อ", "ด", "ป", "ก", "ต", "\u0e34", "๓", "cm"]),
        ("흉부 방사선", ["흉부", "방사선"]),
        ("छाती का एक्स-रे", ["छाती", "का", "एक्स-रे"]),
        ("... !?", []),
        ("", []),
    ],
)
def test_words(text, expected):
    assert tokens(text, "words") == expected


def test_other_ways_to_cut_a_text():
    text = "The heart, 1.5 cm."
    assert tokens(text, "whitespace") == ["The", "heart,", "1.5", "cm."]
    assert tokens(text, "13a") == ["The", "heart", ",", "1.5", "cm", "."]
    assert Counter(tokens("肺 Ab", "characters")) == Counter("肺ab")
