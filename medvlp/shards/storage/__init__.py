"""Where the bytes of a split come from: a folder, or a URL with a bounded cache on disk. Readers do not know which."""

from medvlp.shards.storage.files import ShardBytes, SplitFiles, open_files
from medvlp.shards.storage.settings import RemoteSettings
from medvlp.shards.storage.splits import has_split, split_folder
from medvlp.shards.storage.urls import is_url

__all__ = ["RemoteSettings", "ShardBytes", "SplitFiles", "has_split", "is_url", "open_files", "split_folder"]
