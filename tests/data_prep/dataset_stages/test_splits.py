import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.dataset_stages.splits import group_hashes, hold_out, keep_groups_whole, random_splits
from medvlp.shards.vocabulary import SPLITS


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdef")), min_size=1, max_size=40))
def test_a_group_goes_whole_to_its_most_held_out_split(rows):
    published = np.array([split for split, _ in rows], np.int8)
    groups = [group for _, group in rows]
    expected = [max(split for split, other in rows if other == group) for group in groups]
    assert keep_groups_whole(published, group_hashes(groups)).tolist() == expected


def test_random_shares():
    names = [f"PMC{number}" for number in range(20_000)]
    chosen = random_splits(names, {"train": 0.8, "valid": 0.05, "test": 0.15}, seed=0)
    shares = np.bincount(chosen, minlength=3) / len(names)
    assert np.abs(shares - [0.8, 0.05, 0.15]).max() < 0.01
    assert (chosen[:100] == random_splits(names[:100], {"test": 0.15, "train": 0.8, "valid": 0.05}, seed=0)).all()
    assert (chosen != random_splits(names, {"train": 0.8, "valid": 0.05, "test": 0.15}, seed=1)).mean() > 0.2


def test_one_split_takes_all():
    assert set(random_splits(["a", "b", "c"], {"train": 0.0, "test": 1.0}, seed=0)) == {SPLITS.index("test")}
    assert keep_groups_whole(np.array([], np.int8), group_hashes([])).tolist() == []


def test_what_is_held_out_of_train():
    names = [f"patient {number // 2}" for number in range(20_000)]
    published = np.array([0, 0, 1, 2] * 5000, np.int8)
    chosen = hold_out(published, names, 0.1, seed=0)
    assert chosen.dtype == published.dtype
    assert (chosen[published != 0] == published[published != 0]).all()
    held = chosen[published == 0]
    assert set(held) == {0, 1}
    assert abs((held == 1).mean() - 0.1) < 0.01
    pairs = held.reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all(), "groups are whole"
    assert (chosen[:400] == hold_out(published[:400], names[:400], 0.1, seed=0)).all(), "data added later move none"
    wider = hold_out(published, names, 0.2, seed=0)
    assert (wider[chosen == 1] == 1).all(), "a larger share holds the smaller one"
    assert (hold_out(published, names, 0.1, seed=1) != chosen).any()
