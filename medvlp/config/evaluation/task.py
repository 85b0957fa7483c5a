"""What every evaluation task has."""

from dataclasses import dataclass

from omegaconf import MISSING

from medvlp.config.rules import check_name


@dataclass(kw_only=True)
class TaskConfig:
    """What every evaluation task has."""

    name: str = MISSING
    """Name in results.jsonl."""
    kind: str = MISSING
    """How a model is measured, such as zero_shot, probe, retrieval or vqa: `TASKS`."""
    data: str = MISSING
    """Folder above the splits."""
    split: str = "test"
    """Split that `medvlp eval` scores."""
    valid_split: str = "valid"
    """Split that is scored during training."""

    def check(self) -> None:
        """The rules of these options. Raises ConfigError."""
        check_name("a task's name", self.name)
