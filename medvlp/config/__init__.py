"""Configuration: the schema, composition with Hydra, and the rules that join fields. Nothing here imports torch."""

from medvlp.config.assistant import InstructConfig, LanguageConfig, LlavaConfig, WordsConfig
from medvlp.config.checks import ConfigError, check, check_name, check_ranks, require_prepared, suggestion
from medvlp.config.compose import (
    as_dict,
    compose,
    expand_grid,
    from_dict,
    list_options,
    load_task,
    register,
)
from medvlp.config.help import describe
from medvlp.config.inspection import CheckConfig
from medvlp.config.overrides import value_of
from medvlp.config.preparation import PrepConfig
from medvlp.config.schema import (
    AskConfig,
    AugmentConfig,
    ClipConfig,
    ContrastiveConfig,
    DataConfig,
    EvalConfig,
    ExportConfig,
    ImageConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PartConfig,
    SourceConfig,
    TaskConfig,
    TextConfig,
    TrainConfig,
    TrainerConfig,
    VisionConfig,
)
from medvlp.config.stages import compose_stages

__all__ = [
    "AskConfig",
    "AugmentConfig",
    "CheckConfig",
    "ClipConfig",
    "ConfigError",
    "ContrastiveConfig",
    "DataConfig",
    "EvalConfig",
    "ExportConfig",
    "ImageConfig",
    "InstructConfig",
    "LanguageConfig",
    "LlavaConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimConfig",
    "PartConfig",
    "PrepConfig",
    "SourceConfig",
    "TaskConfig",
    "TextConfig",
    "TrainConfig",
    "TrainerConfig",
    "VisionConfig",
    "WordsConfig",
    "as_dict",
    "check",
    "check_name",
    "check_ranks",
    "compose",
    "compose_stages",
    "describe",
    "expand_grid",
    "from_dict",
    "list_options",
    "load_task",
    "register",
    "require_prepared",
    "suggestion",
    "value_of",
]
