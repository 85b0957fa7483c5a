"""Recall, hits and nDCG of one query against scikit-learn, and against the definitions by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from medvlp.eval.retrieval.graded import graded_scores, ndcg, relevant_ranks


def pessimistic_order(score_C, grade_C, relevant_from):
    """Candidates one by one, of a tie those first that are not relevant: the definition, with a sort of Python."""
    return sorted(range(len(score_C)), key=lambda i: (-score_C[i], grade_C[i] >= relevant_from))


@pytest.mark.parametrize("levels", [3, 1000])
def test_equal_to_sklearn_and_to_the_definition(levels):
    """Scores on few levels tie often, also where rank k cuts a tie."""
    generator = np.random.default_rng(levels)
    for count in (1, 2, 9, 10, 11, 60):
        score_C = generator.integers(0, levels, count) / 7
        grade_C = generator.choice([0.0, 0.0, 0.5, 1.0, 3.0], count)
        grade_C[generator.integers(count)] = 2.0
        order = pessimistic_order(score_C, grade_C, 1.0)
        relevant = {i for i in range(count) if grade_C[i] >= 1}
        scores, rank = graded_scores(score_C, grade_C, 1.0, [1, 5, 10], [1, 5, 10])
        for k in (1, 5, 10):
            if count > 1:  # scikit-learn refuses a single document
                assert scores[f"ndcg@{k}"] == pytest.approx(ndcg_score([grade_C], [score_C], k=k), abs=1e-12)
            assert scores[f"recall@{k}"] == len(relevant & set(order[:k])) / len(relevant)
            assert scores[f"hit@{k}"] == float(bool(relevant & set(order[:k])))
        assert rank == 1 + next(i for i, row in enumerate(order) if row in relevant)


def test_by_hand():
    score_C, grade_C = np.array([0.9, 0.9, 0.5, 0.1]), np.array([1.0, 0.0, 2.0, 0.0])
    # The two that tie share grade 1: (1/2)/log2(2) + (1/2)/log2(3); then 2/log2(4).
    dcg, ideal = 0.5 + 0.5 / math.log2(3) + 1, 2 + 1 / math.log2(3)
    assert ndcg(score_C, grade_C, 10) == pytest.approx(dcg / ideal, abs=1e-15)
    assert ndcg(score_C, grade_C, 1) == pytest.approx(0.5 / 2, abs=1e-15)
    assert relevant_ranks(score_C, grade_C >= 1).tolist() == [2, 3]  # the tie counts against
    assert ndcg(np.ones(4), grade_C, 4) == pytest.approx(ndcg_score([grade_C], [np.ones(4)]), abs=1e-15)
