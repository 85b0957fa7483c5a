"""CLIP models from open_clip's names, from a timm tower with a transformers tower, and from a description."""

import copy
import json
import logging
import math
import tempfile
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
from torch import nn
from transformers.initialization import no_init_weights

from medvlp.models.clip.model import Clip, tokenizer_identity
from medvlp.models.clip.positions import fitting
from medvlp.models.clip.text_tower import (
    check_text,
    clip_tokenizer,
    handed,
    stated_files,
    text_files,
    text_model,
    tower_config,
)
from medvlp.models.descriptions import clip_description, is_timm, preprocess_description
from medvlp.models.timm_weights import load_trunk
from medvlp.models.weights import DAMAGE, WeightsError, first_line, reason, refuse_torchscript, relocatable, resolve


def named(
    name: str,
    pretrained: str = "",
    context_length: int | None = None,
    image: dict[str, Any] | None = None,
    origin: str = "",
    positions: str = "linear",
) -> Clip:
    """An open_clip architecture, folder or JSON file in open_clip's format, with weights where `pretrained` names some.

    Args:
        context_length: instead of the architecture's own.
        positions: how learned positions of the weights become as many, see `fitted`.
        image: any of size, mean, std and resize_mode, instead of the weights' own.
        origin: where the name was given, for messages; by default `model.name`.
    Raises:
        WeightsError: unknown architecture, tag or file, or a description with keys that are not passed on.
    """
    origin = origin or f"model.name={name}, model.pretrained={pretrained!r}"
    model_cfg = named_description(name, origin)
    if name.endswith(".json"):
        open_clip.add_model_config(Path(resolve(name)))
        name = Path(name).stem
    text_cfg = model_cfg["text_cfg"]
    if context_length is not None:
        if model_cfg.get("multimodal_cfg") and context_length != (text_cfg.get("context_length") or 77):
            raise WeightsError(
                f"{origin}: model.text.context_length={context_length}: CoCa's decoder reads as many tokens as it was built "
                f"for, {text_cfg.get('context_length') or 77}; leave model.text.context_length out"
            )
        text_cfg["context_length"] = context_length
    files, tower = named_text(name, text_cfg, bool(pretrained) or ":" in name, origin)
    image = dict(image or {})
    weights = resolve(pretrained)
    if pretrained and Path(weights).is_file() and not weights.endswith(".safetensors"):
        refuse_torchscript(Path(weights), pretrained)
    try:
        with tower, fitting(positions):
            model, _, _ = open_clip.create_model_and_transforms(
                name,
                pretrained=weights or None,
                weights_only=True,
                device=torch.get_default_device(),
                force_context_length=context_length,
                force_image_size=image.pop("size", None),
                **{f"image_{key}": value for key, value in image.items()},
            )
    except DAMAGE as error:
        message = error if isinstance(error, RuntimeError | OSError | ValueError) else reason(error)
        raise WeightsError(f"{origin}: {message}") from None
    preprocess = preprocess_description(open_clip.get_model_preprocess_cfg(model), name)
    model_cfg["vision_cfg"]["image_size"] = preprocess["size"]
    return described(model, model_cfg, preprocess, files, name)


def named_description(name: str, origin: str = "") -> dict[str, Any]:
    """What open_clip will be told of a named architecture: one of its own, a JSON file, `local-dir:` or `hf-hub:`.

    origin: where the name was given, for messages; by default `model.name`.

    Raises:
        WeightsError: nothing there, or a description with keys that are not passed on.
    """
    origin = origin or f"model.name={name}"
    if name.endswith(".json"):
        path = Path(resolve(name))
        if not path.is_file():
            raise WeightsError(f"{origin}: no such file")
        if ":" in path.stem:  # open_clip would look for a folder or a hub's model of this name instead
            raise WeightsError(f"{origin}: give the file a name without a colon")
        try:
            description = json.loads(path.read_text("utf-8"))
        except (ValueError, RecursionError) as error:
            raise WeightsError(f"{origin} is not JSON: {error}") from None
    elif ":" not in name and name not in open_clip.list_models():
        close = get_close_matches(name, open_clip.list_models(), n=3)
        raise WeightsError(f"{origin}: {name!r} is not one of open_clip's architectures; near it: {close}")
    else:
        try:
            description = open_clip.get_model_config(name)
        except DAMAGE as error:
            raise WeightsError(f"{origin}: its open_clip_config.json cannot be read ({error})") from None
    return clip_description(description, origin)


def named_text(
    name: str, text_cfg: dict[str, Any], filled: bool, origin: str
) -> tuple[dict[str, str], AbstractContextManager[None]]:
    """A named architecture's text files, and a context in which open_clip builds it with transformers' tower, if any.

    Args:
        filled: weights of the whole CLIP follow, so the tower's own are not loaded.
    Raises:
        WeightsError: as in `text_files` and `check_text`.
    """
    files, tower = named_text_files(name, text_cfg)
    if not tower:
        return files, nullcontext()
    config, pooler = tower_config(files, origin), text_cfg.get("hf_pooler_type") or "mean_pooler"
    length = text_cfg.get("context_length") or 77
    check_text(config, clip_tokenizer(text_cfg, files), pooler, length, str(text_cfg["hf_model_name"]))
    with no_init_weights() if filled else nullcontext():
        model = text_model(config, pooler, "" if filled else tower)
    return files, handed(config, model)


def named_text_files(name: str, text_cfg: dict[str, Any]) -> tuple[dict[str, str], str]:
    """A named architecture's text files, and where transformers' tower of it is; ({}, "") where open_clip has all of its own.

    Raises:
        WeightsError: as in `text_files`.
    """
    folder = name.removeprefix("local-dir:") if name.startswith("local-dir:") else ""
    tower, tokenizer = text_cfg.get("hf_model_name"), text_cfg.get("hf_tokenizer_name")
    if (
        folder
    ):  # its tokenizer is in the folder, wherever it came from; so is its tower's configuration, or it has a name
        tower = folder if tower and (Path(folder) / "config.json").is_file() else tower
        tokenizer = folder if tokenizer else tokenizer
    files = text_files(tokenizer, tower=tower == tokenizer) if tokenizer else {}
    if tower and tower != tokenizer:
        files = {**text_files(tower), **files}
    return files, tower or ""


def from_description(model_cfg: Any, preprocess: Any, files: Any, tokenizer_name: str, origin: str) -> Clip:
    """A model with random weights from what a checkpoint says of it, by open_clip's own reader of model folders.

    Raises:
        WeightsError: a description with keys that are not passed on, or one that cannot be built.
    """
    model_cfg, preprocess = clip_description(model_cfg, origin), preprocess_description(preprocess, origin)
    text_cfg = model_cfg["text_cfg"]
    files = stated_files(files, text_cfg, origin)
    tower: AbstractContextManager[None] = nullcontext()
    if text_cfg.get("hf_model_name"):
        config = tower_config(files, origin)
        tower = handed(config, text_model(config, text_cfg.get("hf_pooler_type") or "mean_pooler"))
    with tempfile.TemporaryDirectory() as folder, tower:
        description = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(description), encoding="utf-8")
        logging.disable(logging.WARNING)  # of random weights, in which those of the checkpoint will take the place
        try:
            model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        finally:
            logging.disable(logging.NOTSET)
    return described(model, model_cfg, preprocess, files, tokenizer_name)


def described(
    model: nn.Module, model_cfg: dict[str, Any], preprocess: dict[str, Any], files: dict[str, str], name: str
) -> Clip:
    """The model with its tokenizer, and with a description that says nothing of this machine."""
    text_cfg = model_cfg["text_cfg"]
    tokenizer = clip_tokenizer(text_cfg, files)
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if text_cfg.get(key):
            text_cfg[key] = relocatable(text_cfg[key])
    return Clip(model, tokenizer, preprocess, tokenizer_identity(files, name), model_cfg, files)


def architecture(
    timm_name: str,
    pool: str,
    image_proj: str,
    text_name: str,
    pooler: str,
    text_proj: str,
    context_length: int,
    embed_dim: int,
    size: int,
    temperature: float,
) -> dict[str, Any]:
    """Any timm image tower with any transformers text tower, in the format of open_clip's model files."""
    return {
        "embed_dim": embed_dim,
        "init_logit_scale": math.log(1 / temperature),
        "vision_cfg": {
            "timm_model_name": timm_name,
            "timm_model_pretrained": False,
            "timm_pool": pool,
            "timm_proj": image_proj,
            "image_size": size,
        },
        "text_cfg": {
            "hf_model_name": text_name,
            "hf_tokenizer_name": text_name,
            "hf_model_pretrained": False,
            "hf_pooler_type": pooler,
            "hf_proj_type": text_proj,
            "context_length": context_length,
        },
    }


def composed(
    model_cfg: dict[str, Any], image_weights: str, text_weights: bool, text_name: str, preprocess: dict[str, Any]
) -> Clip:
    """An `architecture` as open_clip's CustomTextCLIP, its towers filled.

    Args:
        image_weights: "" (random), "timm" (its own pretrained ones), or a file.
        text_weights: load the text tower's weights, or leave them random.
        text_name: the text tower's name as configured, for the checkpoint's metadata.
    Raises:
        WeightsError: weights that are missing or do not fit.
    """
    vision = {**model_cfg["vision_cfg"], "timm_model_pretrained": image_weights == "timm"}
    text, name = model_cfg["text_cfg"], vision["timm_model_name"]
    if not is_timm(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise WeightsError(f"model.vision.timm={name!r} is not one of timm's architectures; near it: {near}")
    files = text_files(text["hf_model_name"])
    config, pooler = tower_config(files, text_name), text["hf_pooler_type"]
    check_text(config, clip_tokenizer(text, files), pooler, text["context_length"], text_name)
    tower = text_model(config, pooler, text["hf_model_name"] if text_weights else "")
    try:
        with handed(config, tower):
            model = open_clip.CustomTextCLIP(**{**model_cfg, "vision_cfg": vision})
    except (RuntimeError, OSError, AssertionError, TypeError, ValueError) as error:
        raise WeightsError(
            f"model.vision.timm={name!r} with model.vision.pool={vision['timm_pool']!r} and "
            f"model.vision.proj={vision['timm_proj']!r} cannot be built ({first_line(error)}). Every architecture can be built "
            f"with model.vision.pool= (its own) and model.vision.proj=linear"
        ) from None
    if image_weights not in ("", "timm"):
        load_trunk(model.visual.trunk, image_weights)
    return described(model, copy.deepcopy(model_cfg), preprocess, files, text_name)
