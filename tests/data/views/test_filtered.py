"""Shards without what a filter holds out: the same as a list of the samples that stay."""

import pickle

import pytest

from medvlp.combinations import CombinationError, filter_of
from medvlp.data.views.filtered import FilteredDataset, open_split
from medvlp.selection import ConditionError, Conditions
from medvlp.shards import Conversation, Sample, ShardDataset, Turn
from tests.datasets import jpeg, pairs, write_split

NOT_K1 = {"exclude": [{"kind": "k1"}]}


def asked(number: int, *organs: str) -> Sample:
    turns = [Turn("user", "<image>\nWhich?"), Turn("assistant", "That.")]
    conversations = [Conversation(turns, f"{number}-{organ}", {"organ": organ}) for organ in organs]
    metadata = {"group": f"p{number}", "site": number % 3}
    return Sample(f"asked__{number}", {"jpg": jpeg(number)}, conversations=conversations, metadata=metadata)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("filtered")
    write_split(made / "pairs/train", pairs(20), per_shard=3)
    questions = [asked(0, "liver", "lung"), asked(1, "lung"), asked(2, "liver"), asked(3)]
    write_split(made / "asked/train", questions, per_shard=3)
    return made


@pytest.mark.parametrize(
    ("content", "is_trained"),
    [
        (NOT_K1, lambda kind: kind != 1),
        ({"only": [{"kind": ["k1", "k2"]}]}, lambda kind: kind in (1, 2)),
        (
            {"only": [{"source": "made"}], "exclude": [{"kind": "k0", "licence": "CC0-1.0"}, {"kind": "k3"}]},
            lambda k: k in (1, 2),
        ),
    ],
)
def test_it_is_the_samples_that_stay_in_their_order(folder, content, is_trained):
    whole = ShardDataset(folder / "pairs/train")
    rows = [row for row in range(20) if is_trained(row % 4)]
    dataset = pickle.loads(pickle.dumps(FilteredDataset(folder / "pairs/train", filter_of(content, "k"), "k")))
    assert len(dataset) == len(rows)
    assert [dataset.read(i) for i in range(len(dataset))] == [whole.read(row) for row in rows]
    assert [dataset.read_text(i) for i in range(len(dataset))] == [whole.read_text(row) for row in rows]
    assert [dataset.key(i) for i in range(len(dataset))] == dataset.keys == [whole.key(row) for row in rows]
    assert [dataset.locate(i) for i in range(len(dataset))] == [whole.locate(row) for row in rows]
    assert dataset.column("group") == [whole.column("group")[row] for row in rows]
    assert dataset.shards_hash == whole.manifest_hash != dataset.manifest_hash
    with pytest.raises(IndexError):
        dataset.read(len(rows))


def test_conversations_are_items_and_are_counted(folder):
    dataset = FilteredDataset(folder / "asked/train", filter_of({"exclude": [{"organ": "liver"}]}, "k"), "k")
    assert [[c.id for c in dataset.read(i).conversations] for i in range(len(dataset))] == [["0-lung"], ["1-lung"], []]
    assert dataset.summary == "3 of 4 samples are trained on; held out: organ=liver (2 items)"
    both = filter_of({"only": [{"organ": "liver", "site": 0}]}, "k")
    assert [c.id for c in FilteredDataset(folder / "asked/train", both, "k").read(0).conversations] == ["0-liver"]


def test_every_filter_has_a_hash_of_its_own_and_none_is_the_shards(folder):
    filters = [NOT_K1, {"only": [{"kind": "k1"}]}, {"exclude": [{"kind": ["k1", "k2"]}]}, {}]
    datasets = [open_split(folder / "pairs/train", filter_of(content, "k"), "k") for content in filters]
    assert len({dataset.manifest_hash for dataset in datasets}) == 4
    assert type(datasets[-1]) is ShardDataset


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"exclude": [{"kind": "K1"}]},
            r"data.sources.made.exclude: no sample of .*train is of kind=K1; did you mean 'kind=k1'\?",
        ),
        (
            {"only": [{"kind": "k1"}, {"kinds": "k1"}]},
            r"data.sources.made.only: kinds=k1: no sample of .* or metadata 'kinds'",
        ),
        (
            {"exclude": [{"source": "made"}]},
            r"data.sources.made: only and exclude leave none of the 20 samples of .*train",
        ),
    ],
)
def test_slips_are_refused(folder, content, message):
    with pytest.raises(CombinationError, match=message):
        open_split(folder / "pairs/train", filter_of(content, "k"), "data.sources.made")


def test_conditions_on_the_table_come_before_what_is_held_out(folder):
    conditions = Conditions(("caption_length > 35", "not group in (a0001, a0005)"))
    whole = ShardDataset(folder / "pairs/train")
    lengths, groups = whole.column("caption_length"), whole.column("group")
    long = [row for row in range(20) if lengths[row] > 35]
    rows = [row for row in long if groups[row] not in ("a0001", "a0005")]
    selected = pickle.loads(
        pickle.dumps(open_split(folder / "pairs/train", filter_of({}, "k"), "k", conditions=conditions))
    )
    assert selected.keys == [whole.key(row) for row in rows]
    assert [selected.read(i) for i in range(len(rows))] == [whole.read(row) for row in rows]
    assert selected.shards_hash == whole.manifest_hash != selected.manifest_hash
    assert f"dropped: {20 - len(long)} by caption_length > 35, {len(long) - len(rows)} by not group" in selected.summary
    both = open_split(folder / "pairs/train", filter_of(NOT_K1, "k"), "k", conditions=conditions)
    assert both.keys == [whole.key(row) for row in rows if row % 4 != 1]
    assert len({whole.manifest_hash, selected.manifest_hash, both.manifest_hash}) == 3
    with pytest.raises(ConditionError, match=r"k\.where\[0\]: there is no column organ"):
        open_split(folder / "pairs/train", filter_of({}, "k"), "k", conditions=Conditions(("organ = liver",)))
