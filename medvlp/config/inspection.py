"""What can be configured of `medvlp check`: a training's own configuration, of which the model may be left out."""

from dataclasses import dataclass, field
from typing import Any

from medvlp.config.schema import ModelConfig, TrainConfig


@dataclass(kw_only=True)
class CheckConfig(TrainConfig):
    """medvlp check"""

    verb: str = "check"
    """The command; recipes for `medvlp train` are taken."""
    source: str = ""
    """Look at a publisher's files through this reader instead of at prepared shards."""
    input: str = ""
    """With source: the folder (or file) as the publisher releases it."""
    flag: str = ""
    """With source: the reader's flag, as for `medvlp prep`."""
    options: dict[str, Any] = field(default_factory=dict)
    """With source: the reader's own choices, as for `medvlp prep`: options.image=picture."""
    output: str = ""
    """Folder for findings.jsonl, which holds every finding; empty writes none."""
    shown: int = 3
    """Samples whose conversations are shown with their supervised tokens in colour."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig(kind=""))
