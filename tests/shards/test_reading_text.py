from dataclasses import replace

import pytest

from medvlp.shards import BadSample, Sample, ShardDataset
from medvlp.shards.index import open_index
from tests.datasets import jpeg, pairs, write_split


def test_text_is_read_without_images_and_checked_as_strictly(tmp_path):
    made = pairs(3)
    made[1].images = {"left.jpg": jpeg(1), "right.jpg": jpeg(2)}
    folder = write_split(tmp_path / "test", [*made, Sample("textonly", {}, {"caption": "words"})])
    data = ShardDataset(folder)
    for row in range(4):
        sample = data.read(row)
        assert data.read_text(row) == replace(sample, images={})
    index = open_index(folder / "000000.idx")
    offsets = {(int(row["sample"]), bytes(row["member"])): int(row["offset"]) for row in index}
    with open(folder / "000000.tar", "r+b") as file:
        for sample, member in ((0, b"jpg"), (2, b"txt")):
            file.seek(offsets[sample, member])
            file.write(b"\0")
    data = ShardDataset(folder)
    assert data.read_text(0).texts == made[0].texts  # its image, which nobody asked for, is damaged
    with pytest.raises(BadSample, match="txt at byte"):
        data.read_text(2)
    with pytest.raises(IndexError):
        data.read_text(4)
