"""Stages of a sample: small functions, each `Draft → Draft`, or `→ list[Draft]` where one becomes several.

A stage that drops a sample raises `Drop`. The list of stages with their parameters is data: it is
written into the manifest and hashed, so that two data sets with one hash were prepared in one way.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

from data_prep.draft import Draft, Drop

Stage = Callable[[Draft], "Draft | list[Draft]"]

STAGES = {
    "clean_text": "text",
    "need_text": "text",
    "licence_gate": "licence",
    "check_images": "images",
    "modality": "modality",
    "split_panels": "split_panels",
    "language": "language",
    "pseudonymise": "pseudonymise",
    "deidentify_text": "deidentify_text",
    "strip_metadata": "strip_metadata",
    "deidentify_pixels": "deidentify_pixels",
    "measure": "images",
    "describe": "describe",
}
"""Stage → the module here that has the function of that name; imported when a preparation uses it."""

TOOLS = {
    "language": ("py3langid",),
    "deidentify_text": ("philter-lite",),
    "deidentify_pixels": ("rapidocr-onnxruntime", "onnxruntime", "opencv-python"),
    "measure": ("imagehash", "scipy"),
}
"""Stage → distributions whose version can change what it does."""


def build_stages(config: list[dict[str, Any]]) -> list[Stage]:
    """The functions that a stage configuration names, with their parameters bound."""
    stages: list[Stage] = []
    for entry in config:
        parameters = {name: value for name, value in entry.items() if name != "stage"}
        module = importlib.import_module(f"data_prep.stages.{STAGES[entry['stage']]}")
        stages.append(partial(getattr(module, entry["stage"]), **parameters))
    return stages


def apply_stages(stages: list[Stage], draft: Draft) -> list[Draft | Drop]:
    """All that becomes of a draft, in order: drafts that came through, and drops with the draft's name.

    A figure that was split into panels is a drop, followed by its panels.
    """
    outcomes: list[Draft | Drop] = [draft]
    for stage in stages:
        results = (_apply(stage, outcome) if isinstance(outcome, Draft) else [outcome] for outcome in outcomes)
        outcomes = list(chain.from_iterable(results))
    return outcomes


def _apply(stage: Stage, draft: Draft) -> list[Draft | Drop]:
    try:
        result = stage(draft)
    except Drop as drop:
        drop.name, drop.is_renamed = draft.name, draft.is_renamed
        return [drop]
    if isinstance(result, Draft):
        return [result]
    drop_of_figure = Drop("split_panels", "replaced_by_panels", f"{len(result)} panels")
    drop_of_figure.name, drop_of_figure.panels = draft.name, len(result)
    return [drop_of_figure, *result]


__all__ = ["STAGES", "TOOLS", "Stage", "apply_stages", "build_stages"]
