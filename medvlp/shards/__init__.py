"""The on-disk contract: webdataset tars that any reader opens, with an index, a table and a manifest next to them."""

from medvlp.shards.errors import BadSample, ShardError
from medvlp.shards.manifest import Manifest, hash_config, read_manifest, write_manifest
from medvlp.shards.reader import ShardDataset, read_members
from medvlp.shards.schema import Conversation, Sample, Turn, from_members, make_key, to_members
from medvlp.shards.verify import Finding, verify
from medvlp.shards.writer import FileMark, Row, ShardWriter

__all__ = [
    "BadSample",
    "Conversation",
    "FileMark",
    "Finding",
    "Manifest",
    "Row",
    "Sample",
    "ShardDataset",
    "ShardError",
    "ShardWriter",
    "Turn",
    "from_members",
    "hash_config",
    "make_key",
    "read_manifest",
    "read_members",
    "to_members",
    "verify",
    "write_manifest",
]
