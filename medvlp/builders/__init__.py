"""Configuration → components: the only rooms that know every part. A part is imported when it is asked for: an evaluation
needs none of training's."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medvlp.builders.clip import Loaded, build_clip, load_clip, model_kind
    from medvlp.builders.data import build_data
    from medvlp.builders.llava import load_assistant
    from medvlp.builders.objectives import init_from, optimizer_settings
    from medvlp.builders.tasks import build_evaluation, build_task
    from medvlp.builders.training import OBJECTIVES, build_objective
    from medvlp.training.module import Objective

__all__ = [
    "OBJECTIVES",
    "Loaded",
    "Objective",
    "build_clip",
    "build_data",
    "build_evaluation",
    "build_objective",
    "build_task",
    "init_from",
    "load_assistant",
    "load_clip",
    "model_kind",
    "optimizer_settings",
]

MODULES = {
    "medvlp.builders.clip": ("Loaded", "build_clip", "load_clip", "model_kind"),
    "medvlp.builders.data": ("build_data",),
    "medvlp.builders.llava": ("load_assistant",),
    "medvlp.builders.objectives": ("init_from", "optimizer_settings"),
    "medvlp.builders.tasks": ("build_evaluation", "build_task"),
    "medvlp.builders.training": ("OBJECTIVES", "build_objective"),
    "medvlp.training.module": ("Objective",),
}
"""Module → what of it is offered here."""


def __getattr__(name: str) -> Any:
    for module, names in MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
