"""What can be wrong with shards: a folder (a person's mistake) or a sample (damage on disk)."""

from __future__ import annotations

from medvlp.errors import UserError


class ShardError(UserError):
    """A folder or a sample that cannot be used as asked; the message says what, where and how to fix it."""


class BadSample(Exception):
    """One sample cannot be delivered as it was written.

    reason is a short snake_case word to count by: `checksum_mismatch`, `broken_json`, `broken_key`, `broken_text`,
    `missing_member`, `unexpected_member`, `truncated_shard`, `missing_shard`, `broken_index`. Crosses process borders:
    all its parts are plain strings, so a DataLoader worker can raise it and the main process can read it.
    """

    def __init__(self, reason: str, shard: str = "", key: str = "", detail: str = "") -> None:
        super().__init__(reason, shard, key, detail)
        self.reason = reason
        self.shard = shard
        self.key = key
        self.detail = detail

    def __str__(self) -> str:
        location = " ".join(part for part in (self.shard, self.key) if part)
        return f"{self.reason} in {location}: {self.detail}" if location else f"{self.reason}: {self.detail}"
