import json

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from medvlp.data.chat.images import Processed
from medvlp.data.images.feature_cache import (
    FEATURES,
    METADATA,
    CachedFeatures,
    StaleCache,
    cache_metadata,
    is_cached,
    write_features,
)
from medvlp.shards import BadSample, Sample, ShardDataset
from tests.assistants import vqa_samples
from tests.datasets import jpeg, write_split

WITH = {"tower": "a hash", "transform": "settings"}


class Grid:
    """A processor that keeps the upper left 4 × 4 pixels."""

    def __call__(self, images, return_tensors):
        import numpy as np

        return {"pixel_values": torch.stack([torch.from_numpy(np.array(i)[:4, :4].copy()).float() for i in images])}


def encode(pixels_B443):
    return pixels_B443.flatten(1, 2) * 2 + 1  # 16 tokens of width 3


@pytest.fixture
def dataset(tmp_path):
    several = Sample(key="made__two", images={"0.jpg": jpeg(91), "1.jpg": jpeg(92)})
    broken = Sample(key="made__broken", images={"jpg": jpeg(93)[:50]})
    text = Sample(key="made__text", texts={"caption": "no image"})
    return ShardDataset(write_split(tmp_path / "train", [*vqa_samples(40), several, broken, text]))


@pytest.fixture
def folder(dataset, tmp_path):
    write_features(
        tmp_path / "cache", dataset, cache_metadata(dataset, WITH), Processed(Grid(), 10**6), encode, (16, 3)
    )
    return tmp_path / "cache"


def test_what_is_read_is_what_the_tower_gives(dataset, folder):
    cached, processed = CachedFeatures([folder], [dataset]), Processed(Grid(), 10**6)
    for row in range(42):
        if dataset.key(row) != "made__broken":
            sample = dataset.read(row)
            assert torch.equal(cached(sample), encode(processed(sample)))
    assert cached(dataset.read(40)).shape == (2, 16, 3)
    assert cached(dataset.read(42)).shape == (0, 16, 3)


def test_an_example_of_a_sample_has_the_samples_features(dataset, folder):
    cached, sample = CachedFeatures([folder], [dataset]), dataset.read(3)
    named = Sample(key=f"{sample.key}#2", images=sample.images)
    assert torch.equal(cached(named), cached(sample))


def test_an_image_that_could_not_be_read_is_a_bad_sample_again(dataset, folder):
    with pytest.raises(BadSample, match="undecodable_image in made__broken"):
        CachedFeatures([folder], [dataset])(dataset.read(41))


class Reads(Dataset):
    def __init__(self, dataset, cached):
        self.dataset, self.cached = dataset, cached

    def __len__(self):
        return 8

    def __getitem__(self, row):
        return self.cached(self.dataset.read(row))


def test_loader_workers_read_the_same(dataset, folder):
    reads = Reads(dataset, CachedFeatures([folder], [dataset]))
    for mine, theirs in zip(reads, DataLoader(reads, batch_size=None, num_workers=1), strict=False):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["tower", "transform", "data"])
def test_features_of_something_else_are_refused_by_name(dataset, folder, name):
    assert is_cached(folder, cache_metadata(dataset, WITH))
    with pytest.raises(StaleCache, match=f"made with another {name}. Delete the folder"):
        is_cached(folder, {**cache_metadata(dataset, WITH), name: "another"})


def test_a_killed_writer_leaves_no_cache_and_a_damaged_card_is_named(dataset, folder):
    (folder / METADATA).write_text("{")
    with pytest.raises(StaleCache, match="damaged"):
        is_cached(folder, cache_metadata(dataset, WITH))
    (folder / METADATA).unlink()  # it is written last
    assert not is_cached(folder, cache_metadata(dataset, WITH))


def test_the_card_counts_images_and_names_bad_ones(folder):
    card = json.loads((folder / METADATA).read_text())
    assert card["shape"] == [42, 16, 3]
    assert list(card["bad"]) == ["made__broken"]


def test_features_that_are_not_what_was_written_are_bad_samples(dataset, folder):
    path = folder / FEATURES
    data = bytearray(path.read_bytes())
    data[5 * 16 * 3 * 4 + 7] ^= 1
    path.write_bytes(data)
    cached = CachedFeatures([folder], [dataset])
    with pytest.raises(BadSample, match=r"checksum_mismatch .*are not what was written; delete the folder"):
        cached(dataset.read(5))
    assert cached(dataset.read(4)).shape == (1, 16, 3)


@pytest.mark.parametrize(
    "change",
    [
        lambda card: card.update(shape=[43, 16, 3]),
        lambda card: card.update(shape="x"),
        lambda card: card.pop("crc32"),
        lambda card: card.update(crc32=card["crc32"][1:]),
        lambda card: card.update(starts=[]),
        lambda card: card.update(bad=[]),
    ],
)
def test_a_card_that_does_not_fit_its_features_is_named(dataset, folder, change):
    card = json.loads((folder / METADATA).read_text())
    change(card)
    (folder / METADATA).write_text(json.dumps(card))
    with pytest.raises(StaleCache, match=r"is damaged, or of an older medvlp .* delete the folder"):
        is_cached(folder, cache_metadata(dataset, WITH))


def test_features_cut_short_are_named(dataset, folder):
    (folder / FEATURES).write_bytes((folder / FEATURES).read_bytes()[:-4])
    with pytest.raises(StaleCache, match="the sizes do not fit"):
        is_cached(folder, cache_metadata(dataset, WITH))
