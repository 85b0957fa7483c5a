"""Image processors of transformers that make the pixels which a tower was trained with."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, CLIPImageProcessorPil, PreTrainedConfig, SiglipImageProcessorPil

from medvlp.models.description_keys import PROCESSOR_KEYS
from medvlp.models.descriptions import only
from medvlp.models.weights import WeightsError

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def clip_processor(preprocess: Mapping[str, Any]) -> CLIPImageProcessorPil:
    """open_clip's evaluation transform as transformers' CLIP image processor.

    Both resize by PIL. They may differ by one pixel in where the crop begins: with an odd number of pixels to cut,
    torchvision rounds the half to the even number, transformers rounds it down.

    Raises:
        WeightsError: `longest` pads around the resized image, and an input that is not square; it has no such modes.
    """
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    if height != width:
        raise WeightsError(f"size {[height, width]}: the image processor of a tower takes squares")
    mode = preprocess["resize_mode"]
    if mode == "longest":
        raise WeightsError(
            "model.image.resize_mode=longest cannot be carried over: transformers' CLIP image processor cannot pad to a square. "
            "Train the CLIP with model.image.resize_mode=squash or shortest"
        )
    square = {"height": height, "width": width}
    return CLIPImageProcessorPil(
        size=square if mode == "squash" else {"shortest_edge": height},
        crop_size=square,  # where the image is squashed already it cuts nothing, but says the size of the input
        resample=RESAMPLING.get(preprocess["interpolation"], Image.Resampling.BICUBIC),
        image_mean=list(preprocess["mean"]),
        image_std=list(preprocess["std"]),
    )


def published_processor(
    path: str, config: PreTrainedConfig, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Any:
    """The image processor of a CLIP or SigLIP folder or hub name, or its family's where it has none.

    Args:
        config: of the tower, whose image_size the processor must make.
        mean, std: instead of the processor's own.
    Raises:
        WeightsError: it makes images of another size.
    """
    square = {"height": config.image_size, "width": config.image_size}
    try:
        processor = AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
    except OSError:  # there is no preprocessor_config.json
        if config.model_type == "siglip_vision_model":
            processor = SiglipImageProcessorPil(size=square)
        else:
            processor = CLIPImageProcessorPil(size={"shortest_edge": config.image_size}, crop_size=square)
    processor.image_mean = list(mean or processor.image_mean)
    processor.image_std = list(std or processor.image_std)
    size = tuple(processor(Image.new("RGB", (5, 4)), return_tensors="pt")["pixel_values"].shape[2:])
    if size != (config.image_size, config.image_size):
        raise WeightsError(f"{path}: its image processor makes {size} px for a tower of {config.image_size} px")
    return processor


class ImageTransform:
    """One PIL image → pixels (3, S, S), by a transformers image processor (picklable, for loader workers)."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(self, image: Image.Image) -> Tensor:
        pixels_BCHW: Tensor = self.processor([image], return_tensors="pt")["pixel_values"]
        return pixels_BCHW[0]


def described_processor(values: Any, origin: str) -> Any:
    """The image processor that a checkpoint describes. Only what is known is passed on.

    Raises:
        WeightsError: no mapping, or values that JSON cannot hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        description = only(values, PROCESSOR_KEYS, origin)
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(description), encoding="utf-8")
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
