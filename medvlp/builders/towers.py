"""Image towers by the name that `model.vision.source` gives."""

from medvlp.builders.classifier import load_classifier
from medvlp.builders.clip import clip_named, model_kind
from medvlp.config import ConfigError, ImageTowerConfig
from medvlp.config.model_names import source_name
from medvlp.models.hf.folders import model_folder
from medvlp.models.towers import load_tower
from medvlp.models.towers.clip_checkpoint import tower_from_clip
from medvlp.models.towers.tower import Tower

VISION = "model.vision.source"


def vision_tower(vision: ImageTowerConfig, feature_layer: int = -1, weights: bool = True) -> Tower:
    """The tower that a configuration describes.

    feature_layer: the hidden state that is its features, of a tower with several.
    weights: False for the architecture alone, which of a model trained here is read with them.

    Raises:
        WeightsError, CheckpointError, ConfigError: nothing there, or it does not fit.
    """
    name = source_name(vision.source, VISION)
    if name and name.scheme != "hf":
        is_classifier = name.scheme == "checkpoint" and model_kind(name.target) == "classifier"
        if vision.mean or vision.std:
            raise ConfigError(
                f"model.vision.mean and .std: {VISION}={vision.source} is a {'classifier' if is_classifier else 'CLIP model'}, "
                f"which brings its own"
            )
        if is_classifier:
            return load_classifier(name.target).classifier.tower(feature_layer)
        return tower_from_clip(clip_named(name, VISION)[0], feature_layer)
    reference = library_reference(vision.source, VISION)
    return load_tower(
        reference, vision.size, vision.mean, vision.std, feature_layer, weights, weights_file=vision.weights
    )


def library_reference(source: str, key: str) -> str:
    """A source as transformers names it: without the scheme `hf:`, and of a revision the folder that it was fetched to.

    Raises:
        ConfigError: a scheme that cannot be a part.
        WeightsError: a revision that cannot be fetched.
    """
    name = source_name(source, key)
    if name is None:
        return source
    if name.scheme != "hf":
        raise ConfigError(f"{key}={source}: expected a model of transformers: hf:<name or folder>, or the name alone")
    return str(model_folder(name.target, name.revision)[0]) if name.revision else name.target
