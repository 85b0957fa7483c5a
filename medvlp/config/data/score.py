"""Options of `medvlp score`: which columns about a split's samples are computed, and by which model."""

import os
from dataclasses import dataclass, field

from medvlp.config.evaluation.load import LoadConfig
from medvlp.config.rules import ConfigError, at_least, not_negative, one_of
from medvlp.config.verbs import ACCELERATORS


@dataclass(kw_only=True)
class ScoreConfig:
    """medvlp score"""

    verb: str = "score"
    """The command."""
    checkpoint: str = ""
    """A CLIP model, as `medvlp eval` names models: similarity of images and texts, and near-duplicates. Empty: only columns that
    need none."""
    name: str = ""
    """Of the table, which conditions may put before a column; default: scores, or quality without a model."""
    out: str = ""
    """Folder of the table; default: the folder scores of the split."""
    text_fields: list[str] = field(default_factory=lambda: ["caption*"])
    """Texts that are compared with the image, as in `data.sources.<name>.text_fields`; similarity is the mean over them."""
    duplicates: float = 0.0
    """Cosine of two images' embeddings from which the later one is a near-duplicate, 1: of equal images, but for rounding; 0: not
    looked for. All images are compared with all earlier ones."""
    part: int = 4096
    """Samples of a part: what is computed again after a stop, and what ranks divide among them."""
    batch_size: int = 64
    """Images encoded at once."""
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    """Loader processes."""
    accelerator: str = "auto"
    """auto, cpu or gpu."""
    max_pixels: int = 64_000_000
    """Images with more pixels than this have no scores."""
    load: LoadConfig = field(default_factory=LoadConfig)

    def check(self) -> None:
        """Ranges, and that there is a model for what needs one. Raises ConfigError."""
        one_of("accelerator", self.accelerator, ACCELERATORS)
        for key in ("part", "batch_size", "max_pixels"):
            at_least(key, getattr(self, key), 1)
        not_negative("workers", self.workers)
        self.load.check()
        if not self.text_fields:
            raise ConfigError("text_fields is empty; name a text field, e.g. [caption]")
        if not 0 <= self.duplicates <= 1:
            raise ConfigError(f"duplicates={self.duplicates} must be 0 (not looked for), or a cosine of at most 1")
        if self.duplicates and not self.checkpoint:
            raise ConfigError(f"duplicates={self.duplicates} compares embeddings: name a model, checkpoint=<name>")
