"""Losses that are added to a contrastive one, from their configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medvlp.builders.clip import clip_named
from medvlp.builders.objectives.classification import class_labels, weights_of
from medvlp.builders.objectives.stored_teacher import teacher_caches
from medvlp.config import ConfigError, ContrastiveConfig, TrainConfig
from medvlp.config.model_names import parse_model_name
from medvlp.data.extras import PairExtra
from medvlp.data.extras.labels import PairLabels
from medvlp.data.extras.masking import Masking
from medvlp.data.extras.teacher import StoredTeacher, TeacherTokens
from medvlp.data.images.feature_cache import FeatureCache
from medvlp.data.pairs import Tokenize
from medvlp.data.texts import SourceTexts
from medvlp.losses import auxiliary_losses
from medvlp.losses.captioning import Captioning
from medvlp.losses.distillation import Distillation
from medvlp.losses.masked_language import MaskedLanguage
from medvlp.models.clip.fusion import FusionHead, has_decoder
from medvlp.models.clip.model import Clip
from medvlp.training.objectives.terms import CaptionTerm, LabelTerm, MaskedLanguageTerm, TeacherTerm, Term

TeacherCaches = tuple[FeatureCache, FeatureCache]
"""Of a teacher's features: of images, of captions."""


def terms_of(
    config: TrainConfig, clip: Clip, texts: Sequence[SourceTexts]
) -> tuple[dict[str, Term], list[PairExtra], TeacherCaches | None]:
    """The terms of `objective.auxiliary` and `objective.heads` by name, what they ask for of a pair, and what is stored of a
    teacher.

    texts: of every source.

    Raises:
        ConfigError: a loss that does not suit the model.
    """
    objective = config.objective
    assert isinstance(objective, ContrastiveConfig)
    caches: TeacherCaches | None = None
    losses, model = auxiliary_losses(objective.auxiliary), clip.model
    if has_decoder(model) and "captioning" not in losses:
        raise ConfigError(
            "a contrastive loss alone would leave CoCa's caption decoder untrained; add objective.auxiliary.captioning.weight=2"
        )
    terms: dict[str, Term] = {}
    extras: list[PairExtra] = []
    for name, loss in losses.items():
        if isinstance(loss, Captioning):
            terms[name] = captions(loss, clip)
        elif isinstance(loss, MaskedLanguage):
            terms[name], masking = masked_language(loss, clip)
            extras.append(masking)
        elif isinstance(loss, Distillation):
            teacher = teacher_of(loss, int(clip.model_cfg["embed_dim"]))
            mean, std = teacher.preprocess["mean"], teacher.preprocess["std"]
            terms[name] = TeacherTerm(loss, teacher.model, mean, std, teacher.size)
            if loss.feature_cache:
                caches = teacher_caches(teacher, Path(loss.feature_cache), texts, config)
                extras.append(StoredTeacher())
            else:
                pad_id, length = teacher.padding
                extras.append(TeacherTokens(Tokenize(teacher.tokenizer, pad_id, length), pad_id))
    labels = {name: class_labels(head) for name, head in objective.heads.items()}
    for name, head in objective.heads.items():
        terms[f"head_{name}"] = LabelTerm(
            name,
            int(clip.model_cfg["embed_dim"]),
            len(head.classes),
            labels[name].multi_label,
            head.weight,
            head.label_smoothing,
            weights_of(head),
        )
    return terms, [*extras, *([PairLabels(labels)] if labels else [])], caches


def captions(loss: Captioning, clip: Clip) -> CaptionTerm:
    """Of a CoCa. Raises ConfigError: another model."""
    if not has_decoder(clip.model):
        raise ConfigError(
            "objective.auxiliary.captioning trains the decoder of a CoCa, which this model has not; choose one of open_clip's "
            "for model.name, such as coca_ViT-B-32"
        )
    model: Any = clip.model
    return CaptionTerm(loss, int(model.pad_id))


def masked_language(loss: MaskedLanguage, clip: Clip) -> tuple[MaskedLanguageTerm, Masking]:
    """With a fusion module for the text tower. Raises ConfigError: a tower that is none of transformers' encoders."""
    text: Any = getattr(clip.model, "text", None)
    tower = getattr(text, "transformer", None)
    if has_decoder(clip.model) or not hasattr(text, "config") or not hasattr(tower, "get_input_embeddings"):
        raise ConfigError(
            "objective.auxiliary.masked_language needs a text tower that reads in both directions; open_clip's own read to the "
            "right only. Take one of transformers, such as BERT, for model.text.huggingface"
        )
    width, vocabulary = int(text.config.hidden_size), int(text.config.vocab_size)
    tokenizer: Any = clip.tokenizer
    masking = Masking.of(tokenizer.tokenizer, loss.share)
    try:
        fusion = FusionHead(width, int(clip.model_cfg["embed_dim"]), vocabulary, loss.layers, loss.heads)
    except ValueError as error:
        raise ConfigError(f"objective.auxiliary.masked_language.heads: {error}") from None
    return MaskedLanguageTerm(loss, fusion, masking.pad_id), masking


def teacher_of(loss: Distillation, width: int) -> Clip:
    """A CLIP model of a name. width: of the student's embeddings. Raises ConfigError: features of another width."""
    key = "objective.auxiliary.distillation.teacher"
    clip, _ = clip_named(parse_model_name(loss.teacher, key), key)
    teacher_width = int(clip.model_cfg["embed_dim"])
    if loss.on == "features" and teacher_width != width:
        raise ConfigError(
            f"{key}={loss.teacher}: its embeddings have width {teacher_width}, the student's {width}; set "
            f"objective.auxiliary.distillation.on=logits"
        )
    return clip
