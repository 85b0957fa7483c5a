"""What every sample goes through: small stages, each `Draft → Draft`, or `→ list[Draft]` where one becomes several.

A stage that lets a sample go raises `Drop`. The list of stages with their parameters is data (see `default_stages`): it is
written into the manifest and hashed, so that two data sets with one hash were prepared alike.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from data_prep.stages.draft import Counts, Draft, Drop

Stage = Callable[[Draft], "Draft | list[Draft]"]

STAGES = {
    "clean_text": "text",
    "need_text": "text",
    "check_images": "images",
    "measure": "images",
}
"""Stage → the module here that has the function of that name; imported when a preparation uses it."""


def default_stages(max_pixels: int, min_side: int) -> list[dict[str, Any]]:
    """The stages of every source, in order, as configuration."""
    return [
        {"stage": "clean_text"},
        {"stage": "need_text"},
        {"stage": "check_images", "max_pixels": max_pixels, "min_side": min_side},
        {"stage": "measure"},
    ]


def build_stages(config: list[dict[str, Any]]) -> list[Stage]:
    """The functions that a stage configuration names, with their parameters bound."""
    stages: list[Stage] = []
    for entry in config:
        parameters = {name: value for name, value in entry.items() if name != "stage"}
        module = importlib.import_module(f"data_prep.stages.{STAGES[entry['stage']]}")
        stages.append(partial(getattr(module, entry["stage"]), **parameters))
    return stages


def apply_stages(stages: list[Stage], draft: Draft) -> list[Draft | Drop]:
    """All that becomes of a draft, in order: drafts that came through, and drops with the draft's name."""
    there: list[Draft | Drop] = [draft]
    for stage in stages:
        there = [left for each in there for left in (_apply(stage, each) if isinstance(each, Draft) else [each])]
    return there


def _apply(stage: Stage, draft: Draft) -> list[Draft | Drop]:
    try:
        left = stage(draft)
    except Drop as drop:
        drop.name = draft.name
        return [drop]
    return list(left) if isinstance(left, list) else [left]


__all__ = ["STAGES", "Counts", "Draft", "Drop", "Stage", "apply_stages", "build_stages", "default_stages"]
