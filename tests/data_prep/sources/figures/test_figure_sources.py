"""The sources of figures and captions, from the publisher's layout to shards: the bytes do not depend on the processes."""

from collections import Counter

import pytest

from data_prep.pipeline import prepare
from data_prep.sources import SOURCES
from medvlp.shards import ShardDataset, verify
from tests.data_prep.folders import digests, jpeg
from tests.data_prep.sources.figures.folders_roco import read_rows, write_roco
from tests.data_prep.sources.figures.test_biomedica import KEY, fields, write_tar
from tests.data_prep.sources.figures.test_pmc_oa import write_pmc_oa
from tests.data_prep.sources.figures.test_quilt import add_rows, row, write_quilt
from tests.data_prep.sources.figures.test_roco import ROWS
from tests.data_prep.sources.figures.test_unimed import write_part


def pmc_oa(folder):
    write_pmc_oa(folder, tables=("train.jsonl", "valid.jsonl", "test.jsonl"))
    return {"train": 2, "valid": 1, "test": 1}, {}


def roco(folder):
    write_roco(folder, ROWS)
    (folder / "test" / "radiology" / "images" / ROWS[2]["pmc"]).unlink()
    return {"train": 1, "valid": 1}, {"missing_image": 1}


def quilt(folder):
    write_quilt(folder)
    add_rows(folder, [row("nan", "absent.jpg")])
    return {"train": 3, "valid": 1}, {"missing_caption": 1}


def biomedica(folder):
    entry = fields(article_accession_id="PMC2")
    write_tar(folder / "commercial" / "0.tar", (KEY, jpeg(1), "Chest X-ray.", fields()))
    write_tar(
        folder / "other" / "0.tar", ("1-PMC2-0-a", jpeg(2), "None", entry), ("1-PMC2-1-b", jpeg(3), "Two.", entry)
    )
    return {"train": 2}, {"missing_caption": 1}


def unimed(folder):
    write_part(folder / "chexpert_webdataset", (jpeg(1), "A._chexpert_B._chexpert_"), (jpeg(2), "._chexpert_"))
    write_part(folder / "quilt_webdataset", (jpeg(3), "Spindle cells."))
    return {"train": 2}, {"empty_caption": 1}


@pytest.mark.parametrize("write", [pmc_oa, roco, quilt, biomedica, unimed])
def test_the_same_bytes_from_one_process_and_two(tmp_path, write):
    name = write.__name__
    if name not in SOURCES:
        pytest.skip(f"{name} is not among the sources")
    sizes, drops = write(tmp_path / "in")
    for workers in (1, 2):
        output = tmp_path / f"out{workers}"
        result = prepare(name, str(tmp_path / "in"), output, workers=workers, samples_per_shard=1)
        assert {split: len(ShardDataset(output / split)) for split in sizes} == sizes
        assert result.ledger["drops"] == ({"read": drops} if drops else {})
        assert result.ledger["in"] == result.ledger["out"] + sum(drops.values())
        assert verify(output) == []
    assert digests(tmp_path / "out1") == digests(tmp_path / "out2")


def test_articles_of_real_captions_share_splits_until_they_are_grouped(test_data, tmp_path):
    rows = read_rows(test_data / "roco_v1" / "captions_cc_by.jsonl", per_split=15, shared=20)
    write_roco(tmp_path / "in", rows)
    shared_articles = {}
    for split in ("publisher", "grouped"):
        prepare("roco", str(tmp_path / "in"), tmp_path / split, options={"kind": "all"}, split=split)
        splits = [child.parent for child in (tmp_path / split).glob("*/manifest.json")]
        groups = {folder.name: set(ShardDataset(folder).column("group")) for folder in splits}
        shared_articles[split] = Counter(group for names in groups.values() for group in names)
        assert sum(len(ShardDataset(folder)) for folder in splits) == len(rows)
    assert sum(times > 1 for times in shared_articles["publisher"].values()) == 20
    assert set(shared_articles["grouped"].values()) == {1}
