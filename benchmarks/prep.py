"""CPU time to prepare an image, against img2dataset and tar; what stages add; and whether memory grows with the data.

Equal work: images are packed as they are, with their captions, a sha256 each and a table; img2dataset re-encodes nothing
(--disable_all_reencoding) and looks for no EXIF, medvlp has its checks off. It fetches its images from a server on this
machine: what its own download function takes is measured apart and subtracted. Both give the same pairs (asserted). Runs
with one image are subtracted, so that imports do not count. It does not show what either gains from many cores, a
network, or a slow disk; and with checks off, medvlp still does what img2dataset has no word for: an index, checksums of
shards, a ledger.

    python3.11 -m venv i2d && i2d/bin/pip install 'setuptools<81' img2dataset      (it needs Python < 3.13)
    MEDVLP_IMG2DATASET=i2d/bin/python python -m benchmarks.prep

Without it, medvlp and tar are measured alone.
"""

import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import prep_work as work
from benchmarks.measure import interleaved, report

IMAGES, SIDE, ROUNDS, THREADS = 6000, 384, 5, 16
STAGED_ROUNDS = 3
SMALL, LARGE, SMALL_SIDE = 5000, 50_000, 64

PLAIN = {"checks": False, "duplicates": "off"}
STAGES_ON: dict[str, object] = {
    "modality": True,
    "panels": "split",
    "languages": ["en"],
    "duplicates": "drop",
    "split": "random",
}
STAGES: dict[str, tuple[int, dict[str, object]]] = {
    "usual checks": (1000, {"duplicates": "off"}),
    "all stages but de-identification": (1000, STAGES_ON),
    "all stages": (100, {**STAGES_ON, "deidentify": "all"}),
}
"""How many images, and the choices: reading the text on an image takes most of a second."""


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outputs = (folder / "out" / str(n) for n in itertools.count())
        (folder / "out").mkdir()
        packing, packing_values = _packing(folder, outputs.__next__)
        staged, staged_values = _stages(folder, outputs.__next__)
        memory, memory_values = _memory(folder, outputs.__next__)
    report("prep", [*packing, *staged, *memory], {**packing_values, **staged_values, **memory_values})
    return 0


Rows = tuple[list[tuple[str, str]], dict[str, object]]
"""Lines to read, and the same as values."""


def _packing(folder: Path, output: Callable[[], Path]) -> Rows:
    """CPU time at equal work."""
    peer = os.environ.get("MEDVLP_IMG2DATASET", "")
    many, single = (work.generate(folder / f"in{count}", count, SIDE) for count in (IMAGES, 1))
    choices = json.dumps({**PLAIN, "workers": 1})
    runs: dict[str, Callable[[], object]] = {
        "medvlp": partial(_anew, many, output, choices),
        "medvlp, one image": partial(_anew, single, output, choices),
        "tar": lambda: work.tar(many.parent, folder / "plain.tar"),
        "tar, one image": lambda: work.tar(single.parent, folder / "plain.tar"),
    }
    with work.served(many.parent) as address:
        if peer:
            few, all_of_them = (work.list_urls(folder, address, count) for count in (1, IMAGES))
            _assert_same(many, peer, all_of_them, output, choices)
            runs |= {
                "img2dataset": lambda: work.img2dataset(peer, all_of_them, output(), THREADS),
                "img2dataset, one image": lambda: work.img2dataset(peer, few, output(), THREADS),
                "its transfer": lambda: work.fetch(peer, all_of_them, THREADS),
                "its transfer, one image": lambda: work.fetch(peer, few, THREADS),
            }
        seconds = interleaved(runs, ROUNDS)
    names = [name for name in runs if not name.endswith(", one image")]
    ms = {name: (seconds[name] - seconds[f"{name}, one image"]) / (IMAGES - 1) * 1000 for name in names}
    size = sum(path.stat().st_size for path in many.parent.glob("*.jpg")) / IMAGES / 1024
    rows = [("images", f"{IMAGES} JPEGs of {SIDE} px, {size:.0f} KiB on average")]
    rows += [(name, f"{ms[name]:.3f} CPU-ms an image") for name in names]
    values: dict[str, object] = {"cpu_ms": {name: round(value, 4) for name, value in ms.items()}}
    if peer:
        ratio = (ms["img2dataset"] - ms["its transfer"]) / ms["medvlp"]
        rows.append(("img2dataset without its transfer", f"{ratio:.2f} times what medvlp takes"))
        values["cpu_ratio_img2dataset_vs_medvlp"] = round(ratio, 3)
    else:
        print("img2dataset is left out: MEDVLP_IMG2DATASET is not set (see the module's docstring)", file=sys.stderr)
    return rows, values


def _assert_same(table: Path, peer: str, urls: Path, output: Callable[[], Path], choices: str) -> None:
    output_medvlp, output_peer = output(), output()
    work.prepare(table, output_medvlp, choices)
    work.img2dataset(peer, urls, output_peer, THREADS)
    caption_hashes = work.pairs_in(output_medvlp)
    assert len(caption_hashes) == IMAGES
    assert caption_hashes == work.pairs_in(output_peer)


def _stages(folder: Path, output: Callable[[], Path]) -> Rows:
    """CPU time with stages, in one process. Runs with two images are subtracted: models and word lists are loaded in both."""
    rows: list[tuple[str, str]] = []
    values: dict[str, object] = {}
    for name, (count, choices) in STAGES.items():
        staged = folder / name.replace(" ", "_")
        many, two = (work.generate(staged / str(n), n, SIDE) for n in (count, 2))
        run = json.dumps({**choices, "workers": 1})
        seconds = interleaved(
            {"many": partial(_anew, many, output, run), "two": partial(_anew, two, output, run)}, STAGED_ROUNDS
        )
        values[name] = round((seconds["many"] - seconds["two"]) / (count - 2) * 1000, 3)
        rows.append((f"medvlp, {name}", f"{values[name]} CPU-ms an image"))
    return rows, {"cpu_ms_with_stages": values}


def _anew(table: Path, output: Callable[[], Path], choices: str) -> None:
    work.prepare(table, output(), choices)


def _memory(folder: Path, output: Callable[[], Path]) -> Rows:
    """Peak memory of a process that does all of the work, with copies looked for over all samples and without."""
    rows: list[tuple[str, str]] = []
    values: dict[str, object] = {}
    tables = {count: work.generate(folder / f"memory{count}", count, SMALL_SIDE) for count in (SMALL, LARGE)}
    for name, choices in {"usual checks": {"duplicates": "off"}, "copies dropped": {"duplicates": "drop"}}.items():
        peak = {n: work.prepare(table, output(), json.dumps({**choices, "workers": 1})) for n, table in tables.items()}
        mib = {count: round(kib / 1024) for count, kib in peak.items()}
        ratio = peak[LARGE] / peak[SMALL]
        rows.append(
            (f"peak memory, {name}", f"{mib[SMALL]} MiB at {SMALL}, {mib[LARGE]} MiB at {LARGE}: {ratio:.2f} times")
        )
        values[f"peak_memory_ratio_{name.replace(' ', '_')}"] = round(ratio, 3)
    return rows, values


if __name__ == "__main__":
    sys.exit(main())
