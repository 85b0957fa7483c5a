"""What every sample goes through: small stages, each `Draft → Draft`, or `→ list[Draft]` where one becomes several.

A stage that lets a sample go raises `Drop`. The list of stages with their parameters is data: it is
written into the manifest and hashed, so that two data sets with one hash were prepared alike.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
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
    there: list[Draft | Drop] = [draft]
    for stage in stages:
        there = [left for each in there for left in (_apply(stage, each) if isinstance(each, Draft) else [each])]
    return there


def _apply(stage: Stage, draft: Draft) -> list[Draft | Drop]:
    try:
        left = stage(draft)
    except Drop as drop:
        drop.name, drop.is_renamed = draft.name, draft.is_renamed
        return [drop]
    if isinstance(left, Draft):
        return [left]
    whole = Drop("split_panels", "replaced_by_panels", f"{len(left)} panels")
    whole.name, whole.panels = draft.name, len(left)
    return [whole, *left]


__all__ = ["STAGES", "TOOLS", "Stage", "apply_stages", "build_stages"]
