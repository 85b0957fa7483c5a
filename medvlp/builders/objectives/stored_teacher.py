"""A teacher's features in a folder, in the place of the teacher."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from medvlp.config import TrainConfig
from medvlp.data.extras.teacher import CaptionTokens
from medvlp.data.images.feature_cache import FeatureCache
from medvlp.data.images.of_samples import EvaluationView
from medvlp.data.texts import SourceTexts
from medvlp.models.clip.fusion import unit_vectors
from medvlp.models.clip.model import Clip
from medvlp.models.clip.text_lengths import encode_by_length
from medvlp.models.weights import weights_hash

KEY = "objective.auxiliary.distillation.feature_cache"


def teacher_caches(
    clip: Clip, folder: Path, texts: Sequence[SourceTexts], config: TrainConfig
) -> tuple[FeatureCache, FeatureCache]:
    """A teacher's unit vectors of images, as its evaluation sees them, and of all texts; keyed by its weights, its transform and
    tokenizer, and the data."""
    on_gpu = config.trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")

    def encode_image(pixels_BCHW: Tensor) -> Tensor:
        """(B, 1, D)."""
        pixels_BCHW = pixels_BCHW.to(device, memory_format=torch.channels_last)
        features_BD: Tensor = clip.model.eval().to(device).encode_image(pixels_BCHW)  # type: ignore[operator]
        return unit_vectors(features_BD)[:, None]

    def encode_captions(tokens_BL: Tensor) -> Tensor:
        """(B, 1, 1 + D): the text's short id first."""
        ids_B1, tokens_BL = tokens_BL[:, :1].float(), tokens_BL[:, 1:].long().to(device)
        features_BD = unit_vectors(encode_by_length(clip.model.eval().to(device), tokens_BL))
        return torch.cat([ids_B1, features_BD.cpu()], dim=1)[:, None]

    def identity(name: str, value: str) -> dict[str, str]:
        return {"teacher": weights_hash(clip.model.state_dict()), name: value}

    context = clip.tokenizer(["a"]).shape[1]
    images = FeatureCache(
        folder / "images",
        lambda: identity("transform", json.dumps(clip.preprocess, sort_keys=True)),
        EvaluationView(clip.transform, config.data.max_pixels),
        encode_image,
        (1, 3, clip.size, clip.size),
        KEY,
    )
    captions = FeatureCache(
        folder / "captions",
        lambda: identity("tokenizer", f"{clip.tokenizer_identity['sha256']} {context}"),
        CaptionTokens(texts, clip.tokenizer),
        encode_captions,
        (1, 1 + context),
        KEY,
    )
    return images, captions
