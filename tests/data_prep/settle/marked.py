"""Marks of samples that tests make up."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.settle.marks import MARKS, Marks, describe
from data_prep.stages.draft import Draft
from data_prep.stages.images import measure
from medvlp.shards import Sample
from medvlp.shards.writer import write_tables


def sample_of(key: str, *images: bytes, caption: str = "", **metadata: object) -> Sample:
    """A sample with JPEGs."""
    names = ["jpg"] if len(images) == 1 else [f"{number}.jpg" for number in range(len(images))]
    texts = {"caption": caption} if caption else {}
    return Sample(key, dict(zip(names, images, strict=True)), texts, metadata=dict(metadata))


def marks_of(folder: Path, samples: Sequence[Sample], per_file: int = 500) -> Marks:
    """The samples' marks, in files of so many rows."""
    import pyarrow as pa

    folder.mkdir(exist_ok=True)
    files = []
    for start in range(0, len(samples), per_file):
        rows = [describe(measure(Draft(sample))) for sample in samples[start : start + per_file]]
        files.append(folder / f"{start:06d}.parquet")
        write_tables(files[-1], [pa.Table.from_pylist(rows, schema=MARKS)], MARKS)
    return Marks(files)
