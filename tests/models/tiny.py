"""A CLIP model small enough for every test."""

import json
from pathlib import Path

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def tiny_architecture(folder: Path, custom_text: bool = False) -> Path:
    """The architecture as a file in open_clip's format; with `custom_text` it builds a CustomTextCLIP."""
    path = folder / ("tiny-custom.json" if custom_text else "tiny-clip.json")
    path.write_text(json.dumps({**TINY, "custom_text": custom_text}))
    return path
