import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medvlp.data.order import Order, OrderedSource
from medvlp.data.plan import ApartPlan, RankSchedule, SamplePlan
from medvlp.errors import UserError


def plan(length: int) -> SamplePlan:
    return SamplePlan(Order([OrderedSource("s", length, 1.0, "h")], 0))


def read(length: int, batch: int, first: int, last: int, accumulate: int = 1, ranks: int = 1, make=plan):
    """The global batches, put together from what all ranks read."""
    schedules = [RankSchedule(make(length), batch, accumulate, rank, ranks) for rank in range(ranks)]
    steps = []
    streams = [list(schedule.requests(first, last)) for schedule in schedules]
    for step in range(last - first):
        parts = range(step * accumulate, (step + 1) * accumulate)
        steps.append([request for part in parts for stream in streams for request in stream[part]])
    return steps


@given(
    st.integers(12, 60),
    st.sampled_from([1, 2, 3, 4, 6]),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 9),
    st.integers(1, 9),
)
def test_ranks_and_accumulation_do_not_change_the_global_batch(length, ranks, accumulate, first, more):
    if 12 % (ranks * accumulate):
        return
    assert read(length, 12, first, first + more, accumulate, ranks) == read(length, 12, first, first + more)


@given(st.integers(5, 40), st.integers(0, 20))
def test_going_on_at_a_step_gives_what_an_unbroken_run_gives(length, step):
    assert read(length, 5, step, step + 4) == read(length, 5, 0, step + 4)[step:]


def test_an_epoch_is_read_once_and_the_rest_is_left_out():
    schedule = RankSchedule(plan(10), 3)
    assert (schedule.steps_per_epoch, schedule.unfilled) == (3, 1)
    numbers = [request.samples[0] for batch in schedule.requests(0, 3) for request in batch]
    assert len(set(numbers)) == 9
    epochs = [request.epoch for batch in schedule.requests(0, 7) for request in batch]
    assert epochs == [0] * 9 + [1] * 9 + [2] * 3


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(UserError, match="use a multiple of 4"):
        RankSchedule(plan(10), 6, accumulate=2, world_size=2)


def test_a_batch_larger_than_an_epoch_is_refused():
    with pytest.raises(UserError, match="an epoch has 10 samples"):
        RankSchedule(plan(10), 11)


def apart(length: int) -> ApartPlan:
    """Thirds of the samples show one text each."""
    return ApartPlan(plan(length).order, np.arange(length) % (length // 3), 6)


@given(st.integers(3, 10).map(lambda count: 6 * count), st.sampled_from([1, 2, 3]), st.integers(0, 9))
def test_texts_are_kept_apart_whatever_the_ranks_and_where_a_run_went_on(length, ranks, step):
    steps = read(length, 6, step, step + 4, 1, ranks, apart)
    assert steps == read(length, 6, 0, step + 4, make=apart)[step:]
    for requests in steps:
        texts = [request.samples[0] % (length // 3) for request in requests]
        assert len(set(texts)) == 6  # three of a text, and at least three steps
    assert apart(length).repeats() == 0


def test_texts_that_cannot_be_kept_apart_are_spread_and_counted():
    made = ApartPlan(plan(12).order, np.array([0] * 9 + [1, 2, 3]), 4)
    batches = made.epoch(0).reshape(3, 4)
    assert [(row < 9).sum() for row in batches] == [3, 3, 3]
    assert made.repeats() == 6
