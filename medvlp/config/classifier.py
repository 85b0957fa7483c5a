"""Options of a classifier: an image tower under trained heads."""

from dataclasses import dataclass, field

from medvlp.config.base import ModelConfig
from medvlp.config.llava import ImageTowerConfig
from medvlp.config.rules import one_of

POOLS = ("", "mean", "token")


@dataclass(kw_only=True)
class ClassifierConfig(ModelConfig):
    """An image tower under linear heads, which `objective.heads` describes."""

    kind: str = "classifier"
    """Which model this is; the option chosen for `model` sets it."""
    vision: ImageTowerConfig = field(default_factory=ImageTowerConfig)
    pool: str = ""
    """From a tower's last layer to one vector: token (the class token), mean (of the patches or of the feature map); empty is
    token where the tower has one, else mean."""
    fixed_batch_norm: bool = False
    """Batch norm keeps the statistics of its weights while they learn: for small batches, and so that ranks compute the same."""

    def check(self) -> None:
        """A way to pool that there is, and a tower's own options."""
        one_of("model.pool", self.pool, POOLS)
        self.vision.check()
