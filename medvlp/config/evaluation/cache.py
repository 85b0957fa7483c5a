"""Options of the folder in which evaluations keep what they computed."""

import os
from dataclasses import dataclass
from pathlib import Path

from medvlp.config.rules import ConfigError, at_least, one_of

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


CACHED_KINDS = ("", "images", "texts", "answers", "responses", "hashes", "shards", "all")
"""What `medvlp cache` can be asked for."""


@dataclass(kw_only=True)
class CacheVerbConfig:
    """medvlp cache"""

    verb: str = "cache"
    """The command."""
    dir: str = ""
    """The folder; default $MEDVLP_CACHE, else ~/.cache/medvlp."""
    kind: str = ""
    """Only these: images or texts (their embeddings), answers (of models that ran here), responses (of servers), hashes of
    files, or shards that were downloaded. `clear` takes away responses, which may have cost money, with kind=responses or
    kind=all alone."""
    older_than: float = 0.0
    """Only what was last used this many days ago, or earlier."""

    def check(self) -> None:
        """Kinds that there are. Raises ConfigError."""
        one_of("kind", self.kind, CACHED_KINDS)
        if not 0 <= self.older_than < float("inf"):
            raise ConfigError(f"older_than={self.older_than} must be a number of days")
