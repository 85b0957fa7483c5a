"""What a cache of a frozen tower's features asks of the rest of a training."""

from typing import TYPE_CHECKING

from medvlp.config.rules import ConfigError

if TYPE_CHECKING:
    from medvlp.config.train import TrainConfig


def check_feature_cache(folder: str, training: "TrainConfig") -> None:
    """What is kept must not change. Raises ConfigError."""
    vision = training.optim.parts.get("vision")
    if folder and not (vision and vision.freeze):
        raise ConfigError(
            "objective.feature_cache keeps what the tower gives, so the tower must not learn: set "
            "optim.parts.vision.freeze=true"
        )
