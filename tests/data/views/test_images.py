"""Samples of several images: another each epoch, each by itself, or all as one example."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from medvlp.combinations import ItemFilter
from medvlp.data.chat.images import Processed
from medvlp.data.dataset import RequestedSamples
from medvlp.data.images.of_samples import EvaluationView, images_of
from medvlp.data.pairs import CollatePairs, PreparePairs
from medvlp.data.plan import Request
from medvlp.data.texts import FieldTexts, class_ids
from medvlp.data.views.filtered import FilteredDataset
from medvlp.data.views.images import EachImage, OneImage, image_counts
from medvlp.selection import Conditions
from medvlp.shards import BadSample, Sample, ShardDataset
from tests.datasets import jpeg, pairs, write_split


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Samples of 1, 2, 3, 1, 2, … images, and the last of none."""
    samples = [
        pair
        if row % 3 == 0
        else replace(pair, images={f"{n}.jpg": jpeg(10 * row + n, 16 + n) for n in range(row % 3 + 1)})
        for row, pair in enumerate(pairs(12))
    ]
    samples[11].images.clear()
    return ShardDataset(write_split(tmp_path_factory.mktemp("images") / "train", samples, per_shard=5))


def filtered(dataset):
    return FilteredDataset(
        dataset.folder, ItemFilter(), "data.sources.a", conditions=Conditions(("key != made__a0001__f1__0",))
    )


def test_images_are_counted_without_reading_samples(dataset):
    assert image_counts(dataset).tolist() == [len(dataset.read(row).images) for row in range(12)]
    assert image_counts(filtered(dataset)).tolist() == [1, 3, 1, 2, 3, 1, 2, 3, 1, 2, 0]


@pytest.mark.parametrize("view_of", [lambda dataset: dataset, filtered])
def test_one_image_an_epoch_comes_once_in_as_many_epochs(dataset, view_of):
    data = view_of(dataset)
    views = [OneImage(data, seed) for seed in (0, 1)]
    choices = []
    for row in range(len(data) - 1):
        sample = data.read(row)
        for view in views:
            epochs = [view.read_in(row, epoch) for epoch in range(12)]
            assert {len(made.images) for made in epochs} == {1}
            assert all(made.texts == sample.texts and made.key == sample.key for made in epochs)
            names = [next(iter(made.images)) for made in epochs]
            assert all(made.images[name] == sample.images[name] for made, name in zip(epochs, names, strict=True))
            count = len(sample.images)
            for cycle in range(12 // count):
                assert Counter(names[cycle * count : (cycle + 1) * count]) == Counter(sample.images.keys())
            choices.append(names)
    assert choices[::2] != choices[1::2]  # the seed decides
    assert len(set(map(tuple, choices))) > 4  # and so does the key
    assert views[0].manifest_hash not in (data.manifest_hash, EachImage(data).manifest_hash)


def test_a_request_reads_the_image_of_its_epoch(dataset):
    prepare = PreparePairs([FieldTexts(("caption",))], lambda text: [1], lambda data, rng: data)
    view = OneImage(dataset, 0)
    samples = RequestedSamples([("a", view)], prepare, 0)
    for epoch in range(3):
        item = samples[Request(epoch, (0,), (2,))]["items"][0]
        assert item["images"] == list(view.read_in(2, epoch).images.values())


def test_every_image_is_a_sample_of_its_own(dataset):
    view = EachImage(dataset)
    assert len(view) == 1 + 2 + 3 + 1 + 2 + 3 + 1 + 2 + 3 + 1 + 2 + 1
    samples = [view.read(row) for row in range(len(view) - 1)]
    keys = [sample.key for sample in samples]
    assert len(set(keys)) == len(keys) == len([view.key(row) for row in range(len(view) - 1)])
    assert keys[:4] == ["made__a0000__f1__0", "made__a0001__f1__0#0", "made__a0001__f1__0#1", "made__a0002__f1__0#0"]
    for row, made in enumerate(samples):
        origin = next(dataset.read(i) for i in range(12) if dataset.key(i) == made.key.partition("#")[0])
        position = int(made.key.partition("#")[2] or 0)
        assert list(made.images.values()) == [origin.images[sorted(origin.images)[position]]]
        assert (made.texts, view.read_text(row).key) == (origin.texts, made.key)
    joined = [class_ids(sample, "sample") for sample in samples[:4]]
    assert joined[1] == joined[2]
    assert len({joined[0][0], joined[1][0], joined[3][0]}) == 3
    with pytest.raises(IndexError):
        view.read(len(view))


def test_all_images_are_one_example_up_to_a_number(dataset):
    prepare = PreparePairs(
        [FieldTexts(("caption",))],
        lambda text: [1],
        lambda data, rng: torch.full((3, 4, 4), len(data) % 251),
        most_images=[2],
    )
    samples = RequestedSamples([("a", dataset)], prepare, 0)
    units = [samples[Request(0, (n,), (n,))] for n in range(6)]
    batch = CollatePairs(0, counts_images=True)(units)
    assert batch.image_counts_B.tolist() == [1, 2, 2, 1, 2, 2]
    assert batch.images_BCHW.shape == (10, 3, 4, 4)
    sample = dataset.read(2)
    chosen = [images_of(sample, 2, np.random.default_rng(seed)) for seed in range(30)]
    assert {tuple(images) for images in chosen} == {
        tuple(sample.images[f"{n}.jpg"] for n in pair) for pair in ((0, 1), (0, 2), (1, 2))
    }
    for row, most in ((2, 0), (11, 0), (11, 8)):
        with pytest.raises(BadSample, match="not_one_image"):
            images_of(dataset.read(row), most, np.random.default_rng(0))


def test_an_assistant_reads_the_same_members_in_the_same_order(dataset):
    sample = dataset.read(2)

    def processor(images, return_tensors):
        return {"pixel_values": torch.tensor([image.size for image in images])}

    view = EvaluationView(lambda image: torch.tensor(image.size), 10**6, takes_several=True)
    assert view(sample).tolist() == Processed(processor, 10**6)(sample).tolist() == [[16, 16], [17, 17], [18, 18]]
    with pytest.raises(BadSample, match="3 images, a pair has one"):
        EvaluationView(lambda image: torch.tensor(image.size), 10**6)(sample)
    with pytest.raises(BadSample, match="0 images"):
        view(Sample("k"))
