"""What an assistant's training sees of images: pixels, or features that are computed once."""

import os
import time
from pathlib import Path

import torch

from medvlp.builders.llava import blank_shape
from medvlp.config import ConfigError
from medvlp.data.chat.feature_cache import CachedFeatures, StaleCache, cache_metadata, is_cached, write_features
from medvlp.data.chat.images import Pictures, Processed
from medvlp.models.llava.model import Assistant, tower_features
from medvlp.shards import ShardDataset


class Album:
    """The images of a run's sources, for one assistant.

    Args:
        cache: folder for the frozen tower's features, one sub-folder a source; "" runs the tower at every step.
        max_pixels: larger images are bad samples.
    """

    def __init__(self, assistant: Assistant, cache: str, max_pixels: int) -> None:
        self.assistant, self.cache = assistant, cache
        self.processed = Processed(assistant.processor, max_pixels)
        self.cached = CachedFeatures([], [])

    @property
    def pictures(self) -> Pictures:
        """Sample → (n, 3, S, S), or (n, P, D) where features are cached."""
        return self.cached if self.cache else self.processed

    @property
    def blank_shape(self) -> tuple[int, ...]:
        """What one image is: (1, 3, S, S), or (1, P, D)."""
        pixels = blank_shape(self.assistant)
        if not self.cache:
            return pixels
        with torch.no_grad():
            return tuple(self._encode(torch.zeros(pixels)).shape)

    def add(self, name: str, dataset: ShardDataset) -> None:
        """Make sure that a source's features are there, where they are asked for.

        Raises:
            ConfigError: the folder holds features of another tower, transform or dataset.
        """
        if not self.cache:
            return
        folder = Path(self.cache) / name
        tower, processor = self.assistant.names["tower"], self.assistant.processor
        expected = cache_metadata(dataset, {"tower": tower["sha256"], "transform": processor.to_json_string()})
        try:
            if not is_cached(folder, expected) and int(os.environ.get("RANK", "0")) == 0:
                print(f"{folder}: features of {len(dataset)} samples are computed once", flush=True)
                self.assistant.model.eval()
                shape = self.blank_shape[1:]
                write_features(folder, dataset, expected, self.processed, self._encode, (shape[0], shape[1]))
            while not is_cached(folder, expected):  # rank 0 is at it; should it die, torchrun ends this rank too
                time.sleep(1)
        except StaleCache as error:
            raise ConfigError(f"objective.feature_cache: {error}") from None
        self.cached.folders.append(folder)
        self.cached.datasets.append(dataset)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return tower_features(self.assistant.model, pixels)
