"""A classifier from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from medvlp.builders.clip import description_of, fill
from medvlp.config import ClassifierConfig, TrainConfig, from_dict
from medvlp.models.classifier.metadata import from_metadata
from medvlp.models.classifier.model import Classifier
from medvlp.models.towers.processors import ImageTransform
from medvlp.training.checkpoints import CheckpointError, load_checkpoint


@dataclass
class LoadedClassifier:
    """A checkpoint, ready for use.

    classifier: the model in eval mode with its image processor and its heads.
    config: what it was trained with.
    weights_sha256: the hash of its weights.
    selected: source → what conditions selected of it.
    """

    classifier: Classifier
    config: TrainConfig
    weights_sha256: str
    selected: Mapping[str, Any]


def load_classifier(path: str | Path) -> LoadedClassifier:
    """The classifier of a checkpoint; nothing else is needed, not even its tower's package.

    Raises:
        CheckpointError: damaged, not ours, or another objective's.
    """
    content = load_checkpoint(path)
    with description_of(path):
        card = content["medvlp"]
        config = from_dict(card["config"])
        if not isinstance(config.model, ClassifierConfig):
            raise CheckpointError(f"checkpoint {path} holds model.kind={config.model.kind!r}, not a classifier")
        with torch.device("cpu"):
            classifier = from_metadata(card["classifier"])
        fill(classifier.model, content["state_dict"])
        classifier.model.eval()
        return LoadedClassifier(classifier, config, card["weights_sha256"], card.get("selected", {}))


def load_parts(path: str | Path) -> tuple[Any, ImageTransform, dict[str, list[str]]]:
    """What `medvlp.load` gives of a classifier: its model, its image transform, and the classes of each head.

    Raises:
        CheckpointError: as `load_classifier`.
    """
    classifier = load_classifier(path).classifier
    classes = {name: list(head["classes"]) for name, head in classifier.heads.items()}
    return classifier.model, ImageTransform(classifier.processor), classes
