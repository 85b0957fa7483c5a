"""Contrastive training of a CLIP model, from its configuration."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medvlp.builders.clip import build_clip
from medvlp.builders.data import image_views, source_texts, training_view
from medvlp.builders.objectives import optimizer_settings
from medvlp.builders.objectives.terms import terms_of
from medvlp.config import ClipConfig, ConfigError, ContrastiveConfig, TrainConfig
from medvlp.data.images.feature_cache import FeatureCache
from medvlp.data.images.of_samples import EvaluationView
from medvlp.data.pairs import CollatePairs, PairPipeline, PreparePairs, Tokenize
from medvlp.eval.embeddings import CachedEncoder
from medvlp.losses import contrastive_loss
from medvlp.losses.sigmoid import Sigmoid
from medvlp.models.clip.adapters import add_adapters
from medvlp.models.clip.frozen import Head, frozen_identity, split_image_tower
from medvlp.models.clip.fusion import has_decoder, start_decoder
from medvlp.models.clip.image_pool import image_pool
from medvlp.models.clip.model import Clip, ClipEncoder
from medvlp.models.clip.towers import checkpoint_activations, drop_patches
from medvlp.models.clip.trial import longest_text
from medvlp.training.module import Objective
from medvlp.training.objectives.contrastive import Contrastive

EVALUATED_AT_ONCE = 64
"""Images, or texts, in a batch of an evaluation during training."""


def contrastive(config: TrainConfig) -> Objective:
    """CLIP with a contrastive loss."""
    if not isinstance(config.model, ClipConfig):
        raise ConfigError(f"objective=contrastive trains a CLIP model, not model.kind={config.model.kind!r}")
    assert isinstance(config.objective, ContrastiveConfig)
    objective, data = config.objective, config.data
    loss = contrastive_loss(objective.loss, objective.options)
    clip = build_clip(config.model)
    if isinstance(loss, Sigmoid):
        add_bias(clip, loss.start_scale, loss.start_bias)
    if has_decoder(clip.model) and not config.model.pretrained:
        start_decoder(clip.model)
    texts = [source_texts(name, source) for name, source in data.sources.items()]
    terms, extras, teacher = terms_of(config, clip, texts)
    if config.model.patch_dropout:
        drop_patches(clip.model, config.model.patch_dropout)
    lora, adapters = config.model.lora, None
    if lora.rank:
        adapters = add_adapters(clip.model, lora.towers, lora.rank, lora.alpha, lora.dropout)
    if config.model.gradient_checkpointing:
        checkpoint_activations(clip.model)
    pad_id, length = clip.padding
    prepare = PreparePairs(
        texts,
        Tokenize(clip.tokenizer, pad_id, length),
        training_view(data, clip.size),
        objective.positives,
        extras=extras,
        most_images=[source.max_images if source.several_images == "all" else 0 for source in data.sources.values()],
    )
    pools = any(prepare.most_images)
    if pools:
        clip.image_pool = image_pool(config.model.image_pool, int(clip.model_cfg["embed_dim"]))
    features, image_head = cached_images(clip, config) if objective.feature_cache else (None, nn.Identity())
    pipeline = PairPipeline(
        prepare,
        CollatePairs(pad_id, extras, pools),
        longest_text(clip),
        data.global_batch_size,
        objective.same_text == "apart",
        features,
        teacher,
        image_views(config),
    )
    module = Contrastive(
        clip.model,
        loss,
        optimizer_settings(config.optim),
        config.seed,
        clip.preprocess["mean"],
        clip.preprocess["std"],
        objective.max_logit_scale,
        objective.same_text,
        objective.positives_as,
        terms,
        objective.weight,
        image_head,
        clip.image_pool,
    )
    if adapters:
        module.plain_state = adapters.merged
    preprocess = {key: list(value) if isinstance(value, tuple) else value for key, value in clip.preprocess.items()}
    metadata = {
        "preprocess": preprocess,
        "tokenizer": clip.tokenizer_identity,
        "model_cfg": clip.model_cfg,
        **({"text_files": clip.text_files} if clip.text_files else {}),
    }

    def evaluated(identity: str) -> CachedEncoder:
        encoder = ClipEncoder(clip, module.device, identity)
        return CachedEncoder(encoder, EVALUATED_AT_ONCE, data.workers, data.max_pixels)

    return Objective(module, pipeline, metadata, evaluated)


def add_bias(clip: Clip, scale: float, bias: float) -> None:
    """Give a model without a logit bias one, as open_clip builds it; its scale then starts over too."""
    model: Any = clip.model
    if model.logit_bias is not None:
        return
    model.logit_bias = nn.Parameter(torch.full_like(model.logit_scale, bias))
    with torch.no_grad():
        model.logit_scale.fill_(math.log(scale))
    clip.model_cfg["init_logit_bias"] = bias


def cached_images(clip: Clip, config: TrainConfig) -> tuple[FeatureCache, Head]:
    """The frozen image tower's features in a folder, and what makes embeddings of them.

    Raises:
        WeightsError: a head learns that cannot be told from the tower.
    """
    assert isinstance(config.objective, ContrastiveConfig)
    head = config.optim.parts.get("vision_head")
    head_learns = not (head and head.freeze)
    trunk, image_head = split_image_tower(clip.model, head_learns)
    on_gpu = config.trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")

    def encode(pixels_BCHW: Tensor) -> Tensor:
        """(B, 1, F): an image has one."""
        clip.model.eval().to(device)
        return trunk(pixels_BCHW.to(device, memory_format=torch.channels_last))[:, None]

    return FeatureCache(
        Path(config.objective.feature_cache),
        lambda: {
            "image tower": frozen_identity(clip.model, head_learns),
            "transform": json.dumps(clip.preprocess, sort_keys=True),
            **({"images": "all of a sample"} if clip.image_pool else {}),
        },
        EvaluationView(clip.transform, config.data.max_pixels, clip.image_pool is not None),
        encode,
        (1, 3, clip.size, clip.size),
    ), image_head
