"""Writing small folders of the kind that prep, train and eval leave."""

import io
import json

from PIL import Image

from medvlp.shards import Manifest, ShardWriter, hash_config, write_manifest
from medvlp.shards.writer import rows_table, write_tables

HOSTILE = "<script>alert(1)</script> & \"a 'quoted'\" axial CT of the chest"


def jsonl(path, rows, tail=""):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")


def jpeg(shade, size=(320, 200)):
    data = io.BytesIO()
    Image.new("RGB", size, (shade, shade, 40)).save(data, "jpeg")
    return data.getvalue()


def write_split(folder, split, samples, stages=({"stage": "source", "name": "figures"},)):
    """A finished split of one shard."""
    (folder / split).mkdir(parents=True)
    with ShardWriter(folder / split / "000000", split) as writer:
        for sample in samples:
            writer.write(sample, 320, 200)
    files = {
        **writer.files,
        "samples.parquet": write_tables(folder / split / "samples.parquet", [rows_table(writer.rows)]),
    }
    stages = list(stages)
    shards = {"000000.tar": len(samples)}
    write_manifest(folder / split, Manifest(split, files, shards, len(samples), stages, hash_config(stages), {}))
