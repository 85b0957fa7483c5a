"""What is drawn: by class, from as many groups as there are, and the same whatever comes along."""

import numpy as np
import pytest

from medvlp.eval.items import Item
from medvlp.eval.probes.draws import hold_out, shots
from medvlp.eval.probes.neighbours import vote_shares


def items_of(groups):
    return [Item(f"s{row:03}", group, {}, {}) for row, group in enumerate(groups)]


GROUPS = [f"p{row // 3}" for row in range(60)]  # three samples a patient
ITEMS = items_of(GROUPS)
CLASS_N = np.arange(60) // 3 % 2  # a patient has one class
TARGET_NL = np.eye(2)[CLASS_N]


@pytest.mark.parametrize("count", [1, 4, 16])
def test_a_draw_has_so_many_of_each_class_from_different_groups(count):
    rows = shots(ITEMS, TARGET_NL, count, 0, 3)
    assert TARGET_NL[rows].sum(axis=0).tolist() == [count, count]
    for label in (0, 1):
        groups = [GROUPS[row] for row in rows if CLASS_N[row] == label]
        assert len(set(groups)) == min(count, 10)  # of ten patients each
    assert set(shots(ITEMS, TARGET_NL, max(1, count // 2), 0, 3)) <= set(rows)


def test_draws_differ_and_can_be_repeated():
    draws = {tuple(shots(ITEMS, TARGET_NL, 4, 0, draw)) for draw in range(5)}
    assert len(draws) == 5
    assert tuple(shots(ITEMS, TARGET_NL, 4, 0, 0)) in draws
    assert tuple(shots(ITEMS, TARGET_NL, 4, 1, 0)) not in draws


def test_the_order_of_samples_and_others_to_come_change_nothing():
    keys = {ITEMS[row].key for row in shots(ITEMS, TARGET_NL, 4, 0, 0)}
    backwards = shots(ITEMS[::-1], TARGET_NL[::-1], 4, 0, 0)
    assert {ITEMS[::-1][row].key for row in backwards} == keys
    added = [*ITEMS, Item("new", "p_new", {}, {})]
    rows = shots(added, np.vstack([TARGET_NL, [1, 0]]), 4, 0, 0)
    assert len({added[row].key for row in rows} & keys) >= 7  # at most the new one took a turn


def test_a_class_with_fewer_samples_gives_them_all():
    assert len(shots(ITEMS[:7], TARGET_NL[:7], 5, 0, 0)) == 7


def test_of_several_labels_a_sample_counts_for_each_that_it_has_or_lacks():
    target_NL = np.array([[1, 1], [1, 0], [1, 0], [np.nan, 0], [1, np.nan], [0, 0], [0, 0]])
    for draw in range(9):
        rows = shots(items_of("abcdefg"), target_NL, 2, 0, draw)
        assert 0 in rows  # the one sample of the rare class, which is a shot of the other too
        assert {5, 6} <= set(rows)  # without any, of both
        assert len(rows) == 4
        assert (target_NL[rows, 0] == 1).sum() == 2


def test_labels_that_go_together_get_samples_without_them():
    target_NL = np.repeat([[1.0, 1.0], [0.0, 0.0]], [3, 30], axis=0)
    for count in (1, 2, 4):
        rows = shots(items_of(map(str, range(33))), target_NL, count, 0, 0)
        assert (target_NL[rows] == 1).sum(axis=0).tolist() == [min(count, 3)] * 2
        assert (target_NL[rows] == 0).sum(axis=0).tolist() == [count] * 2


def test_the_last_group_of_a_class_is_not_held_out():
    target_NL = np.eye(2)[[1] * 5 + [0] * 35]
    groups = ["p0"] * 5 + [f"g{row}" for row in range(35)]
    is_out_N = hold_out(items_of(groups), target_NL, 0.2, 0)
    assert not is_out_N[:5].any()
    assert is_out_N[5:].sum() == 7


def test_whole_groups_are_held_out_a_share_of_each_class():
    is_out_N = hold_out(ITEMS, TARGET_NL, 0.2, 0)
    assert {GROUPS[row] for row in np.flatnonzero(is_out_N)}.isdisjoint(
        GROUPS[row] for row in np.flatnonzero(~is_out_N)
    )
    assert TARGET_NL[is_out_N].sum(axis=0).tolist() == [6, 6]


@pytest.mark.parametrize("temperature", [0.07, np.inf])
def test_votes_of_neighbours_are_scikit_learn_s(temperature):
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    train_ND, query_KD = (
        array / np.linalg.norm(array, axis=1, keepdims=True)
        for array in (rng.normal(size=(50, 6)), rng.normal(size=(20, 6)))
    )
    target_N = rng.integers(0, 3, 50)
    shares = vote_shares(query_KD, train_ND, np.eye(3)[target_N], [1, 7, 500], temperature)
    for count in (1, 7):
        model = KNeighborsClassifier(
            count, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature)
        )
        expected = model.fit(train_ND, target_N).predict_proba(query_KD)
        assert shares[count] == pytest.approx(expected, abs=1e-6)
    assert shares[500].sum(axis=1) == pytest.approx(np.ones(20))  # more than there are: all vote


def test_equal_neighbours_go_by_order_and_what_is_not_stated_has_no_vote():
    train_ND = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    target_NL = np.array([[1, np.nan], [0, np.nan], [1, 1], [1, 1]])
    shares = vote_shares([[1.0, 0]], train_ND, target_NL, [2, 3])
    assert shares[2].tolist() == [[0.5, 0.0]]
    assert shares[3] == pytest.approx(np.array([[2 / 3, 1.0]]))
