"""A prepared source, as medvlp prep leaves it."""

import json

import pytest

from medvlp.shards import Sample
from tests.report.dataset.small_folders import HOSTILE, jpeg, write_split


@pytest.fixture
def prepared(tmp_path):
    """Six test samples (one hostile caption, one broken image) and two training samples; seven were dropped."""
    captions = [HOSTILE, "coronal MRI of the knee", "chest radiograph", "axial CT of the liver", "", "broken"]
    samples = [
        Sample(
            f"figures__a{i}",
            {"jpg": jpeg(40 * i) if text != "broken" else b"\xff\xd8 no image"},
            {"caption": text},
            {"modality": "CT"},
            metadata={"group": f"a{i}", "licence": "CC-BY-4.0" if i else "", "modality": "CT" if i < 4 else "MRI"},
        )
        for i, text in enumerate(captions)
    ]
    folder = tmp_path / "data" / "figures"
    write_split(folder, "test", samples)
    train = [
        Sample(f"figures__t{i}", {"jpg": jpeg(9)}, {"caption": "liver"}, metadata={"group": "a1"}) for i in range(2)
    ]
    write_split(folder, "train", train)
    drops = {"decode": {"undecodable_image": 4}, "licence": {"not_allowed": 3, "missing": 0}}
    ledger = {"in": 15, "out": 8, "drops": drops, "splits": {
        "test": {"in": 13, "out": 6, "drops": drops}, "train": {"in": 2, "out": 2, "drops": {}},
    }}  # fmt: skip
    (folder / "ledger.json").write_text(json.dumps(ledger))
    return folder
