import os

import pytest
import torch

from medvlp.eval.embeddings import EmbeddingCache
from medvlp.shards import BadSample
from tests.eval.colour_world import ColourEncoder, FakeDataset, FakeSample, sample


def colours():
    names = ["red", "green", "blue", "yellow", "grey", "red", "blue"]
    rows = [sample(f"s{i}", name, group=f"g{i // 2}", caption=f"a {name} patch") for i, name in enumerate(names)]
    rows.insert(2, BadSample("checksum_mismatch"))
    rows.insert(5, FakeSample("broken", {"jpg": b"\xff\xd8 no jpeg"}))
    rows.append(FakeSample("textonly", {}))
    return FakeDataset(rows)


def test_images_are_read_once_and_bad_ones_named():
    dataset, encoder, cache = colours(), ColourEncoder(), EmbeddingCache(3, 0, 10_000)
    found = cache.images(encoder, dataset)
    assert [item.key for item in found.items] == [f"s{i}" for i in range(7)]
    assert [item.group for item in found.items] == ["g0", "g0", "g1", "g1", "g2", "g2", "g3"]
    assert found.bad == {"bad2": "checksum_mismatch", "broken": "undecodable_image", "textonly": "no_image"}
    assert found.bad_counts() == {"checksum_mismatch": 1, "no_image": 1, "undecodable_image": 1}
    assert torch.equal(found.embeddings_ND[:3], torch.eye(3))
    assert cache.images(encoder, dataset) is found
    assert dataset.reads == len(dataset)


def test_another_dataset_or_encoder_is_encoded_again():
    cache, first = EmbeddingCache(3, 0, 10_000), ColourEncoder()
    kept = cache.images(first, colours())
    other = FakeDataset([sample("x", "blue")], manifest_hash="another")
    assert [item.key for item in cache.images(first, other).items] == ["x"]
    assert cache.images(first, colours()) is kept
    assert cache.images(ColourEncoder("other weights"), colours()) is not kept


def test_texts_are_encoded_once_in_batches():
    cache, encoder = EmbeddingCache(2, 0, 10_000), ColourEncoder()
    found = cache.texts(encoder, ["red", "blue", "green"])
    assert torch.equal(found, torch.eye(3)[[0, 2, 1]])
    assert cache.texts(encoder, ["red", "blue", "green"]) is found
    assert encoder.encoded_texts == ["red", "blue", "green"]


def test_workers_change_nothing_and_the_random_state_is_left_alone():
    state = torch.get_rng_state()
    alone = EmbeddingCache(3, 0, 10_000).images(ColourEncoder(), colours())
    helped = EmbeddingCache(3, 1, 10_000).images(ColourEncoder(), colours())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(alone.embeddings_ND, helped.embeddings_ND)
    assert (alone.items, alone.bad) == (helped.items, helped.bad)


def test_large_images_are_bad_and_nothing_readable_is_an_error():
    with pytest.raises(ValueError, match=r"none of the 1 samples has a readable image \(\{'too_many_pixels': 1\}\)"):
        EmbeddingCache(3, 0, 15).images(ColourEncoder(), FakeDataset([sample("x", "blue")]))


def _one_of_two(rank, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    dataset, encoder, cache = colours(), ColourEncoder(), EmbeddingCache(3, 0, 10_000)
    images = cache.images(encoder, dataset)
    texts = cache.texts(encoder, ["red", "green", "blue", "yellow", "grey"])
    torch.save(
        [images.embeddings_ND, [i.key for i in images.items], images.bad, texts, dataset.reads], f"{folder}/{rank}"
    )
    torch.distributed.destroy_process_group()


def test_two_ranks_share_the_work_and_get_the_same_as_one(tmp_path):
    torch.multiprocessing.spawn(_one_of_two, (tmp_path,), nprocs=2)
    cache, encoder = EmbeddingCache(3, 0, 10_000), ColourEncoder()
    alone, texts = cache.images(encoder, colours()), cache.texts(encoder, ["red", "green", "blue", "yellow", "grey"])
    for rank, reads in ((0, 6), (1, 4)):  # ten samples in batches of three, dealt in turn
        found = torch.load(tmp_path / str(rank))
        assert torch.equal(found[0], alone.embeddings_ND)
        assert found[1:3] == [[item.key for item in alone.items], alone.bad]
        assert torch.equal(found[3], texts)
        assert found[4] == reads
