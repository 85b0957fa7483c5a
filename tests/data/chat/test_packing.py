"""That packing loses nothing and mixes nothing, told from tokens alone; `models/test_llava.py` tells it from losses."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medvlp.data.chat.pack_plan import PackPlan, first_fit
from medvlp.data.chat.packing import lay_out, shared_prefix
from medvlp.data.order import Order, OrderedSource
from medvlp.data.plan import RankSchedule
from medvlp.models.llava.packed import visible_tokens
from tests.data.chat.packed import IMAGE_ID, PAD_ID, P, collate, encoded, items, rows_of


@pytest.mark.parametrize(
    ("conversations", "expected"),
    [
        ([[([1, 2], False), ([3], True)]], 0),  # nobody to share with
        ([[([1, 2, 4], False), ([3], True)], [([1, 2, 5], False), ([3], True)]], 2),
        ([[([1, 2], False), ([3], True)], [([1, 2], False), ([3], True)]], 2),  # never a supervised token
        ([[([1, 2], False), ([3], True)], [([1, 2, 3], False), ([4], True)]], 2),
        ([[([1, 2], False), ([3], True)], [([9, 2], False), ([3], True)]], 0),
        ([[([1, 2, 3], False), ([4], True)]] * 2 + [[([1, 7], False), ([4], True)]], 1),
    ],
)
def test_what_conversations_share(conversations, expected):
    assert shared_prefix([encoded(*runs) for runs in conversations]) == expected


def test_a_tree_by_hand():
    beginning = ([7, *[IMAGE_ID] * P], False)
    first = encoded(beginning, ([1, 2], False), ([3, 4], True))
    second = encoded(beginning, ([1], False), ([5], True), ([6], False), ([8], True))
    made = lay_out([first, second], IMAGE_ID)
    assert made.ids_L.tolist() == [7, 50, 50, 50, 50, 1, 2, 3, 4, 5, 6, 8]
    assert made.positions_L.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8]
    assert made.branches_L.tolist() == [0] * 6 + [1] * 3 + [2] * 3
    assert made.logit_positions_T.tolist() == [6, 7, 5, 10]  # 5 is the shared prefix's last
    assert made.targets_T.tolist() == [3, 4, 5, 8]
    assert made.conversation_T.tolist() == [0, 0, 1, 1]
    assert made.image_token_positions_M.tolist() == [1, 2, 3, 4]
    assert made.feature_indices_M.tolist() == [0, 1, 2, 3]


def contexts_of(batch):
    """(ids that its predictor sees, image features among them, target, weight) for every supervised token."""
    visible_RLL = visible_tokens(batch.documents_RL, batch.branches_RL)[:, 0]
    ids_RL, length = batch.ids_RL, batch.ids_RL.shape[1]
    feature_at = dict(zip(batch.image_token_positions_M.tolist(), batch.feature_indices_M.tolist(), strict=True))
    contexts = []
    for position, target, weight in zip(batch.logit_positions_T, batch.targets_T, batch.weights_T, strict=True):
        row, column = divmod(int(position), length)
        seen = visible_RLL[row, column].nonzero()[:, 0]
        positions = batch.token_positions_RL[row, seen].tolist()
        assert positions == list(range(len(seen)))
        features = [feature_at[row * length + int(i)] for i in seen if int(ids_RL[row, i]) == IMAGE_ID]
        contexts.append((tuple(ids_RL[row, seen].tolist()), tuple(features), int(target), round(float(weight), 6)))
    return sorted(contexts)


def expected_contexts(rows, weighting):
    """The same from the conversations, one at a time."""
    contexts, first = [], 0
    conversations = [conversation for row in rows for item in row for conversation in item["conversations"]]
    total = (
        sum(conversation.supervised.sum() for conversation in conversations)
        if weighting == "token"
        else len(conversations)
    )
    for item in (item for row in rows for item in row):
        for conversation in item["conversations"]:
            each = 1 / total if weighting == "token" else 1 / (total * conversation.supervised.sum())
            for i in np.flatnonzero(conversation.supervised):
                before = conversation.ids[:i].tolist()
                features = tuple(first * P + n for n in range(before.count(IMAGE_ID)))
                contexts.append((tuple(before), features, int(conversation.ids[i]), round(float(np.float32(each)), 6)))
        first += len(item["images"])
    return sorted(contexts)


@settings(deadline=None, max_examples=60)
@given(rows_of(), st.booleans(), st.sampled_from(["token", "sample"]))
def test_every_answer_is_predicted_from_its_own_conversation(rows, tree, weighting):
    assert contexts_of(collate(rows, tree, weighting)) == expected_contexts(rows, weighting)


@settings(deadline=None, max_examples=30)
@given(rows_of(most_rows=2), st.booleans())
def test_the_mask_is_that_of_a_slow_reference(rows, tree):
    batch = collate(rows, tree)
    visible_RLL = visible_tokens(batch.documents_RL, batch.branches_RL)[:, 0]
    for row, visible_LL in enumerate(visible_RLL):
        owners = owners_of(rows[row], tree, visible_LL.shape[0])
        for query, key in product(range(len(owners)), repeat=2):
            # A query sees a key that belongs to all conversations that the query belongs to; padding only padding.
            expected = key <= query and owners[query] <= owners[key]
            assert bool(visible_LL[query, key]) == expected


def owners_of(row, tree, length):
    """The conversations that each token of a row belongs to; padding belongs to one that nobody else has."""
    owners = []
    for i, item in enumerate(row):
        groups = [item["conversations"]] if tree else [[conversation] for conversation in item["conversations"]]
        for j, group in enumerate(groups):
            shared = shared_prefix(group)
            names = [(i, j, k) for k in range(len(group))]
            owners += [set(names)] * shared
            for name, conversation in zip(names, group, strict=True):
                owners += [{name}] * (len(conversation.ids) - shared)
    return owners + [{"padding"}] * (length - len(owners))


@settings(deadline=None, max_examples=30)
@given(rows_of(), st.booleans())
def test_padding_fills_up_rows_and_counts_on(rows, tree):
    batch = collate(rows, tree)
    for row in range(len(rows)):
        padding = batch.documents_RL[row] == -1
        length = int((~padding).sum())
        assert padding.tolist() == [False] * length + [True] * (padding.shape[0] - length)
        assert (batch.ids_RL[row, length:] == PAD_ID).all()
        assert (batch.token_positions_RL[row, length:].diff() == 1).all()
    assert (batch.documents_RL != -1).any(dim=0).all()  # no longer than the longest row


@settings(deadline=None, max_examples=25)
@given(rows_of())
def test_flat_is_one_row_without_padding_whose_positions_restart(rows):
    batch = collate(rows, tree=False, flat=True)
    lengths = [len(conversation.ids) for row in rows for item in row for conversation in item["conversations"]]
    assert batch.ids_RL.shape == (1, sum(lengths))
    assert batch.token_positions_RL[0].tolist() == [position for length in lengths for position in range(length)]
    assert contexts_of(batch) == expected_contexts(rows, "token")


def test_conversations_without_a_common_beginning_are_branches_all_the_same():
    made = lay_out([encoded(([1], False), ([2], True)), encoded(([3], False), ([4], True))], IMAGE_ID)
    assert made.branches_L.tolist() == [1, 1, 2, 2]
    assert made.positions_L.tolist() == [0, 1, 0, 1]


def test_a_row_of_one_conversation_needs_no_mask():
    single = {"conversations": [encoded(([1], False), ([2], True))], "images": torch.empty(0)}
    double = {"conversations": [*single["conversations"], *single["conversations"]], "images": torch.empty(0)}
    assert collate([[single], [single]], tree=True).is_causal
    assert collate([[single], [single]], tree=False).is_causal
    assert not collate([[single], [double]], tree=True).is_causal
    assert not collate([[single], [double]], tree=False).is_causal
    assert not collate([[single, single]], tree=True).is_causal


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_batch_whose_samples_are_all_bad_is_empty_not_an_error(rows):
    batch = collate([[] for _ in range(max(rows, 1))], tree=True, total=5.0)
    assert batch.ids_RL.shape == (max(rows, 1), 1)
    assert batch.images_N is None
    assert [
        len(getattr(batch, name))
        for name in (
            "logit_positions_T",
            "targets_T",
            "weights_T",
            "image_token_positions_M",
            "feature_indices_M",
            "keys",
        )
    ] == [0] * 6


@settings(deadline=None, max_examples=30)
@given(
    st.lists(items(), min_size=2, max_size=8), st.integers(1, 4), st.booleans(), st.sampled_from(["token", "sample"])
)
def test_weights_of_all_batches_of_a_step_sum_to_one(samples, batches, tree, weighting):
    conversations = [conversation for item in samples for conversation in item["conversations"]]
    total = (
        sum(int(conversation.supervised.sum()) for conversation in conversations)
        if weighting == "token"
        else len(conversations)
    )
    parts = [samples[i::batches] for i in range(batches)]
    weights = [collate([[item] for item in part], tree, weighting, total=total).weights_T for part in parts if part]
    assert float(torch.cat(weights).double().sum()) == pytest.approx(1, rel=1e-6)


# --- the plan ---------------------------------------------------------------------------------------------------------

examples_tables = st.lists(
    st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4)), min_size=12, max_size=40
)
MAX_LENGTH = 64


def plan_of(table, packed=True, weighting="token", sources=1):
    """A plan over examples of these (tokens, supervised tokens, conversations)."""
    columns = np.array(table, np.int64).T
    parts = [np.array_split(column, sources) for column in columns]
    made = [
        SimpleNamespace(lengths=lengths, supervised=supervised, conversations=conversations)
        for lengths, supervised, conversations in zip(*parts, strict=True)
    ]
    ordered = [OrderedSource(f"s{i}", len(source.lengths), 1.0, "h") for i, source in enumerate(made)]
    return PackPlan(Order(ordered, 0), made, MAX_LENGTH, packed, weighting)


@settings(deadline=None, max_examples=30)
@given(examples_tables, st.sampled_from([1, 2, 3, 4, 6, 12]), st.booleans(), st.integers(1, 3))
def test_every_position_is_read_once_and_rows_fit(table, batches, packed, sources):
    plan = plan_of(table, packed, sources=sources)
    numbers = plan.epoch(0)[:12]
    divided = plan.divide(numbers, batches)
    assert len(divided) == batches
    assert sorted(position for batch in divided for pack in batch for position in pack) == list(range(12))
    for pack in (pack for batch in divided for pack in batch):
        assert sum(table[numbers[position]][0] for position in pack) <= MAX_LENGTH
    assert divided == plan_of(table, packed, sources=sources).divide(numbers, batches)
    assert all(divided)
    if not packed:
        assert all(len(pack) == 1 for batch in divided for pack in batch)
        assert {len(batch) for batch in divided} == {12 // batches}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, MAX_LENGTH), min_size=4, max_size=7), st.integers(1, 3))
def test_loads_are_within_grahams_bound(lengths, batches):
    plan = plan_of([(length, 1, 1) for length in lengths])
    loads = loads_of(plan.divide(np.arange(len(lengths)), batches), lengths)
    best = min(
        max(sum(length for length, b in zip(lengths, chosen, strict=True) if b == batch) for batch in range(batches))
        for chosen in product(range(batches), repeat=len(lengths))
    )
    assert max(loads) <= best * (4 / 3 - 1 / (3 * batches)) + 1e-9  # Graham 1969


@given(examples_tables, st.integers(2, 8))
def test_no_batch_has_more_than_the_least_and_one_example(table, batches):
    lengths = [tokens for tokens, _, _ in table]
    loads = loads_of(plan_of(table).divide(np.arange(len(table)), batches), lengths)
    assert max(loads) - min(loads) <= max(lengths)


def loads_of(divided, lengths):
    return [sum(lengths[position] for pack in batch for position in pack) for batch in divided]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=5))
def test_first_fit_needs_few_rows(lengths):
    longest_first = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    rows = first_fit(longest_first, lengths, MAX_LENGTH)
    assert sorted(position for row in rows for position in row) == list(range(len(lengths)))
    assert max(sum(lengths[position] for position in row) for row in rows) <= MAX_LENGTH
    best = len(lengths)
    for chosen in product(range(len(lengths)), repeat=len(lengths)):
        loads = np.bincount(chosen, weights=lengths)
        best = min(best, np.count_nonzero(loads)) if loads.max() <= MAX_LENGTH else best
    assert best <= len(rows) <= 11 / 9 * best + 6 / 9  # Dósa 2007


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([20, 20, 20, 20], [(0,), (1,), (2,), (3,)]),  # 80 positions; a row of three and one of one have 120
        ([40, 30, 30], [(0,), (1,), (2,)]),  # 3 × 40 are no more than 2 × 60, and attention sees less
        ([30, 30, 4, 4], [(0, 2), (1, 3)]),  # 68; no row of its own for what is short
        ([8, 8, 8, 8], [(0, 2), (1, 3)]),  # at most twice the fewest
        ([60, 4, 4], [(0,), (1, 2)]),  # 120, where first fit has 60 + 4 in a row of 64
        ([32, 31, 22, 21, 20], [(0, 1), (2, 3, 4)]),  # evenly they do not fit into two rows; three have 153
    ],
)
def test_rows_are_filled_up_little(lengths, expected):
    (packs,) = plan_of([(length, 1, 1) for length in lengths]).divide(np.arange(len(lengths)), 1)
    assert sorted(tuple(sorted(pack)) for pack in packs) == expected


@settings(deadline=None, max_examples=30)
@given(examples_tables)
def test_no_more_positions_than_first_fit(table):
    lengths = [tokens for tokens, _, _ in table]
    (packs,) = plan_of(table).divide(np.arange(len(table)), 1)
    rows = first_fit(sorted(range(len(lengths)), key=lambda position: -lengths[position]), lengths, MAX_LENGTH)
    positions = [len(some) * max(sum(lengths[position] for position in row) for row in some) for some in (packs, rows)]
    assert positions[0] <= positions[1]


@given(examples_tables, st.sampled_from(["token", "sample"]))
def test_totals_count_tokens_or_conversations(table, weighting):
    plan = plan_of(table, weighting=weighting)
    numbers = plan.epoch(1)[:7]
    column = 1 if weighting == "token" else 2
    assert plan.total(numbers) == sum(table[number][column] for number in numbers)


@settings(deadline=None, max_examples=30)
@given(examples_tables, st.sampled_from([1, 2, 3, 4, 6, 12]), st.sampled_from([1, 2, 3, 4]), st.booleans())
def test_ranks_and_accumulation_read_the_global_batch_together(table, ranks, accumulate, packed):
    if 12 % (ranks * accumulate):
        return
    plan = plan_of(table, packed)
    steps = len(plan) // 12 + 2  # into the second epoch, or the third
    streams = [list(RankSchedule(plan, 12, accumulate, rank, ranks).requests(0, steps)) for rank in range(ranks)]
    for step in range(steps):
        parts = range(step * accumulate, (step + 1) * accumulate)
        read = [request for part in parts for stream in streams for request in stream[part]]
        epoch, within = divmod(step, len(plan) // 12)
        expected = plan.epoch(epoch)[within * 12 : (within + 1) * 12]
        by_position = sorted(pair for request in read for pair in zip(request.positions, request.samples, strict=True))
        assert by_position == [(within * 12 + position, number) for position, number in enumerate(expected)]
        assert {request.total for request in read} == {plan.total(expected)}
        assert {request.epoch for request in read} == {epoch}


def test_the_random_conversations_are_of_the_kinds_that_matter():
    kinds = set()

    @settings(deadline=None, max_examples=100, derandomize=True, database=None)
    @given(items())
    def look(item):
        conversations = item["conversations"]
        shared = shared_prefix(conversations)
        kinds.add(f"{min(len(item['images']), 2)} images")
        if len(conversations) > 1:
            first = conversations[0]
            answered = any(conversation.supervised[shared] for conversation in conversations)
            kinds.add("some beginning in common" if shared else "none in common")
            kinds.update({"image in the beginning"} if IMAGE_ID in first.ids[:shared] else set())
            kinds.update({"image in a branch"} if IMAGE_ID in first.ids[shared:] else set())
            kinds.update({"answered right after the beginning"} if shared and answered else set())

    look()
    assert len(kinds) == 8
