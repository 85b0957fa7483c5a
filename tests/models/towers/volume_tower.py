"""A tower of volumes, as docs/how-to/add-a-tower.md describes one: (N, 1, D, H, W) → (N, tokens, width)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    BatchFeature,
    CLIPImageProcessorPil,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from medvlp.models.towers.tower import Tower, TowerOptions, identity_of


class VolumeConfig(PreTrainedConfig):
    model_type = "toy_volume"
    hidden_size: int = 16
    side: int = 8
    patch: int = 4

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (1, self.side, self.side, self.side)


class VolumeModel(PreTrainedModel):
    config_class = VolumeConfig
    main_input_name = "pixel_values"

    def __init__(self, config: VolumeConfig) -> None:
        super().__init__(config)
        self.patches = nn.Conv3d(1, config.hidden_size, config.patch, stride=config.patch)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutput:
        features = self.patches(pixel_values).flatten(2).transpose(1, 2)
        return BaseModelOutput(last_hidden_state=features, hidden_states=(features,))


AutoConfig.register("toy_volume", VolumeConfig)
AutoModel.register(VolumeConfig, VolumeModel)


class VolumeProcessor(CLIPImageProcessorPil):
    """Volumes (D, H, W) → {"pixel_values": (n, 1, D, H, W)}."""

    def __call__(self, images: Any, return_tensors: str = "pt", **_: object) -> BatchFeature:
        return BatchFeature({"pixel_values": torch.from_numpy(np.stack(images))[:, None].float()})


AutoImageProcessor.register(VolumeConfig, image_processor_classes={"pil": VolumeProcessor})


def load_volume(reference: str, options: TowerOptions) -> Tower:
    torch.manual_seed(0)
    config = VolumeConfig(side=options.size or 8)
    model = VolumeModel(config).eval() if options.weights else None
    return Tower(
        config=config,
        model=model,
        processor=VolumeProcessor(),
        kind="llava",
        tokens=(config.side // config.patch) ** 3,
        feature_layer=-1,
        select_strategy="full",
        patch_size=config.patch,
        extra_tokens=0,
        identity=identity_of(reference, model),
    )
