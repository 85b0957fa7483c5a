"""A classifier in a checkpoint's metadata: all of it but its weights, as plain values."""

import importlib
import json
from collections.abc import Mapping
from typing import Any

from medvlp.models.classifier.model import Classifier, ImageClassifier
from medvlp.models.descriptions import checked, config_description, plain
from medvlp.models.towers import MODEL_TYPES
from medvlp.models.towers.processors import described_processor
from medvlp.models.weights import relocatable


def metadata_of(classifier: Classifier) -> dict[str, Any]:
    """What a checkpoint holds of a classifier."""
    return {
        "tower_config": json.loads(classifier.model.vision.config.to_json_string(use_diff=False)),
        "processor": json.loads(classifier.processor.to_json_string()),
        "pool": classifier.model.pool,
        "heads": [{"name": name, **head} for name, head in classifier.heads.items()],
        "names": {part: {**name, "name": relocatable(name["name"])} for part, name in classifier.names.items()},
    }


def from_metadata(metadata: Mapping[str, Any]) -> Classifier:
    """The classifier that a checkpoint's metadata describe, its weights not yet loaded. Only what is known is passed on.

    Raises:
        WeightsError: a description that is not a classifier's.
    """
    import transformers

    origin = "its description"
    for module in set(MODEL_TYPES.values()):
        importlib.import_module(module)
    description = config_description(metadata["tower_config"], tuple(MODEL_TYPES), f"{origin}: tower_config")
    config = transformers.CONFIG_MAPPING[description["model_type"]].from_dict(description)
    vision = transformers.AutoModel.from_config(config, trust_remote_code=False)
    heads = {
        str(head["name"]): {k: v for k, v in head.items() if k != "name"} for head in plain(metadata["heads"], origin)
    }
    classes = {name: len(head["classes"]) for name, head in heads.items()}
    model = ImageClassifier(vision, checked(metadata["pool"], ("", "mean", "token"), origin, "pool"), classes)
    processor = described_processor(metadata["processor"], f"{origin}: processor")
    return Classifier(model, processor, heads, plain(metadata["names"], origin))
