from pathlib import Path

import pytest
import torch

from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.errors import TaskError
from medvlp.eval.store.embeddings import EmbeddingStore
from medvlp.eval.store.folder import StoreFolder
from medvlp.eval.store.root import open_root
from medvlp.shards import BadSample
from tests.distributed.ranks import on_ranks
from tests.eval.colour_world import ColourEncoder, FakeDataset, FakeSample, sample


def colours(reason="checksum_mismatch"):
    names = ["red", "green", "blue", "yellow", "grey", "red", "blue"]
    rows = [sample(f"s{i}", name, group=f"g{i // 2}", caption=f"a {name} patch") for i, name in enumerate(names)]
    rows.insert(2, BadSample(reason))
    rows.insert(5, FakeSample("broken", {"jpg": b"\xff\xd8 no jpeg"}))
    rows.append(FakeSample("textonly", {}))
    return FakeDataset(rows)


def test_images_are_read_once_and_bad_ones_named():
    dataset, model = colours(), CachedEncoder(ColourEncoder(), 3, 0, 10_000)
    images = model.images(dataset)
    assert [item.key for item in images.items] == [f"s{i}" for i in range(7)]
    assert [item.group for item in images.items] == ["g0", "g0", "g1", "g1", "g2", "g2", "g3"]
    assert images.bad == {"bad2": "checksum_mismatch", "broken": "undecodable_image", "textonly": "no_image"}
    assert images.bad_counts() == {"checksum_mismatch": 1, "no_image": 1, "undecodable_image": 1}
    assert torch.equal(images.embeddings_ND[:3], torch.eye(3))
    assert model.images(dataset) is images
    assert dataset.reads == len(dataset)


def test_another_dataset_is_encoded_again():
    model = CachedEncoder(ColourEncoder(), 3, 0, 10_000)
    images = model.images(colours())
    other = FakeDataset([sample("x", "blue")], manifest_hash="another")
    assert [item.key for item in model.images(other).items] == ["x"]
    assert model.images(colours()) is images


def test_texts_are_encoded_once_in_batches():
    encoder = ColourEncoder()
    model = CachedEncoder(encoder, 2, 0, 10_000)
    embeddings = model.texts(["red", "blue", "green"])
    assert torch.equal(embeddings, torch.eye(3)[[0, 2, 1]])
    assert model.texts(["red", "blue", "green"]) is embeddings
    assert encoder.encoded_texts == ["red", "blue", "green"]


def test_workers_change_nothing_and_the_random_state_is_left_alone():
    state = torch.get_rng_state()
    alone = CachedEncoder(ColourEncoder(), 3, 0, 10_000).images(colours())
    helped = CachedEncoder(ColourEncoder(), 3, 1, 10_000).images(colours())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(alone.embeddings_ND, helped.embeddings_ND)
    assert (alone.items, alone.bad) == (helped.items, helped.bad)


def test_large_images_are_bad_and_nothing_readable_is_an_error():
    with pytest.raises(TaskError, match=r"none of the 1 samples has a readable image \(\{'too_many_pixels': 1\}\)"):
        CachedEncoder(ColourEncoder(), 3, 0, 15).images(FakeDataset([sample("x", "blue")]))


TEXTS = ["red", "green", "blue", "yellow", "grey"]


def _one_of_two(folder):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    # Where rank 1 runs, the store's folder cannot be made.
    store = EmbeddingStore(StoreFolder(open_root(Path(folder) / "cache"), 10**6)) if rank == 0 else None
    saved = []
    for stored in (None, store, store):  # without a store, an empty one, one that holds all
        encoder, dataset = ColourEncoder(), colours("extreme_aspect")
        model = CachedEncoder(encoder, 3, 0, 10_000, stored)
        images, texts = model.images(dataset), model.texts(TEXTS)
        keys = [item.key for item in images.items]
        saved.append(
            [images.embeddings_ND.clone(), texts.clone(), keys, images.bad, dataset.reads, len(encoder.encoded_texts)]
        )
    torch.save(saved, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


def test_two_ranks_share_the_work_and_get_the_same_as_one(tmp_path):
    code, said = on_ranks(_one_of_two, 2, tmp_path)
    assert code == 0, said
    model = CachedEncoder(ColourEncoder(), 3, 0, 10_000)
    alone, texts = model.images(colours("extreme_aspect")), model.texts(TEXTS)
    for rank, reads, encoded_texts in ((0, 6, 3), (1, 4, 2)):  # ten samples in batches of three, dealt in turn
        for turn, saved in enumerate(torch.load(tmp_path / str(rank))):
            assert torch.equal(saved[0], alone.embeddings_ND)
            assert torch.equal(saved[1], texts)
            assert saved[2:4] == [[item.key for item in alone.items], alone.bad]
            assert saved[4:] == ([reads, encoded_texts] if turn < 2 else [0, 0])
