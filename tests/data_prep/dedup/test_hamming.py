"""The join over hashes finds what comparing all with all finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.dedup import hamming
from data_prep.dedup.hamming import within


def by_brute_force(queries, base, radius):
    return {
        (i, j, (int(a) ^ int(b)).bit_count())
        for i, a in enumerate(queries)
        for j, b in enumerate(base)
        if (int(a) ^ int(b)).bit_count() <= radius
    }


def listed(blocks):
    return [pair for block in blocks for pair in zip(*(column.tolist() for column in block), strict=True)]


@st.composite
def related_hashes(draw):
    """A few centres and, around them, hashes with some bits flipped: random ones are never near."""
    centres = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=3))
    around = st.builds(
        lambda centre, bits: centre ^ sum(1 << bit for bit in bits),
        st.sampled_from(centres),
        st.sets(st.integers(0, 63), max_size=14),
    )
    hashes = st.lists(around, max_size=12).map(lambda pairs: np.array(pairs, np.uint64))
    return draw(hashes), draw(hashes)


@settings(max_examples=150, deadline=None)
@given(related_hashes(), st.integers(0, 14), st.sampled_from([0, 4, 5, 7]))
def test_each_pair_within_the_radius_comes_once(hashes, radius, pieces):
    queries, base = hashes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hamming, "_plan", lambda queries, base, radius: pieces)
        patch.setattr(hamming, "BLOCK", 5)
        pairs = listed(within(queries, base, radius))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == by_brute_force(queries, base, radius)


@pytest.mark.parametrize(
    ("radius", "pieces", "expected"), [(10, 4, [2, 2, 2, 1]), (3, 4, [0] * 4), (2, 4, [0, 0, 0, -1])]
)
def test_the_last_pieces_are_searched_less(radius, pieces, expected):
    assert hamming._flips(radius, pieces) == expected


def test_many_hashes_are_joined_by_pieces_with_the_same_result():
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2**64, 20_000, dtype=np.uint64)
    queries = base[:500] ^ np.uint64(0b1011 << 30)
    assert hamming._plan(len(queries), len(base), 8) > 0
    pairs = listed(within(queries, base, 8))
    distance = np.bitwise_count(queries[:, None] ^ base)
    assert sorted(pairs) == [(i, j, distance[i, j]) for i, j in np.argwhere(distance <= 8)]
    assert sum(i == j and bits == 3 for i, j, bits in pairs) == 500


def test_a_radius_beyond_the_hash_is_refused():
    with pytest.raises(ValueError, match="radius is 64; expected 0 to 63"):
        list(within(np.zeros(1, np.uint64), np.zeros(1, np.uint64), 64))
