"""Models by name: what they are, what they can do, the identity of their content, and the models themselves."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from medvlp.config import ConfigError, EvalConfig, as_dict
from medvlp.config.model_names import ModelName, parse_model_name
from medvlp.distributed import rank
from medvlp.eval.prompting.selection import Embedder, Encoder
from medvlp.eval.store.root import store_root
from medvlp.eval.task import EvaluatedModel
from medvlp.models.digests import FileFacts
from medvlp.models.weights import refuse_overwritten

RESPONSES_FORMAT = 2
"""Of answers that are kept: raised where our own code answers the same question in another way."""

SCHEMES = {
    "api": "medvlp.builders.schemes.api:ServedModel",
    "checkpoint": "medvlp.builders.schemes.checkpoint:CheckpointModel",
    "open_clip": "medvlp.builders.schemes.open_clip:OpenClipModel",
    "hf": "medvlp.builders.schemes.huggingface:HfNamedModel",
}
"""Scheme of a name → "module:class" of a `NamedModel`, which is imported when a name has it."""


@dataclass(frozen=True)
class ModelKind:
    """A kind of model that tasks can measure.

    title: what messages call it. offers: its capabilities. takes_images: False for a language model.
    """

    title: str
    offers: tuple[str, ...]
    takes_images: bool = True


class NamedModel(Protocol):
    """A model behind a name. Making one reads nothing."""

    def __init__(self, name: ModelName) -> None: ...

    def kind(self) -> ModelKind:
        """What it is, without its weights.

        Raises:
            UserError: nothing there, or a kind that no task can measure.
        """

    def identity(self, facts: FileFacts) -> str:
        """Hash of all that decides what it gives, whatever its name: weights, preprocessing, tokenizer, description.

        facts: hashes of large files, remembered.

        Raises:
            UserError: nothing there, or damaged.
        """

    def origin(self) -> dict[str, Any]:
        """What a protocol says of where the weights come from, such as the step of a run, or that nobody trained them."""

    def open(self, device: str, config: EvalConfig) -> EvaluatedModel:
        """The model on a device.

        Raises:
            UserError: nothing there, damaged, or weights that do not fit.
        """


def named_model(name: ModelName) -> NamedModel:
    """What stands behind a name."""
    module, _, class_name = SCHEMES[name.scheme].partition(":")
    model_class: type[NamedModel] = getattr(importlib.import_module(module), class_name)
    return model_class(name)


def model_kind_of(name: ModelName) -> ModelKind:
    """What a model is and can do, without its weights. Raises UserError."""
    return named_model(name).kind()


def identity_of(name: ModelName, root: Path | None = None) -> str:
    """The hash of a model's content: two names of equal content have one identity, an overwritten file gets another.

    root: the cache's folder (`store_root`), where hashes of large files are remembered; None computes them again.

    Raises:
        UserError: as `NamedModel.identity`.
    """
    return named_model(name).identity(FileFacts(root))


def refuse_changed(name: ModelName, identity: str, root: Path | None = None) -> None:
    """Refuse a model that is not what it was. identity: what it had then. root: as of `identity_of`. Raises UserError."""
    refuse_overwritten(name.text, identity, identity_of(name, root))


def origin_of(name: ModelName) -> dict[str, Any]:
    """What a protocol says of where a model's weights come from. Raises UserError."""
    return named_model(name).origin()


API_OPTIONS = ("seed", "images", "parameters")
"""Options of requests that change what is answered."""


def options_of(name: ModelName, config: EvalConfig) -> dict[str, Any]:
    """The options of a configuration that decide what a model of a scheme gives."""
    if name.scheme == "api":
        return {key: value for key, value in as_dict(config.api).items() if key in API_OPTIONS}
    load = getattr(config, "load", None)
    return as_dict(load) if name.scheme == "hf" and load is not None else {}


def open_model(name: ModelName, device: str, config: EvalConfig) -> EvaluatedModel:
    """A model on a device, as tasks measure it; its answers are kept in the cache. Raises UserError."""
    model: Any = named_model(name).open(device, config)
    if "generate" not in model.offers:
        return model
    if name.scheme == "api":  # whatever cache.max_gb is: they may have cost money
        model = model.kept_in(store_root(config.cache))
        if len(model.log) and rank() == 0:
            day = model.log.first_day or "an unknown day"
            print(
                f"note: {name.text}: {len(model.log):,} answers are kept (the first of {day}) and are not asked for again, "
                "whatever model the server has now; `medvlp cache clear kind=responses` forgets them",
                file=sys.stderr,
                flush=True,
            )
        return model
    return keep_responses(model, name, device, config) if config.cache.max_gb > 0 else model


def embedder_of(name: str, capability: str, config: EvalConfig, device: Callable[[], str]) -> Embedder:
    """The model that says which examples are near a question; its embeddings are kept in the cache.

    capability: encode_text or encode_image. device: where it is opened, asked then.

    Raises:
        ConfigError: a name that is not understood, or a model that gives no such embeddings.
        UserError: nothing there, or damaged.
    """
    model_name = parse_model_name(name)
    kind = model_kind_of(model_name)
    if capability not in kind.offers:
        subject, example = {
            "encode_text": ("texts", "a CLIP model or an encoder of texts"),
            "encode_image": ("images", "a CLIP model"),
        }[capability]
        raise ConfigError(
            f"prompting.embedder={name} is {kind.title}, which gives no embeddings of {subject}; name {example}"
        )
    identity = identity_of(model_name, store_root(config.cache))
    return Embedder(name, identity, lambda: cast(Encoder, open_model(model_name, device(), config)))


def keep_responses(model: Any, name: ModelName, device: str, config: EvalConfig) -> EvaluatedModel:
    """A model that generates, in front of the log of what it has answered; the model itself where there is no cache."""
    import torch

    from medvlp.data.images.decode import VERSION
    from medvlp.eval.models.kept import KeptModel
    from medvlp.eval.store.embeddings import ANSWERING, versions
    from medvlp.eval.store.responses import LOCAL, ResponseLog, evict

    root = store_root(config.cache)
    if root is None:
        return model
    evict(root, config.cache.max_bytes)
    parts = {
        "content": identity_of(name, root),
        "weights": model.identity,
        "model": model.metadata(),
        "device": torch.device(device).type,
        "execution": getattr(model, "execution", ""),
        "settings": as_dict(config).get("load"),
        "images": {"decoding": VERSION, "max_pixels": config.max_pixels},
        "versions": versions(ANSWERING),
        "format": RESPONSES_FORMAT,
    }
    return KeptModel(model, ResponseLog(root, json.loads(json.dumps(parts)), LOCAL))
