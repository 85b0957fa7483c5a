"""Checkpoints of `medvlp train` by their path: CLIP models, classifiers and assistants."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.builders.classifier import load_classifier
from medvlp.builders.clip import description_of, load_clip, model_kind
from medvlp.builders.llava import assistant_model, box_style, load_assistant
from medvlp.builders.models import ModelKind
from medvlp.config import EvalConfig
from medvlp.config.model_names import ModelName
from medvlp.data.labels import ClassLabels
from medvlp.eval.classification.model import ClassifierEncoder, ClassifierModel
from medvlp.eval.embeddings import CachedEncoder, DeferredEncoder
from medvlp.eval.models.assistant import AssistantModel
from medvlp.eval.store.embeddings import embedding_store
from medvlp.eval.task import EvaluatedModel
from medvlp.models.clip.model import ClipEncoder, execution_on
from medvlp.models.digests import FileFacts, content_identity
from medvlp.models.weights import refuse_overwritten
from medvlp.training.checkpoints import CheckpointError, load_checkpoint


def load_cached_encoder(path: str, device: str, config: EvalConfig) -> CachedEncoder:
    """A CLIP checkpoint's embeddings of images and texts."""
    store = embedding_store(config.cache)
    facts = FileFacts(store.folder.root if store else None)
    identity = identity_of_file(path, facts)

    def load() -> ClipEncoder:
        clip = load_clip(path).clip
        refuse_overwritten(path, identity, identity_of_file(path, facts))
        clip.model.to(device)
        return ClipEncoder(clip, device, identity).folded()

    encoder = DeferredEncoder(identity, execution_on(device), load)
    return CachedEncoder(encoder, config.batch_size, config.workers, config.max_pixels, store)


def load_assistant_model(path: str, device: str, config: EvalConfig) -> AssistantModel:
    """An assistant's checkpoint, ready to be asked."""
    checkpoint = load_assistant(path)
    checkpoint.assistant.model.to(device)
    style = box_style(checkpoint.assistant, checkpoint.config.objective)
    return assistant_model(
        checkpoint.assistant, checkpoint.encoder, config.max_pixels, config.batch_size, checkpoint.weights_sha256, style
    )


def load_classifier_model(path: str, device: str, config: EvalConfig) -> ClassifierModel:
    """A classifier's scores and embeddings of images."""
    store = embedding_store(config.cache)
    facts = FileFacts(store.folder.root if store else None)
    identity = identity_of_file(path, facts)
    with description_of(path):
        description = load_checkpoint(path)["medvlp"]["classifier"]["heads"]
        heads = {
            str(head["name"]): ClassLabels.from_metadata({key: head[key] for key in head if key != "name"})
            for head in description
        }

    def load() -> ClassifierEncoder:
        classifier = load_classifier(path).classifier
        refuse_overwritten(path, identity, identity_of_file(path, facts))
        classifier.model.to(device)
        return ClassifierEncoder(classifier, device, identity).folded()

    encoder = DeferredEncoder(identity, execution_on(device), load)
    return ClassifierModel(encoder, heads, config.batch_size, config.workers, config.max_pixels, store)


@dataclass(frozen=True)
class TrainedKind:
    """A kind of model that we train: what it is, and how a checkpoint of it is opened on a device."""

    kind: ModelKind
    load: Callable[[str, str, EvalConfig], EvaluatedModel]


MODELS = {
    "clip": TrainedKind(ModelKind("a CLIP model", CachedEncoder.offers), load_cached_encoder),
    "classifier": TrainedKind(ModelKind("a classifier", ClassifierModel.offers), load_classifier_model),
    "llava": TrainedKind(ModelKind("an assistant", AssistantModel.offers), load_assistant_model),
}
"""`model.kind` of a checkpoint → how it is measured."""


class CheckpointModel:
    """A `NamedModel` of a checkpoint."""

    def __init__(self, name: ModelName) -> None:
        self.path = name.target

    def kind(self) -> ModelKind:
        """The kind of the checkpoint's model.

        Raises:
            CheckpointError: damaged, not one of ours, or a kind that no task can measure.
        """
        return self._trained_kind().kind

    def identity(self, facts: FileFacts) -> str:
        """Hash of the weights, as they were verified, and of what the checkpoint says of its model. Raises CheckpointError."""
        return identity_of_file(self.path, facts)

    def origin(self) -> dict[str, Any]:
        """{"step"}: optimizer steps. Raises CheckpointError."""
        return {"step": load_checkpoint(self.path)["global_step"]}

    def open(self, device: str, config: EvalConfig) -> EvaluatedModel:
        """The checkpoint's model on a device. Raises CheckpointError."""
        return self._trained_kind().load(self.path, device, config)

    def _trained_kind(self) -> TrainedKind:
        kind = model_kind(self.path)
        if kind not in MODELS:
            raise CheckpointError(f"checkpoint {self.path} holds model.kind={kind!r}, which no task can measure")
        return MODELS[kind]


def identity_of_file(path: str, facts: FileFacts) -> str:
    """`checkpoint_identity`, remembered. Raises CheckpointError."""
    try:
        return facts.get(Path(path), "checkpoint 1", checkpoint_identity)
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint {path}: no such file") from None


def checkpoint_identity(path: Path) -> str:
    """The hash of all that a checkpoint says of its model; of its training's configuration, only what the model keeps using.

    Raises:
        CheckpointError: damaged, or not one of ours.
    """
    content = load_checkpoint(path)["medvlp"]
    with description_of(path):
        language = content["config"]["model"].get("language") or {}
        parts = {name: part for name, part in content.items() if name != "config"}
        return content_identity(json.loads(json.dumps({**parts, "thoughts": language.get("thoughts", "")})))
