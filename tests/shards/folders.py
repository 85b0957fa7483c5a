"""Making small data sets, and making faults look as if the files had been written that way."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medvlp.shards import Conversation, Manifest, Sample, ShardWriter, Turn, hash_config, write_manifest
from medvlp.shards.index import INDEX_DTYPE
from medvlp.shards.writer import mark_file, rows_table, write_tables

PER_SHARD = 4


def make_sample(number: int) -> Sample:
    return Sample(
        key=f"made__a{number:03d}__f0__0",
        images={"jpg": bytes([number]) * (700 + number)},
        texts={"caption": f"figure {number} – α", "title": f"title {number}"},
        labels={"kind": number % 3, "codes": ["C1", "C2"]},
        conversations=[
            Conversation([Turn("user", "what?"), Turn("assistant", "this")], f"q{number}", {"type": "open"})
        ],
        metadata={"group": f"a{number:03d}", "licence": "CC0-1.0", "modality": "CT"},
    )


def write_folder(folder: Path, samples: list[Sample]) -> None:
    """A finished split."""
    folder.mkdir(parents=True)
    files, shards, rows = {}, {}, []
    for number, start in enumerate(range(0, len(samples), PER_SHARD)):
        with ShardWriter(folder / f"{number:06d}", folder.name) as writer:
            for sample in samples[start : start + PER_SHARD]:
                writer.write(sample)
        files |= writer.files
        shards[f"{number:06d}.tar"] = len(writer.rows)
        rows += writer.rows
    files["samples.parquet"] = write_tables(folder / "samples.parquet", [rows_table(rows)])
    write_manifest(folder, Manifest(folder.name, files, shards, len(samples), [], hash_config([]), {}))


def write_dataset(folder: Path) -> Path:
    write_folder(folder / "train", [make_sample(n) for n in range(8)])
    write_folder(folder / "test", [make_sample(n) for n in range(8, 12)])
    splits = {"train": {"in": 9, "out": 8, "drops": {"read": {"lost": 1}}}, "test": {"in": 4, "out": 4, "drops": {}}}
    ledger = {"in": 13, "out": 12, "drops": {"read": {"lost": 1}}, "splits": splits}
    (folder / "ledger.json").write_text(json.dumps(ledger))
    return folder


def sign_again(folder: Path) -> None:
    """Bring the manifest's checksums up to the files, so that only contents can betray a fault."""
    content = json.loads((folder / "manifest.json").read_text())
    for name in content["files"]:
        mark = mark_file(folder / name)
        content["files"][name] = {"sha256": mark.sha256, "size": mark.size}
    (folder / "manifest.json").write_text(json.dumps(content))


Members = list[tuple[tarfile.TarInfo, bytes]]


def rebuild_tar(path: Path, without: str = "", change: Callable[[Members], None] | None = None) -> None:
    """The tar as if one member had never been in it, or as if what `change` makes of the members had been written."""
    members: Members = []
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            header = tarfile.TarInfo(member.name)
            members += [(header, file.read())] if member.name != without else []
    if change:
        change(members)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for header, data in members:
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))


def plant(folder: Path, change: Callable[[Members], None], keys: Sequence[str] = ()) -> None:
    """Change the members of a split's first shard, and make index, table and manifest agree with them.

    keys: of the first samples, instead of what they were.
    """
    table = pq.read_table(folder / "samples.parquet")
    if keys:
        named = pa.array([*keys, *table["key"].to_pylist()[len(keys) :]], pa.string())
        table = table.set_column(table.schema.get_field_index("key"), "key", named)
        pq.write_table(table, folder / "samples.parquet")
    rebuild_tar(folder / "000000.tar", change=change)
    rebuild_index(folder / "000000.tar", table["key"].to_pylist())
    sign_again(folder)


def rebuild_index(path: Path, keys: list[str]) -> None:
    """The index that the tar as it is now would have had."""
    import zlib

    rows = []
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, name = member.name.partition(".")
            file = tar.extractfile(member)
            assert file is not None
            data = file.read()
            rows.append((keys.index(key), name.encode(), member.offset_data, member.size, zlib.crc32(data)))
    with open(path.with_suffix(".idx"), "wb") as file:
        np.save(file, np.array(rows, INDEX_DTYPE))
