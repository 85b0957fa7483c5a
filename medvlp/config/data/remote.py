"""Options of files behind addresses (http, https, s3, gs, hf), and of the cache that holds them."""

from dataclasses import dataclass

from medvlp.config.rules import ConfigError, at_least, one_of

READS = ("shard", "sample")


@dataclass(kw_only=True)
class RemoteConfig:
    """How remote shards are read. No sample and no order depends on it."""

    cache: str = ""
    """Folder of downloaded files; ranks, runs and nodes may share it. Default $MEDVLP_CACHE/shards, else
    ~/.cache/medvlp/shards."""
    max_gb: float = 100.0
    """Gigabytes of them; beyond, what was used longest ago goes."""
    read: str = "shard"
    """shard: download a shard when one of its samples is first read; sample: read single samples by ranges, and keep none."""
    attempts: int = 6
    """Tries in a row without a new byte, with longer and longer pauses, before the run stops."""
    timeout: float = 60.0
    """Seconds without a byte after which a try has failed."""
    anonymous: bool = False
    """Read s3 and gs without credentials."""

    def check(self) -> None:
        """Ranges. Raises ConfigError."""
        one_of("data.remote.read", self.read, READS)
        at_least("data.remote.attempts", self.attempts, 1)
        for key in ("max_gb", "timeout"):
            if not 0 < getattr(self, key) < float("inf"):
                raise ConfigError(f"data.remote.{key}={getattr(self, key)} must be above 0")
