"""Configuration: one file a group with its fields and their rules, and composition with Hydra. Nothing here imports torch."""

from medvlp.config.base import ModelConfig, ObjectiveConfig
from medvlp.config.classifier import ClassifierConfig
from medvlp.config.clip import ClipConfig, ImageConfig, TextConfig, VisionConfig
from medvlp.config.composition.compose import compose
from medvlp.config.composition.grids import compose_stages, expand_grid
from medvlp.config.composition.help import describe, verb_help
from medvlp.config.composition.overrides import value_of
from medvlp.config.composition.search import list_options, search_folders
from medvlp.config.composition.task_files import expand_tasks, load_task, task_files, task_groups
from medvlp.config.composition.typed import as_dict, from_dict
from medvlp.config.composition.yaml_files import read_text
from medvlp.config.data.index import IndexConfig
from medvlp.config.data.remote import RemoteConfig
from medvlp.config.data.score import ScoreConfig
from medvlp.config.data.sources import AugmentConfig, DataConfig, SourceConfig
from medvlp.config.evaluation.api import ApiConfig
from medvlp.config.evaluation.cache import CacheConfig, CacheVerbConfig
from medvlp.config.kinds import register
from medvlp.config.llava import ImageTowerConfig, LanguageConfig, LlavaConfig, TowerConfig
from medvlp.config.objectives.assistant import BagOfWordsConfig, InstructConfig
from medvlp.config.objectives.classification import ClassifyConfig, HeadConfig
from medvlp.config.objectives.contrastive import ContrastiveConfig
from medvlp.config.optim import OptimConfig, PartConfig
from medvlp.config.prep import PrepConfig
from medvlp.config.rules import ConfigError, check_name, suggestion
from medvlp.config.tasks import (
    TASKS,
    ClassificationConfig,
    ComposedRetrievalConfig,
    MultiLabelConfig,
    ProbeConfig,
    RetrievalConfig,
    TaskConfig,
    TextRetrievalConfig,
    VqaConfig,
    WrittenTextConfig,
    ZeroShotConfig,
)
from medvlp.config.train import (
    TrainConfig,
    TrainerConfig,
    check_ranks,
    require_prepared,
)
from medvlp.config.verbs import AskConfig, CheckConfig, EvalConfig, ExportConfig, PlanConfig

__all__ = [
    "TASKS",
    "ApiConfig",
    "AskConfig",
    "AugmentConfig",
    "BagOfWordsConfig",
    "CacheConfig",
    "CacheVerbConfig",
    "CheckConfig",
    "ClassificationConfig",
    "ClassifierConfig",
    "ClassifyConfig",
    "ClipConfig",
    "ComposedRetrievalConfig",
    "ConfigError",
    "ContrastiveConfig",
    "DataConfig",
    "EvalConfig",
    "ExportConfig",
    "HeadConfig",
    "ImageConfig",
    "ImageTowerConfig",
    "IndexConfig",
    "InstructConfig",
    "LanguageConfig",
    "LlavaConfig",
    "ModelConfig",
    "MultiLabelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PartConfig",
    "PlanConfig",
    "PrepConfig",
    "ProbeConfig",
    "RemoteConfig",
    "RetrievalConfig",
    "ScoreConfig",
    "SourceConfig",
    "TaskConfig",
    "TextConfig",
    "TextRetrievalConfig",
    "TowerConfig",
    "TrainConfig",
    "TrainerConfig",
    "VisionConfig",
    "VqaConfig",
    "WrittenTextConfig",
    "ZeroShotConfig",
    "as_dict",
    "check_name",
    "check_ranks",
    "compose",
    "compose_stages",
    "describe",
    "expand_grid",
    "expand_tasks",
    "from_dict",
    "list_options",
    "load_task",
    "read_text",
    "register",
    "require_prepared",
    "search_folders",
    "suggestion",
    "task_files",
    "task_groups",
    "value_of",
    "verb_help",
]
