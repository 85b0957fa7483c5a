"""The page of a prepared source: what came in, what went out, what was dropped and why, and what it looks like."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from medvlp.report.dataset.attribution import read_attribution
from medvlp.report.dataset.contents import Contents, read_contents
from medvlp.report.dataset.duplicates import read_conflicts, read_copy_counts, read_pairs
from medvlp.report.dataset.leakage import conflict_line, leakage_lines
from medvlp.report.dataset.stages import SENTENCES, deidentification, how_split, removed_by_stages
from medvlp.report.dataset.summary import evenly, summarise
from medvlp.report.files import explained, read_json
from medvlp.report.histogram_svg import histogram
from medvlp.report.page import write_page
from medvlp.report.thumbnails import Thumbnail, thumbnail_of

GRID_SAMPLES = 24
"""Samples in the grid, evenly spaced over all splits."""
MAX_INPUTS = 20
"""Input files that the page lists; manifests have all."""


@dataclass(frozen=True)
class Step:
    """A stage in the flow from what came in to what went out."""

    stage: str
    drops: int
    remaining: int
    """Samples that go on."""
    reasons: list[tuple[str, int]]


def write_prep_report(folder: str | Path) -> Path:
    """Write `report.html` into the folder above a source's splits, next to `ledger.json`, and return its path.

    Raises:
        NotARun: no finished split is there, or a file is damaged.
    """
    contents = read_contents(folder)
    summary = summarise(contents.datasets)
    with explained(contents.folder / "attribution.csv"):
        attribution = read_attribution(contents.folder)
    with explained(contents.folder / "ledger.json"):
        leakage = leakage_lines(contents.ledger)
    conflicts = read_conflicts(contents.folder)
    with explained(contents.folder):
        values = {
            "title": contents.folder.resolve().name,
            "contents": contents,
            "steps": steps(contents),
            "how_split": how_split(contents),
            "licences": contents.counts("licence"),
            "modalities": contents.counts("modality"),
            "charts": _histograms(contents),
            "summary": summary,
            "against": (contents.stage("decontaminate") or {}).get("against", {}),
            "looked_for": [contents.stage(name) is not None for name in ("duplicates", "decontaminate")],
            "leakage": leakage,
            "conflicts": conflicts,
            "conflict_line": conflict_line(len(conflicts)),
            "copies": read_copy_counts(contents.folder),
            "pairs": read_pairs(contents.folder),
            "hidden": deidentification(contents),
            "removed": [*(("read", kind, count) for kind, count in summary.removals), *removed_by_stages(contents)],
            "blacked": blacked_pictures(contents),
            "attribution": attribution,
            "pictures": [thumbnail_of(dataset, row) for dataset, row in evenly(contents.datasets, GRID_SAMPLES)],
            "stages": [(str(entry.get("stage", "")), _settings(entry)) for entry in contents.stages],
            "sentences": SENTENCES,
            "run": read_json(contents.folder / "run.json"),
        }
    return write_page(contents.folder / "report.html", "prep.html", **values)


def blacked_pictures(contents: Contents) -> list[tuple[float, Thumbnail]]:
    """The images of which most is black for de-identification, as they are now, with their shares; the worst first."""
    pictures = []
    share_by_key = contents.blacked
    for dataset in contents.datasets if share_by_key else []:
        for row, key in enumerate(dataset.column("key")):
            if key in share_by_key:
                pictures.append((share_by_key[key], thumbnail_of(dataset, row)))
    return sorted(pictures, key=lambda pair: (-pair[0], pair[1].key))


def steps(contents: Contents) -> list[Step]:
    """The stages that dropped samples, in the order in which samples met them."""
    reasons: dict[str, list[tuple[str, int]]] = {}
    for stage, reason, count in contents.drops:
        reasons.setdefault(stage, []).append((reason, count))
    order = [str(entry.get("stage")) for entry in contents.stages]
    remaining = contents.samples_in
    flow = []
    for stage in sorted(reasons, key=lambda stage: order.index(stage) if stage in order else len(order)):
        drops = sum(count for _, count in reasons[stage])
        remaining -= drops
        flow.append(Step(stage, drops, remaining, sorted(reasons[stage], key=lambda pair: (-pair[1], pair[0]))))
    return flow


def _settings(entry: dict[str, object]) -> dict[str, object]:
    settings = {name: value for name, value in entry.items() if name != "stage"}
    files = settings.get("input")
    if isinstance(files, dict) and len(files) > MAX_INPUTS:
        first_files = dict(list(files.items())[:MAX_INPUTS])
        settings["input"] = first_files | {f"and {len(files) - MAX_INPUTS} more": "in the manifests"}
    return settings


def _histograms(contents: Contents) -> list[tuple[str, Markup]]:
    sides_N = np.maximum(contents.numbers("width"), contents.numbers("height"))
    sides_N = sides_N[sides_N > 0]  # volumes and texts have no width
    lengths_N = contents.numbers("caption_length")
    charts = [
        ("Image size", sides_N, "longest side, pixels"),
        ("Caption length", lengths_N, "characters"),
    ]
    return [(title, histogram(title, values_N, label)) for title, values_N, label in charts if len(values_N)]
