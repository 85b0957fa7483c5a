"""ROCO v1 in its publisher's layout, small."""

import io
import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDERS = ("train", "validation", "test")
KINDS = ("radiology", "non-radiology")


def write_roco(folder: Path, rows: list[dict[str, Any]], side: int = 48) -> Path:
    """The folder that ROCO's fetch.py leaves, with an image that the row's position decides for each row.

    rows: id, split (a word of FOLDERS), kind, caption, pmc (article and file name), license; cuis, keywords and
    semtypes (code → name) where wanted. The splits share what articles the rows share.
    """
    for split in FOLDERS:
        for kind in KINDS:
            kind_folder = folder / split / kind
            (kind_folder / "images").mkdir(parents=True)
            of_folder = [(n, row) for n, row in enumerate(rows) if (row["split"], row["kind"]) == (split, kind)]
            for name, lines in _tables([row for _, row in of_folder]).items():
                (kind_folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            for number, row in of_folder:
                (kind_folder / "images" / row["pmc"]).write_bytes(_jpeg(number, side))
    return folder


def read_rows(path: Path, per_split: int, shared: int) -> list[dict[str, Any]]:
    """Real captions: all of the first `shared` articles that occur in several splits, and `per_split` others of each."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(article_of(row), set()).add(row["split"])
    overlapping = [article for article, split_names in splits.items() if len(split_names) > 1]
    chosen = [row for row in rows if article_of(row) in set(overlapping[:shared])]
    for split in FOLDERS:
        alone = (row for row in rows if row["split"] == split and len(splits[article_of(row)]) == 1)
        chosen += islice(alone, per_split)
    return chosen


def article_of(row: dict[str, Any]) -> str:
    """PMC3970251_CRIONM2014-931546.003.jpg → PMC3970251"""
    return str(row["pmc"]).partition("_")[0]


def _tables(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {
        "captions.txt": [f"{row['id']}\t {row['caption']}" for row in rows],
        "cuis.txt": [_listed(row["id"], row.get("cuis", [])) for row in rows],
        "keywords.txt": [_listed(row["id"], row.get("keywords", _words(row["caption"]))) for row in rows],
        "semtypes.txt": [
            _listed(row["id"], [part for pair in row.get("semtypes", {}).items() for part in pair]) for row in rows
        ],
        "dlinks.txt": [
            f"{row['id']}\twget -r ftp://ftp.ncbi.nlm.nih.gov/pub/pmc/oa_package/00/00/{article_of(row)}.tar.gz "
            f"-P /path/to/Dir\t{row['pmc'].partition('_')[2]}"
            for row in rows
        ],
        "licences.txt": ["ROCO_ID,PMC_ID,CC", *(f"{row['id']},{row['pmc']},{row['license']}" for row in rows)],
    }


def _listed(id: str, items: list[str]) -> str:
    return f"{id}\t" + "".join(f"\t{item}" for item in items)


def _words(caption: str) -> list[str]:
    return list(dict.fromkeys(re.findall("[a-z]{5,}", caption.lower())))[:4]


def _jpeg(number: int, side: int) -> bytes:
    coarse = np.random.default_rng(number).integers(0, 256, (6, 6), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()
