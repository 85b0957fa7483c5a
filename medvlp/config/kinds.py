"""Tables of what can be configured: kinds of models and objectives, and verbs. A new kind is one line here."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from medvlp.config.base import ModelConfig, ObjectiveConfig
from medvlp.config.classifier import ClassifierConfig
from medvlp.config.clip import ClipConfig
from medvlp.config.composition.renamed import RENAMED_OPTIONS
from medvlp.config.data.index import IndexConfig
from medvlp.config.data.score import ScoreConfig
from medvlp.config.data.sources import SourceConfig
from medvlp.config.evaluation.cache import CacheVerbConfig
from medvlp.config.llava import LlavaConfig
from medvlp.config.objectives.assistant import BagOfWordsConfig, InstructConfig
from medvlp.config.objectives.classification import ClassifyConfig, HeadConfig
from medvlp.config.objectives.contrastive import ContrastiveConfig
from medvlp.config.optim import PartConfig
from medvlp.config.prep import PrepConfig
from medvlp.config.train import TrainConfig
from medvlp.config.verbs import AskConfig, CheckConfig, EvalConfig, ExportConfig, PlanConfig

MODELS: dict[str, type[ModelConfig]] = {"clip": ClipConfig, "llava": LlavaConfig, "classifier": ClassifierConfig}
OBJECTIVES: dict[str, type[ObjectiveConfig]] = {
    "contrastive": ContrastiveConfig,
    "instruct": InstructConfig,
    "bag_of_words": BagOfWordsConfig,
    "classify": ClassifyConfig,
}
KINDS: dict[str, dict[str, Any]] = {"model": MODELS, "objective": OBJECTIVES}
"""Group → kind → its dataclass."""


@dataclass(frozen=True)
class VerbSchema:
    """What a verb's `key=value` arguments may be."""

    config: type
    primary: str
    """The file of configs/ that composition begins with."""
    groups: tuple[str, ...] = ()
    """Keys whose value names an option: a file of configs/<group>/ or recipes/."""


TRAIN_GROUPS = ("data", "model", "objective", "optim", "trainer", "recipes")
VERBS = {
    "train": VerbSchema(TrainConfig, "train", TRAIN_GROUPS),
    "check": VerbSchema(CheckConfig, "check", TRAIN_GROUPS),
    "plan": VerbSchema(PlanConfig, "plan", TRAIN_GROUPS),
    "eval": VerbSchema(EvalConfig, "evaluate", ("recipes",)),
    "prep": VerbSchema(PrepConfig, "prep", ("recipes",)),
    "export": VerbSchema(ExportConfig, "export"),
    "ask": VerbSchema(AskConfig, "ask"),
    "cache": VerbSchema(CacheVerbConfig, "cache"),
    "index": VerbSchema(IndexConfig, "index"),
    "score": VerbSchema(ScoreConfig, "score"),
}

OPEN_MAPPINGS: dict[str, type | None] = {
    "optim.parts.": PartConfig,
    "data.sources.": SourceConfig,
    "data.shares.": None,
    "objective.heads.": HeadConfig,
    "options.": None,
    "objective.options.": None,
    "objective.auxiliary.": None,
    "api.parameters.": None,
    "texts.": None,
    "labels.": None,
}
"""Mappings whose names the schema does not know, with the schema of their values; None: plain values.

`optim.parts.text.lr=1e-5` is a key whether or not YAML mentions `text`; Hydra would ask for a `+` exactly when it does not,
and would then accept a misspelt field."""


def register(group: str, kind: str, schema: type) -> None:
    """Make a dataclass the schema of `group` options whose YAML begins with `defaults: [<kind>_schema, _self_]`."""
    KINDS[group][kind] = schema
    ConfigStore.instance().store(group=group, name=f"{kind}_schema", node=schema)


for group, schemas in KINDS.items():
    for kind, schema in schemas.items():
        ConfigStore.instance().store(group=group, name=f"{kind}_schema", node=schema)
    for old, kind in RENAMED_OPTIONS.get(group, {}).items():
        ConfigStore.instance().store(group=group, name=f"{old}_schema", node=schemas[kind])
for verb, verb_schema in VERBS.items():
    ConfigStore.instance().store(name=f"{verb}_schema", node=verb_schema.config)
