"""Describing ten times as many samples takes about the same memory."""

import json
import subprocess
import sys

import pytest

from medvlp.shards import Manifest, Sample, ShardWriter, hash_config, write_manifest
from medvlp.shards.writer import rows_table, write_tables
from tests.report.dataset.small_folders import jpeg

DESCRIBE = """
import resource, sys
from medvlp.report import write_prep_report, write_provenance
write_provenance(sys.argv[1])
write_prep_report(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_many(folder, count):
    """Figures of `count` / 4 articles with authors and titles, 1,000 a shard."""
    image, files, shards, tables = jpeg(9, (64, 64)), {}, {}, []
    (folder / "train").mkdir(parents=True)
    for first in range(0, count, 1000):
        with ShardWriter(folder / "train" / f"{first // 1000:06d}", "train") as writer:
            for number in range(first, first + 1000):
                article = f"PMC{number // 4}"
                about = {"source": "pmc", "article": article, "group": article, "group_kind": "article"}
                about |= {"article_title": f"On {article} " * 9, "authors": ["A. Name"] * 12, "licence": "CC-BY-4.0"}
                caption = f"view {number % 999} of word{number % 7919}".replace("9", "x")
                sample = Sample(f"pmc__{article}__{number}__0", {"jpg": image}, {"caption": caption}, metadata=about)
                writer.write(sample, 64, 64)
        files |= writer.files
        shards[f"{first // 1000:06d}.tar"] = 1000
        tables.append(rows_table(writer.rows))
    files["samples.parquet"] = write_tables(folder / "train" / "samples.parquet", tables)
    stages = [{"stage": "read", "source": "pmc"}]
    write_manifest(folder / "train", Manifest("train", files, shards, count, stages, hash_config(stages), {}))
    page = {"in": count, "out": count, "drops": {}}
    (folder / "ledger.json").write_text(json.dumps({**page, "splits": {"train": page}}))
    return folder


@pytest.mark.slow
def test_memory_does_not_grow_with_samples(tmp_path):
    peaks = []
    for count in (5_000, 50_000):
        folder = write_many(tmp_path / str(count), count)
        done = subprocess.run([sys.executable, "-c", DESCRIBE, str(folder)], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.2 * peaks[0], peaks
