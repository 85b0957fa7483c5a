"""A CLIP model of open_clip's own classes, with its tokenizer and its preprocessing.

B: batch; L: tokens; S: image side; D: shared width.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn
from torch.nn.functional import normalize

from medvlp.models.batch_norm import fold_batch_norms
from medvlp.models.clip.image_pool import ImagePool
from medvlp.models.clip.text_tower import CONFIG, TOKENIZER_FILES
from medvlp.models.weights import files_hash, relocatable, weights_hash


@dataclass
class Clip:
    """A CLIP model with what belongs to it.

    model: open_clip's CLIP or CustomTextCLIP.
    tokenizer: open_clip's, list of texts → int64 (B, context).
    preprocess: open_clip's preprocessing settings (size, mean, std, interpolation, resize_mode).
    tokenizer_identity: {"name", "sha256"} of what turns text into ids.
    model_cfg: the architecture in the format of open_clip's model files.
    text_files: the text tower's configuration and its tokenizer's files by name, where these are transformers'.
    image_pool: of samples of several images; None where it was trained on single ones.
    """

    model: nn.Module
    tokenizer: Callable[..., Tensor]
    preprocess: dict[str, Any]
    tokenizer_identity: dict[str, str]
    model_cfg: dict[str, Any]
    text_files: dict[str, str]
    image_pool: ImagePool | None = None

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
        parts = (clip.model_cfg, clip.preprocess, clip.text_files.get(CONFIG))
        descriptions = (json.dumps(part, sort_keys=True) for part in parts)
        self.identity = ":".join([weights, *descriptions, clip.tokenizer_identity["sha256"]])
        self.takes_all_images = clip.image_pool is not None
        if clip.image_pool is not None:
            self.identity += f":{clip.image_pool.described()}"
        self.transform_identity = json.dumps(clip.preprocess, sort_keys=True)
        self.execution = execution_on(self.device, next(clip.model.parameters()).dtype)

    def folded(self) -> "ClipEncoder":
        """This encoder, its batch norms folded into convolutions; the model is for nothing else from now on."""
        fold_batch_norms(self.clip.model, self.encode_image, self.clip.size)
        return self

    @property
    def logit_scale(self) -> float:
        """The learned inverse temperature."""
        return float(self.clip.model.logit_scale.detach().exp())  # type: ignore[operator]

    @torch.no_grad()
    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels → (B, D)."""
        parameter = next(self.clip.model.parameters())
        pixels_BCHW = pixels_BCHW.to(self.device, parameter.dtype, memory_format=torch.channels_last)
        features = self.clip.model.encode_image(pixels_BCHW)  # type: ignore[operator]
        return normalize(features.float(), dim=-1).cpu()

    @torch.no_grad()
    def pool_images(self, image_MD: Tensor, counts_B: Tensor) -> Tensor:
        """Unit vectors of images, one sample after the other → (B, D) of the samples, as the model was trained."""
        pool = self.clip.image_pool
        assert pool is not None
        return pool.to(self.device)(image_MD.to(self.device), counts_B.to(self.device)).cpu()

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Texts → (B, D)."""
        tokens_BL = self.clip.tokenizer(list(texts)).to(self.device)
        pad_id, length = self.clip.padding
        if length is None:
            tokens_BL = tokens_BL[:, : int((tokens_BL != pad_id).sum(dim=1).max().clamp(min=1))]
        return normalize(self.clip.model.encode_text(tokens_BL).float(), dim=-1).cpu()  # type: ignore[operator]


def execution_on(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Kind of device and dtype, such as `cuda float32`: the same on every GPU of a machine."""
    return f"{torch.device(device).type} {str(dtype).removeprefix('torch.')}"


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


def tokenizer_identity(files: Mapping[str, str], name: str) -> dict[str, str]:
    """{"name", "sha256"} of what turns text into ids: the tokenizer's files, or open_clip's own vocabulary."""
    digest = hashlib.sha256()
    for file in TOKENIZER_FILES:
        if file in files:
            digest.update(f"{file} {len(files[file])}\0{files[file]}".encode())
    if any(file in files for file in TOKENIZER_FILES):
        return {"name": relocatable(name), "sha256": digest.hexdigest()}
    vocabulary = Path(open_clip.__file__).parent  # open_clip's byte pairs travel inside the library
    return {"name": "open_clip", "sha256": files_hash(vocabulary, ("bpe_simple_vocab_16e6.txt.gz",))}
