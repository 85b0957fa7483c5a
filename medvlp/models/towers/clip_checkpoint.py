"""The image tower of a CLIP that was trained here."""

from typing import Any

from open_clip.timm_model import TimmModel

from medvlp.models.clip.model import Clip
from medvlp.models.convert import clip_vision_model
from medvlp.models.towers.processors import clip_processor
from medvlp.models.towers.timm_towers import timm_tower
from medvlp.models.towers.tower import Tower, transformer_tower


def tower_from_clip(clip: Clip, feature_layer: int = -2) -> Tower:
    """The image tower of one of our CLIPs, with copies of its weights and the same preprocessing.

    A vision transformer becomes a CLIPVisionModel, or what `timm_vision_model` makes of it; a timm trunk that gives a
    feature map a TimmWrapperModel.

    Raises:
        WeightsError: a tower or a preprocessing that stock transformers cannot express.
    """
    visual: Any = clip.model.visual
    processor = clip_processor(clip.preprocess)
    if isinstance(visual, TimmModel):
        name = clip.model_cfg["vision_cfg"]["timm_model_name"]
        return timm_tower(name, visual.trunk, clip.size, processor, feature_layer, True, "clip")
    model = clip_vision_model(clip)
    return transformer_tower(model.config, model, processor, feature_layer, "clip")
