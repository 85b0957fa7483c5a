"""A shard that is read from: its bytes, wherever they are, and its mapped index."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medvlp.shards.index import open_index
from medvlp.shards.storage.files import SplitFiles
from medvlp.shards.writer import FileMark, mark_file

IndexRow = tuple[int, bytes, int, int, int]
"""(sample, member, offset, size, crc32)"""
GAP = 2**20
"""Bytes of others between two members, as in tars that are not sorted, beyond which they are read apart."""


class OpenShard:
    """The bytes of a tar and its mapped index.

    is_new: whether this is the process's first use of the index, which is then compared. Its CRC-32s vouch for every member
    that is read, so that a shard that was replaced together with its index is noticed too.
    """

    def __init__(self, files: SplitFiles, tar: str, samples: int, marks: Mapping[str, FileMark], is_new: bool) -> None:
        index_name = str(Path(tar).with_suffix(".idx"))
        index_path, size = files.local(index_name, marks[index_name]), marks[tar].size
        if is_new and mark_file(index_path) != marks[index_name]:
            raise ValueError("it is not the one that the manifest was written for (its sha256 or size differs)")
        self.index = open_index(index_path)
        # Row numbers at which each sample begins, and the end of the last one.
        self.starts = np.searchsorted(self.index["sample"], np.arange(samples + 1)).tolist()
        if int(self.index["sample"][-1]) != samples - 1:
            raise ValueError(f"it ends at sample {int(self.index['sample'][-1])}, the manifest says {samples - 1}")
        self.tar = files.open(tar, marks[tar])
        if self.tar.size != size:
            # Samples that are wholly there are still good, each is checked by its CRC; the others raise one by one.
            warnings.warn(
                f"{tar} has {self.tar.size} bytes, its manifest says {size}; `medvlp verify` says what is wrong",
                stacklevel=2,
            )


def spans_of(rows: list[IndexRow]) -> list[list[IndexRow]]:
    """Members of one sample in groups that stand together."""
    spans = [[rows[0]]]
    for row in rows[1:]:
        _, _, offset, size, _ = spans[-1][-1]
        if 0 <= row[2] - offset - size <= GAP:
            spans[-1].append(row)
        else:
            spans.append([row])
    return spans
