"""Towers that transformers itself loads: CLIP's and SigLIP's vision models."""

from transformers import AutoConfig, CLIPVisionModel, PreTrainedModel, SiglipVisionModel

from medvlp.models.towers.processors import published_processor
from medvlp.models.towers.tower import Tower, TowerOptions, transformer_tower
from medvlp.models.weights import DAMAGE, WeightsError, load_pretrained, reason, resolve

CLASSES: dict[str, type[PreTrainedModel]] = {
    "clip_vision_model": CLIPVisionModel,
    "siglip_vision_model": SiglipVisionModel,
}


def load_huggingface(reference: str, options: TowerOptions) -> Tower:
    """A CLIP or SigLIP by folder, hub name or `package:` reference (whole, or its vision model).

    Raises:
        WeightsError: nothing there, weights that do not fit, or another size than its own.
    """
    if options.weights_file:
        raise WeightsError(
            f"{reference}: model.vision.weights={options.weights_file!r} is for timm:<architecture> towers only"
        )
    path = resolve(reference)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
        config = getattr(config, "vision_config", config)
        config._attn_implementation = "sdpa"  # the folder may name another, which would be fetched from a hub and run
        if config.model_type not in CLASSES:
            raise WeightsError(
                f"{reference} is a {config.model_type}; expected a CLIP, a SigLIP or timm:<architecture>"
            )
        if config.model_type == "siglip_vision_model":
            config.vision_use_head = False  # it pools, which no assistant asks for
        model = None
        if options.weights:
            model_class = CLASSES[config.model_type]
            model = load_pretrained(model_class, path, reference, "tower", config=config, use_safetensors=True).eval()
        processor = published_processor(path, config, options.mean, options.std)
    except DAMAGE as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{reference} cannot be loaded ({reason(error)}). Give a local folder with config.json and "
            "safetensors weights, or a hub name that this machine can reach"
        ) from None
    if options.size not in (None, config.image_size):
        raise WeightsError(
            f"{reference} takes images of {config.image_size} px, not {options.size}; leave the size out"
        )
    return transformer_tower(config, model, processor, options.feature_layer, reference)
