"""Options of the folder in which evaluations keep what they computed."""

import os
from dataclasses import dataclass
from pathlib import Path

from medvlp.config.rules import ConfigError, at_least

FOLDER = "MEDVLP_CACHE"
"""Environment variable that names the folder."""


@dataclass
class CacheConfig:
    """Keys `cache.*`."""

    dir: str = ""
    """Folder of embeddings and answers that later evaluations use again; default $MEDVLP_CACHE, else ~/.cache/medvlp."""
    max_gb: float = 20.0
    """Gigabytes of embeddings kept; beyond, the least recently used go. 0 neither keeps nor reads any."""

    models_at_once: int = 4
    """Models of images and texts that are loaded together, so that each image is decoded once for all of them."""

    @property
    def folder(self) -> Path:
        """The folder, from the key, the environment, or the default."""
        return Path(self.dir or os.environ.get(FOLDER, "") or "~/.cache/medvlp").expanduser()

    @property
    def max_bytes(self) -> int:
        """`max_gb` in bytes."""
        return int(self.max_gb * 1e9)

    def check(self) -> None:
        """Ranges. Raises ConfigError."""
        at_least("cache.models_at_once", self.models_at_once, 1)
        if not 0 <= self.max_gb < float("inf"):
            raise ConfigError(f"cache.max_gb={self.max_gb} must be a number of gigabytes, or 0 to keep none")
