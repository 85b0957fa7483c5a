from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.data.order import Order, OrderedSource, dealt, permutation, philox
from medvlp.errors import UserError

WEIGHTS = st.sampled_from([0.3, 0.5, 1.0, 1.5, 2.0, 3.7])
SOURCES = st.lists(st.tuples(st.integers(1, 40), WEIGHTS), min_size=1, max_size=4)


def order(parts, seed=0, **kwargs):
    return Order([OrderedSource(f"s{i}", n, w, f"hash{i}") for i, (n, w) in enumerate(parts)], seed, **kwargs)


@given(SOURCES, st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_gives_each_source_its_weight(parts, seed, epoch):
    made = order(parts, seed)
    drawn = made.epoch(epoch)
    assert len(drawn) == len(made) == sum(max(1, round(n * w)) for n, w in parts)
    for index, (length, weight) in enumerate(parts):
        of_source = drawn[(drawn >= made.starts[index]) & (drawn < made.starts[index + 1])]
        assert len(of_source) == max(1, round(length * weight))


@given(SOURCES, st.integers(0, 5))
def test_over_epochs_no_sample_is_ahead_of_another_of_its_source_by_more_than_one(parts, seed):
    made = order(parts, seed)
    seen: Counter[int] = Counter()
    for epoch in range(4):
        seen.update(made.epoch(epoch).tolist())
        for index in range(len(parts)):
            counts = [seen[number] for number in range(int(made.starts[index]), int(made.starts[index + 1]))]
            assert max(counts) - min(counts) <= 1


@given(SOURCES, st.integers(1, 9), st.integers(1, 5))
def test_windows_of_blocks_hold_the_same_samples(parts, block, window):
    full, windowed = order(parts), order(parts, block=block, window=window)
    assert sorted(full.epoch(2).tolist()) == sorted(windowed.epoch(2).tolist())


def test_windows_are_sorted_one_by_one_as_by_both_keys_at_once():
    made, epoch = order([(103, 1.0), (20, 0.5)], block=5, window=4), 3
    count = -(-len(made) // 5)
    sampled = np.concatenate([made.starts[i] + made._sample(i, epoch) for i in range(2)])
    blocks = [sampled[b * 5 : b * 5 + 5] for b in made._permutation(count, "blocks", epoch)]
    noise = philox(*made._material("windows", epoch)).random_raw(len(made))
    expected = np.concatenate(blocks)[np.lexsort((noise, np.arange(len(made)) // 20))]
    assert made.epoch(epoch).tolist() == expected.tolist()


def test_a_window_reads_whole_blocks():
    made = order([(100, 1.0)], block=10, window=2)
    windows = made.epoch(0).reshape(-1, 20)
    for window in windows:
        assert Counter((window // 10).tolist()).most_common() == [
            (b, 10) for b, _ in Counter((window // 10).tolist()).most_common()
        ]
        assert len(set((window // 10).tolist())) == 2
    assert not np.array_equal(np.sort(windows[0]), windows[0])


@pytest.mark.parametrize(
    "other",
    [
        order([(50, 1.0)], seed=1),
        order([(50, 1.0), (1, 1.0)]),
        Order([OrderedSource("s0", 50, 1.0, "another manifest")], 0),
        order([(50, 1.0)], block=5),
    ],
)
def test_the_order_depends_on_seed_blend_manifest_and_window(other):
    assert not np.array_equal(order([(50, 1.0)]).epoch(0), other.epoch(0)[:50])


def test_epochs_differ_and_repeat_exactly():
    made = order([(50, 1.0)])
    assert not np.array_equal(made.epoch(0), made.epoch(1))
    assert np.array_equal(made.epoch(1), order([(50, 1.0)]).epoch(1))


def test_the_permutation_is_the_one_that_it_was():
    # Another result here means that every resumed run sees other samples.
    assert permutation(8, "a", 1).tolist() == [0, 4, 3, 5, 7, 6, 1, 2]


def test_positions_are_uniform():
    counts = np.zeros((5, 5))
    for seed in range(4000):
        counts[np.arange(5), permutation(5, seed)] += 1
    assert np.abs(counts / 4000 - 0.2).max() < 0.03  # five standard deviations


def test_an_empty_source_is_refused():
    with pytest.raises(UserError, match="'s1' is empty"):
        order([(3, 1.0), (0, 1.0)])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 3))
def test_dealt_samples_of_a_group_meet_as_little_as_can_be(groups, batch, epoch):
    numbers = order([(len(groups), 1.0)]).epoch(epoch)
    steps = len(numbers) // batch
    after = dealt(numbers, np.array(groups), batch)
    full = steps * batch
    assert sorted(after[:full].tolist()) == sorted(numbers[:full].tolist())
    assert after[full:].tolist() == numbers[full:].tolist()
    counts = Counter(groups[number] for number in numbers[:full])
    for row in after[:full].reshape(steps, batch) if full else []:
        for group, met in Counter(groups[number] for number in row).items():
            assert met <= -(-counts[group] // steps)


def test_dealing_leaves_an_epoch_without_groups_random_and_is_the_one_that_it_was():
    numbers = order([(12, 1.0)]).epoch(0)
    assert dealt(numbers, np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]), 3).tolist() == [
        1,
        4,
        9,
        3,
        7,
        8,
        0,
        6,
        11,
        2,
        5,
        10,
    ]
    alone = dealt(numbers, np.arange(12), 3)
    assert sorted(alone.tolist()) == list(range(12))
    assert alone.tolist() != numbers.tolist()
    assert dealt(order([(12, 1.0)]).epoch(1), np.arange(12), 3).tolist() != alone.tolist()
