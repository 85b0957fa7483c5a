import numpy as np
import pytest
import torch

from medvlp.eval import items
from medvlp.eval.embeddings import CachedEncoder, encode_together
from medvlp.eval.store import embeddings as store_embeddings
from medvlp.eval.store.embeddings import EmbeddingStore
from medvlp.eval.store.folder import StoreFolder
from medvlp.eval.store.root import open_root
from medvlp.shards import BadSample, ShardDataset
from medvlp.shards.index import open_index
from tests.datasets import pairs, write_split
from tests.eval.colour_world import ColourEncoder, FakeDataset, FakeSample, sample


class PrimeEncoder(ColourEncoder):
    """Embeddings with all bits in use; its weights are a number."""

    def __init__(self, weight=1.0, transform_identity="pixels in [0, 1]"):
        super().__init__(f"weights {weight}")
        self.weight, self.transform_identity, self.transformed = weight, transform_identity, 0

    def transform(self, image):
        self.transformed += 1
        return super().transform(image)

    def encode_image(self, pixels_BCHW):
        self.encoded_images += len(pixels_BCHW)
        means = pixels_BCHW.mean(dim=(2, 3)) + torch.tensor([1 / 3, 1 / 7, 1 / 11]) * self.weight
        return torch.nn.functional.normalize(means, dim=1)


def colours(*extra):
    rows = [sample(f"s{i}", name, caption=name) for i, name in enumerate(["red", "green", "blue", "yellow", "grey"])]
    return FakeDataset([*rows, *extra])


def model(tmp_path, encoder=None, batch_size=2, max_pixels=10_000):
    store = EmbeddingStore(StoreFolder(open_root(tmp_path / "cache"), 10**7))
    return CachedEncoder(encoder or PrimeEncoder(), batch_size, 0, max_pixels, store)


def test_from_the_store_come_the_very_bits_and_no_image_is_read(tmp_path):
    rows = [FakeSample("broken", {"jpg": b"\xff\xd8 no jpeg"}), FakeSample("textonly", {})]
    data, first, second = colours(*rows), model(tmp_path), model(tmp_path)
    cold, texts = first.images(data), first.texts(["red", "a blue one", ""])
    data.reads = 0
    warm = second.images(data)
    assert warm.embeddings_ND.numpy().tobytes() == cold.embeddings_ND.numpy().tobytes()
    assert (warm.items, warm.bad) == (cold.items, cold.bad)
    assert warm.bad == {"broken": "undecodable_image", "textonly": "no_image"}
    assert second.texts(["red", "a blue one", ""]).numpy().tobytes() == texts.numpy().tobytes()
    assert (data.reads, second.encoder.encoded_images, second.encoder.encoded_texts) == (0, 0, [])
    (path,) = (tmp_path / "cache").rglob("samples.json")
    assert np.load(path.with_name("embeddings.npy")).dtype == np.float32


def test_an_entry_that_goes_when_it_was_found_is_computed_again(tmp_path, monkeypatch):
    """Another process evicts it between its verification and its opening."""
    data, first = colours(), model(tmp_path)
    expected = first.images(data).embeddings_ND, first.texts(["red"])
    find = StoreFolder.find

    def find_and_lose(folder, parts):
        entry = find(folder, parts)
        if entry is not None:
            folder.remove(entry.path)
        return entry

    monkeypatch.setattr(StoreFolder, "find", find_and_lose)
    second = model(tmp_path)
    assert second.images(data).embeddings_ND.equal(expected[0])
    assert second.texts(["red"]).equal(expected[1])
    assert (second.encoder.encoded_images, second.encoder.encoded_texts) == (5, ["red"])


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": PrimeEncoder(2.0)},  # other weights behind the same name
        {"batch_size": 3},
        {"max_pixels": 16},
    ],
)
def test_another_model_or_setting_meets_no_entry(tmp_path, changes):
    data = colours()
    model(tmp_path).images(data)
    other = model(tmp_path, **changes)
    images = other.images(data)
    assert other.encoder.encoded_images == 5
    alone = CachedEncoder(other.encoder, other.batch_size, 0, other.max_pixels).images(data)
    assert torch.equal(images.embeddings_ND, alone.embeddings_ND)


def test_other_versions_decoding_or_data_meet_no_entry(tmp_path, monkeypatch):
    model(tmp_path).images(colours())
    other = model(tmp_path)
    other.images(colours(sample("x", "blue")))
    assert other.encoder.encoded_images == 6
    for name, value in (("VERSION", "3"), ("versions", lambda: {"torch": "9"}), ("EMBEDDINGS_FORMAT", 0)):
        model(tmp_path).texts(["red"])
        monkeypatch.setattr(store_embeddings, name, value)
        other = model(tmp_path)
        other.images(colours())
        other.texts(["red"])
        assert other.encoder.encoded_images == 5
        assert bool(other.encoder.encoded_texts) == (name != "VERSION")
    other = model(tmp_path, ColourEncoder("weights 1.0"))
    other.encoder.execution = "cuda bfloat16"
    other.images(colours())
    assert other.encoder.encoded_images == 5


def test_a_damaged_entry_is_computed_again(tmp_path):
    data = colours()
    cold = model(tmp_path).images(data)
    for path in (tmp_path / "cache").rglob("embeddings.npy"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    again = model(tmp_path)
    assert torch.equal(again.images(data).embeddings_ND, cold.embeddings_ND)
    assert again.encoder.encoded_images == 5
    warm = model(tmp_path)
    assert torch.equal(warm.images(data).embeddings_ND, cold.embeddings_ND)
    assert warm.encoder.encoded_images == 0


def test_without_a_store_and_on_a_full_disk_evaluation_goes_on(tmp_path, capsys, monkeypatch):
    data, full = colours(), model(tmp_path)

    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_embeddings.np, "save", refuse)
    images, texts = full.images(data), full.texts(["red"])
    assert len(images.items) == 5
    assert len(texts) == 1
    assert capsys.readouterr().err.count("No space left on device") == 1
    assert full.store.folder.entries() == []


def test_what_a_missing_shard_left_is_not_stored(tmp_path):
    data = colours(BadSample("missing_shard"))
    model(tmp_path).images(data)
    again = model(tmp_path)
    assert again.images(data).bad == {"bad5": "missing_shard"}
    assert again.encoder.encoded_images == 5


def test_what_was_damaged_since_is_bad_in_a_warm_evaluation_too(tmp_path):
    made = pairs(20)
    data = ShardDataset(write_split(tmp_path / "test", made))
    cold = model(tmp_path).images(data)
    assert [item.metadata for item in cold.items] == [sample.metadata for sample in made]
    index = open_index(tmp_path / "test" / "000001.idx")
    row = next(row for row in index if row["sample"] == 2 and row["member"] == b"json")
    with open(tmp_path / "test" / "000001.tar", "r+b") as file:
        file.seek(int(row["offset"]))
        file.write(b"[")
    items._items.clear()  # of another process
    warmed = model(tmp_path)
    warm = warmed.images(ShardDataset(tmp_path / "test"))
    assert warmed.encoder.encoded_images == 0
    assert warm.bad == {made[10].key: "checksum_mismatch"}
    assert warm.items == cold.items[:10] + cold.items[11:]
    assert torch.equal(warm.embeddings_ND, cold.embeddings_ND[[*range(10), *range(11, 20)]])


def test_images_that_share_preprocessing_are_decoded_once(tmp_path):
    encoders = [PrimeEncoder(1.0), PrimeEncoder(2.0), PrimeEncoder(3.0, "another transform"), PrimeEncoder(4.0)]
    data = colours(FakeSample("textonly", {}))
    models = [model(tmp_path, encoder) for encoder in encoders]
    model(tmp_path, PrimeEncoder(4.0)).images(data)  # its embeddings are in the store
    data.reads = 0
    encode_together(models, data)
    assert [encoder.transformed for encoder in encoders] == [5, 0, 5, 0]
    assert [encoder.encoded_images for encoder in encoders] == [5, 5, 5, 0]
    assert data.reads == 12
    for cached in models:
        alone = CachedEncoder(PrimeEncoder(cached.encoder.weight), 2, 0, 10_000).images(data)
        assert torch.equal(cached.images(data).embeddings_ND, alone.embeddings_ND)
        assert (cached.images(data).items, cached.images(data).bad) == (alone.items, alone.bad)
    assert data.reads == 12 + 4 * 6
