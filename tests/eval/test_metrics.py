"""Every metric against a slow reference that follows its definition, against scikit-learn, and its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from medvlp.eval import metrics
from medvlp.eval.errors import TaskError


def slow_ranks(query, gallery, matches):
    """Sort by score with the non-matching first among equals; the place of the first match."""
    ranks = []
    for q, row in zip(query, matches, strict=True):
        scores = [round(float(np.dot(q, g)), 9) for g in gallery]
        ranked = sorted(range(len(gallery)), key=lambda g: (-scores[g], g in row))
        ranks.append(1 + next(position for position, g in enumerate(ranked) if g in row))
    return ranks


def slow_auroc(score, positive):
    pairs = [(p, n) for p in score[positive] for n in score[~positive]]
    return sum(1.0 if p > n else 0.5 if p == n else 0.0 for p, n in pairs) / len(pairs)


def pairs_of(matches):
    return np.array([(q, g) for q, row in enumerate(matches) for g in row]).T


def random_matches(rng, queries, gallery):
    return [set(rng.choice(gallery, size=rng.integers(1, 4), replace=False).tolist()) for _ in range(queries)]


@pytest.mark.parametrize(
    ("scores", "target", "k", "expected"),
    [
        ([[3, 2, 1]], [0], 1, 1.0),
        ([[3, 2, 1]], [1], 1, 0.0),
        ([[3, 2, 1]], [1], 2, 1.0),
        ([[1, 1, 0]], [0], 1, 0.0),  # a tie counts against
        ([[1, 1, 0]], [0], 2, 1.0),
        ([[1, 1, 1]], [0], 2, 0.0),
        ([[2, 1], [1, 2], [2, 1], [0, 1]], [0, 0, 0, 1], 1, 0.75),
    ],
)
def test_accuracy(scores, target, k, expected):
    assert metrics.accuracy(scores, target, k) == expected


def test_mean_per_class_recall_is_balanced_accuracy():
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(200, 5)), rng.integers(0, 5, 200)
    expected = balanced_accuracy_score(target, scores.argmax(1))
    assert metrics.mean_per_class_recall(scores, target) == pytest.approx(expected, abs=1e-12)


scores_with_ties = st.integers(5, 60).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, n, elements=st.sampled_from([-2.0, -0.5, 0.0, 0.1, 0.25, 3.0])),
        arrays(np.int64, n, elements=st.integers(0, 1)).filter(lambda t: 0 < t.sum() < len(t)),
    )
)


@settings(max_examples=60, deadline=None)
@given(scores_with_ties)
def test_auroc_and_average_precision_equal_scikit_learn_on_ties(case):
    score, target = case
    assert metrics.auroc(score, target) == pytest.approx(roc_auc_score(target, score), abs=1e-12)
    assert metrics.auroc(score, target) == pytest.approx(slow_auroc(score, target == 1), abs=1e-12)
    mean_ap = metrics.mean_average_precision(score[:, None], target[:, None])
    assert mean_ap == pytest.approx(average_precision_score(target, score), abs=1e-12)


def test_multiclass_and_multilabel_equal_scikit_learn():
    rng = np.random.default_rng(1)
    probability, target = metrics.softmax(rng.normal(size=(150, 4))), rng.integers(0, 4, 150)
    expected = roc_auc_score(target, probability, multi_class="ovr", average="macro")
    assert metrics.auroc(probability, target) == pytest.approx(expected, abs=1e-12)
    labels, scores = rng.integers(0, 2, (150, 3)), np.round(rng.normal(size=(150, 3)), 1)
    assert metrics.auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores, average="macro"), abs=1e-12)
    expected = average_precision_score(labels, scores, average="macro")
    assert metrics.mean_average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_auroc_leaves_out_undefined_classes():
    probability, target = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]]), np.array([0, 1, 0])
    assert metrics.auroc(probability, target) == 1.0  # class 2 has no positives
    assert np.isnan(metrics.auroc([0.1, 0.2], [1, 1]))


@pytest.mark.parametrize("seed", range(5))
def test_retrieval_ranks_equal_sorting(seed, monkeypatch):
    monkeypatch.setattr(metrics, "_BLOCK", 70)  # several blocks
    rng = np.random.default_rng(seed)
    query, gallery = rng.integers(-1, 2, (23, 3)), rng.integers(-1, 2, (19, 3))  # few values: many ties
    matches = random_matches(rng, 23, 19)
    shuffled = pairs_of(matches)[:, rng.permutation(sum(map(len, matches)))]
    rank, top, score = metrics.retrieval_ranks(query, gallery, *shuffled)
    assert rank.tolist() == slow_ranks(query, gallery, matches)
    products = query @ gallery.T
    mismatching = np.array([[item not in row for item in range(19)] for row in matches])
    assert top.tolist() == (2 * products + mismatching).argmax(1).tolist()  # on a tie a competitor
    assert score.tolist() == products.max(1).tolist()


def test_recall_equals_one_hot_top_k():
    """Recall from the one-hot matrix of the k best, as zero-shot benchmarks compute it; no ties in random floats."""
    rng = np.random.default_rng(2)
    query, gallery = rng.normal(size=(60, 8)), rng.normal(size=(90, 8))
    matches = random_matches(rng, 60, 90)
    positive = np.zeros((60, 90), bool)
    positive[tuple(pairs_of(matches))] = True
    rank = metrics.retrieval_ranks(query, gallery, *pairs_of(matches))[0]
    best_first = np.argsort(-(query @ gallery.T), axis=1)
    for k in (1, 5, 10, 90):
        one_hot = np.zeros((60, 90, k), bool)
        np.put_along_axis(one_hot.transpose(0, 2, 1), best_first[:, :k, None], True, axis=2)
        expected = (positive[:, :, None] & one_hot).any(axis=(1, 2)).mean()
        assert metrics.recall_at_k(rank, k) == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(4, 20))
def test_retrieval_laws(seed, queries, gallery_size):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(queries, 4)), rng.normal(size=(gallery_size, 4))
    matches = random_matches(rng, queries, gallery_size)
    rank = metrics.retrieval_ranks(query, gallery, *pairs_of(matches))[0]
    assert metrics.recall_at_k(rank, gallery_size) == 1.0
    order, order_gallery = rng.permutation(queries), rng.permutation(gallery_size)
    position = np.argsort(order_gallery)
    permuted = [{int(position[g]) for g in matches[q]} for q in order]
    assert np.array_equal(
        metrics.retrieval_ranks(query[order], gallery[order_gallery], *pairs_of(permuted))[0], rank[order]
    )


@pytest.mark.parametrize(("queries", "gallery", "width"), [(7, 7, 3), (64, 129, 17), (5, 301, 512)])
def test_constant_embeddings_score_nothing(queries, gallery, width):
    """A collapsed encoder ties everywhere, whichever kernel multiplies the edge of the matrix."""
    vector = np.random.default_rng(0).normal(size=width)
    vector /= np.linalg.norm(vector)
    query, items = np.tile(vector, (queries, 1)), np.tile(vector, (gallery, 1))
    rank = metrics.retrieval_ranks(query, items, np.arange(queries), np.arange(queries))[0]
    assert rank.tolist() == [gallery] * queries
    assert metrics.recall_at_k(rank, gallery - 1) == 0.0
    assert metrics.accuracy(metrics.similarity(query, items), np.zeros(queries, int), 1) == 0.0


@pytest.mark.parametrize(
    "metric",
    [
        lambda s, t, w=None: metrics.accuracy(s, t, 1, w),
        lambda s, t, w=None: metrics.accuracy(s, t, 2, w),
        metrics.mean_per_class_recall,
        metrics.auroc,
        lambda s, t, w=None: metrics.mean_average_precision(s, np.eye(4)[t], w),
    ],
)
def test_weights_repeat_items(metric):
    rng = np.random.default_rng(3)
    scores, target = np.round(rng.normal(size=(30, 4)), 1), rng.integers(0, 4, 30)
    times = rng.integers(0, 3, (6, 30))
    repeated = [metric(np.repeat(scores, row, axis=0), np.repeat(target, row)) for row in times]
    assert metric(scores, target, times.astype(float)) == pytest.approx(repeated, abs=1e-12)
    assert metric(scores, target) == pytest.approx(metric(scores, target, np.ones((1, 30)))[0], abs=1e-12)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="query 1 has no matching item"):
        metrics.retrieval_ranks(np.eye(3), np.eye(3), [0, 2], [0, 2])
    with pytest.raises(ValueError, match="NaN or infinity"):
        metrics.accuracy([[np.nan, 1.0]], [0])
    with pytest.raises(ValueError, match=r"expected scores \(N, C\)"):
        metrics.accuracy([1.0, 2.0], [0, 1])
    with pytest.raises(TaskError, match="check the checkpoint"):
        metrics.similarity([[np.nan]], [[1.0]])
