import numpy as np
import pytest

from medvlp.augment import parse_transforms
from medvlp.data.dataset import RequestedSamples, Unreadable
from medvlp.data.images.crop import RandomView
from medvlp.data.loader import DataChanged, TrainingLoader
from medvlp.data.order import Order, OrderedSource
from medvlp.data.pairs import CollatePairs, PreparePairs
from medvlp.data.plan import RankSchedule, Request, SamplePlan
from medvlp.data.texts import FieldTexts, choose_text, text_id, texts_of
from medvlp.shards import BadSample, Sample, ShardDataset
from tests.datasets import pairs, write_split


def tokenize(text: str) -> list[int]:
    return [ord(letter) for letter in text[:20]]


CHANGES = parse_transforms(
    [
        {"name": "color_jitter", "probability": 0.7, "brightness": 0.4, "hue": 0.2},
        {"name": "gaussian_noise", "probability": 0.5},
    ],
    "transforms",
)


def loader(folders, workers=0, rank=0, ranks=1, total=6, batch=6, seed=0):
    sources = [(folder.parent.name, ShardDataset(folder)) for folder in folders]
    prepare = PreparePairs(
        [FieldTexts(("caption*",))] * len(sources),
        tokenize,
        RandomView(16, [0.5, 1], [0.75, 1.33], 10**6, transforms=CHANGES),
    )
    order = Order([OrderedSource(name, len(d), 1.0, d.manifest_hash) for name, d in sources], seed)
    schedule = RankSchedule(SamplePlan(order), batch, 1, rank, ranks)
    return TrainingLoader(
        RequestedSamples(sources, prepare, seed),
        schedule,
        CollatePairs(0),
        total,
        workers,
        pin=False,
        batch_bytes=2**18,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Samples with four captions, one of which is drawn at each position."""
    samples = pairs(20)
    for sample in samples:
        sample.texts |= {f"caption_{n}": f"{n} {sample.texts['caption']}" for n in (1, 2, 3)}
    return write_split(tmp_path_factory.mktemp("a") / "train", samples)


def same(batch, other):
    assert batch.keys == other.keys
    for name in ("images_BCHW", "tokens_BL", "text_ids_B"):
        assert np.array_equal(getattr(batch, name), getattr(other, name))


def test_workers_change_nothing(folder):
    batches = list(loader([folder]))
    for batch, other in zip(batches, loader([folder], workers=2), strict=True):
        same(batch, other)
    assert len(batches) == len(loader([folder])) == 6


def test_ranks_read_slices_of_the_same_batch_with_the_same_augmentation(folder):
    whole = list(loader([folder]))
    halves = [list(loader([folder], rank=rank, ranks=2)) for rank in (0, 1)]
    for step, batch in enumerate(whole):
        assert batch.keys == halves[0][step].keys + halves[1][step].keys
        assert np.array_equal(batch.images_BCHW[:3], halves[0][step].images_BCHW)
        assert np.array_equal(batch.images_BCHW[3:], halves[1][step].images_BCHW)


@pytest.mark.parametrize("step", range(6))
def test_going_on_from_a_state_gives_the_rest_exactly_with_other_workers(folder, step):
    unbroken = list(loader([folder]))
    first = loader([folder])
    stream = iter(first)
    for _ in range(step):
        next(stream)
    resumed = loader([folder], workers=1 if step % 2 else 0)
    resumed.load_state_dict(first.state_dict())
    rest = list(resumed)
    assert len(rest) == 6 - step
    for batch, other in zip(unbroken[step:], rest, strict=True):
        same(batch, other)


def test_the_state_is_the_datas_identity_and_a_step(folder):
    made = loader([folder])
    stream = iter(made)
    for _ in range(4):
        next(stream)
    manifest = ShardDataset(folder).manifest_hash
    hashes = {folder.parent.name: manifest}
    state = {"manifests": hashes, "shards": hashes, "epoch": 1, "step_in_epoch": 1, "step": 4}
    assert made.state_dict() == state


def test_other_shards_are_refused_on_resume(folder, tmp_path):
    other = write_split(tmp_path / folder.parent.name / "train", pairs(21))
    with pytest.raises(DataChanged, match=folder.parent.name):
        loader([other]).load_state_dict(loader([folder]).state_dict())
    state = loader([folder]).state_dict()
    for hashes, message in ((state["shards"], "selects or makes other samples"), ({}, "another manifest.json")):
        with pytest.raises(DataChanged, match=message):
            loader([folder]).load_state_dict(state | {"manifests": {folder.parent.name: "other"}, "shards": hashes})


def test_bad_samples_are_replaced_from_their_own_source_and_named(tmp_path):
    broken = pairs(6)
    broken[2].images["jpg"] = broken[2].images["jpg"][:60]
    broken[4].texts["caption"] = "  "
    split = write_split(tmp_path / "one" / "train", broken)
    two = write_split(
        tmp_path / "two" / "train", [Sample(**{**vars(s), "key": f"two-{i}"}) for i, s in enumerate(pairs(6))]
    )
    made = [list(loader([split, two], total=1, batch=12, workers=workers)) for workers in (0, 2)]
    same(made[0][0], made[1][0])
    batch = made[0][0]
    reasons = {problem["key"]: problem["reason"] for problem in batch.bad}
    assert reasons == {broken[2].key: "undecodable_image", broken[4].key: "empty_caption"}
    assert {problem["shard"] for problem in batch.bad} == {"000000.tar"}
    assert {problem["source"] for problem in batch.bad} == {"one"}
    assert sum(key.startswith("two-") for key in batch.keys) == 6
    assert not set(batch.keys) & set(reasons)


def test_a_source_with_nothing_readable_stops_with_its_name(tmp_path):
    folder = write_split(tmp_path / "train", [Sample(key="k", images={"jpg": b"x"}, texts={"caption": "c"})])
    units = loader([folder], batch=1).samples
    with pytest.raises(Unreadable, match=r"20 samples in a row .* k in shard 000000.tar: undecodable_image"):
        units[Request(0, (0,), (0,))]


def test_tokens_are_padded_to_the_longest_of_the_batch(folder):
    batch = next(iter(loader([folder])))
    assert batch.tokens_BL.shape == (6, 20)
    short = CollatePairs(9)(
        [
            {
                "bad": [],
                "items": [{"key": "k", "position": 0, "images": [batch.images_BCHW[0]], "tokens": ids, "text_id": 1}],
            }
            for ids in ([1], [2, 3])
        ]
    )
    assert short.tokens_BL.tolist() == [[1, 9], [2, 3]]


def test_a_text_is_drawn_from_those_that_are_there():
    sample = Sample(key="k", texts={"caption": "a", "roi": "b", "empty": " "})
    texts = FieldTexts(("caption", "roi", "empty", "absent"))
    drawn = {choose_text(sample, texts, np.random.default_rng(s)) for s in range(30)}
    assert {(text.text, text.missing) for text in drawn} == {("a", ("empty", "absent")), ("b", ("empty", "absent"))}
    with pytest.raises(BadSample, match="empty_caption"):
        choose_text(sample, FieldTexts(("empty", "absent")), np.random.default_rng(0))


def test_all_captions_are_drawn_and_no_text_that_is_named_otherwise(folder):
    drawn = [chr(tokens[0]) for batch in loader([folder], total=40) for tokens in batch.tokens_BL]
    counts = [drawn.count(first) for first in "f123"]  # "figure ...", "1 figure ...", ...
    assert sum(counts) == len(drawn) == 240
    assert min(counts) > 40
    other = [chr(tokens[0]) for batch in loader([folder], total=40, seed=1) for tokens in batch.tokens_BL]
    assert other != drawn


def test_texts_by_name_and_all_that_are_numbered_after_one():
    texts = {"caption_10": "k", "caption_2": "c", "caption": "a", "caption_1": "b", "caption_de": "d", "roi": "r"}
    sample = Sample(key="k", texts={**texts, "caption_3": " "})
    assert texts_of(sample, ["caption*"]) == {"caption": "a", "caption_1": "b", "caption_2": "c", "caption_10": "k"}
    assert texts_of(sample, ["caption"]) == {"caption": "a"}
    assert list(texts_of(sample, ["roi", "caption*", "caption"]).values()) == ["r", "a", "b", "c", "k"]
    assert texts_of(sample, ["absent*"]) == {}


def test_text_ids_fold_case_and_white_space():
    assert text_id("Chest  X-ray ") == text_id("chest x-ray") != text_id("chest x ray")
    assert 0 <= text_id("anything") < 2**63
