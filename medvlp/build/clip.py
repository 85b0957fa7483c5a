"""CLIP from its configuration, and from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medvlp.build.experiment import Experiment, build_optimisation
from medvlp.config import ClipConfig, ConfigError, ContrastiveConfig, TrainConfig, from_dict
from medvlp.data.batch import CollatePairs, PreparePairs
from medvlp.models.clip import (
    Clip,
    ClipEncoder,
    Tokenize,
    architecture,
    composed,
    from_architecture,
    named,
    preprocess_settings,
)
from medvlp.training.checkpoints import CheckpointError, load_checkpoint
from medvlp.training.contrastive import Contrastive


def build_clip(config: ClipConfig, weights: bool = True) -> Clip:
    """The CLIP model that a configuration describes; without `weights`, its architecture only."""
    image, vision, text = config.image, config.vision, config.text
    changes = {key: value for key, value in vars(image).items() if value is not None}
    if config.name:
        return named(config.name, config.pretrained if weights else "", text.context_length, changes)
    model_cfg = architecture(
        vision.timm,
        vision.pool,
        vision.proj,
        text.huggingface,
        text.pooler,
        text.proj,
        text.context_length or 128,
        config.embed_dim,
        image.size or 224,
        config.temperature,
    )
    preprocess = preprocess_settings(**changes)
    return composed(
        model_cfg, vision.weights if weights else "", text.pretrained and weights, text.huggingface, preprocess
    )


def contrastive(config: TrainConfig) -> Experiment:
    """CLIP with InfoNCE."""
    if not isinstance(config.model, ClipConfig):
        raise ConfigError(f"objective=contrastive trains a CLIP model, not model.kind={config.model.kind!r}")
    assert isinstance(config.objective, ContrastiveConfig)
    clip = build_clip(config.model)
    if "multimodal_cfg" in clip.model_cfg:
        raise ConfigError(
            f"model.name={config.model.name!r}: InfoNCE alone would leave CoCa's caption decoder untrained"
        )
    pad_id, length = clip.padding
    mean, std = clip.preprocess["mean"], clip.preprocess["std"]
    optimisation = build_optimisation(config.optim)
    module = Contrastive(
        clip.model, optimisation, config.seed, mean, std, config.objective.max_logit_scale, config.objective.same_text
    )
    data = config.data
    prepare = PreparePairs(
        [source.texts for source in data.sources.values()],
        Tokenize(clip.tokenizer, pad_id, length),
        clip.size,
        data.augment.scale,
        data.augment.ratio,
        data.max_pixels,
    )
    preprocess = {key: list(value) if isinstance(value, tuple) else value for key, value in clip.preprocess.items()}
    card = {"preprocess": preprocess, "tokenizer": clip.tokenizer_identity, "model_cfg": clip.model_cfg}
    return Experiment(
        module, prepare, CollatePairs(pad_id), card, lambda identity: ClipEncoder(clip, module.device, identity)
    )


@dataclass
class Loaded:
    """A checkpoint, ready for use.

    clip: the model in eval mode with its tokenizer and preprocessing.
    config: what it was trained with.
    weights_sha256: the hash of its weights.
    """

    clip: Clip
    config: TrainConfig
    weights_sha256: str


def load_clip(path: str | Path) -> Loaded:
    """The CLIP model of a checkpoint.

    Raises:
        CheckpointError: damaged, not ours, another objective's, or a tokenizer that differs from the one trained with.
    """
    content = load_checkpoint(path)
    card: Mapping[str, Any] = content["medvlp"]
    config = from_dict(card["config"])
    if not isinstance(config.model, ClipConfig):
        raise CheckpointError(f"checkpoint {path} holds model.kind={config.model.kind!r}, not a CLIP model")
    if config.model.name:
        clip = from_architecture(card["model_cfg"], card["preprocess"], config.model.name)
    else:
        clip = build_clip(config.model, weights=False)
    if clip.tokenizer_identity["sha256"] != card["tokenizer"]["sha256"]:
        raise CheckpointError(
            f"checkpoint {path}: tokenizer {card['tokenizer']['name']!r} on this machine has other files than the one it was "
            f"trained with; install the same version of its package or folder"
        )
    clip.model.load_state_dict(content["state_dict"])
    clip = replace(clip, model=clip.model.eval(), preprocess=dict(card["preprocess"]))
    return Loaded(clip, config, card["weights_sha256"])
