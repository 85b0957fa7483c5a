"""Where a CLIP comes from: what its card says of data, licences and results, and samples of its data to check it with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medvlp.config import ClipConfig, TrainConfig
from medvlp.data.images.decode import decode_image
from medvlp.data.texts import texts_of
from medvlp.export.equality import probe_image
from medvlp.export.model_card import cell, data_table, lineage, origin, results_table
from medvlp.models.clip.model import Clip
from medvlp.shards import BadSample, ShardDataset, ShardError
from medvlp.shards.storage import split_folder

PAIRS = 16
"""Samples that an exported folder is checked with."""
TEXTS = (
    "a chest radiograph with a small pleural effusion on the left",
    "MRT des Kopfes: T2,  axial; 5 µm\nfinding (long)",
    "long " * 600,
    "a",
)
"""Besides those of samples: another language, white space, more than a context holds, and one word."""


@dataclass(frozen=True)
class Provenance:
    """Where a CLIP comes from.

    weights_sha256: names, types, shapes and bytes of its weights.
    name: of a model that was not trained here; "" of ours, which have the rest.
    config: what it was trained with. checkpoint, step: where it lies, and optimizer steps.
    selected: source → what conditions selected of it.
    """

    weights_sha256: str
    name: str = ""
    config: TrainConfig | None = None
    checkpoint: Path = Path()
    step: int = 0
    selected: Mapping[str, Any] = field(default_factory=dict)

    def sections(self) -> str:
        """Markdown: data with licences and conditions, and results; that the publisher's terms apply, of others' models."""
        if self.config is None:
            return f"Not trained with medvlp, which copied it from `{self.name}`: the terms of its publisher apply.\n"
        lines = [
            "## Data and licences",
            "",
            "The weights come from the towers above and from this data; the terms of each apply.",
            "",
            *data_table(lineage(self.config, self.selected)),
            *self._several_images(self.config),
        ]
        if results := results_table(self.checkpoint, self.step):
            lines += ["", "## Results", "", f"Of the validation tasks of its run, at step {self.step:,}:", "", *results]
        return "\n".join(lines) + "\n"

    def _several_images(self, config: TrainConfig) -> list[str]:
        """Lines on samples of several images that were one example each; none where there were no such samples."""
        names = [name for name, source in config.data.sources.items() if source.several_images == "all"]
        if not names or not isinstance(config.model, ClipConfig):
            return []
        mean = "The mean of their unit vectors, of length 1 again, is the embedding that it was trained with."
        attention = "The layer that weighs them is not in this folder: `medvlp eval` on the checkpoint has it."
        pool = config.model.image_pool
        return [
            "",
            f"Samples of {', '.join(names)} are one example each, with all their images (`model.image_pool={pool}`). "
            f"This folder embeds one image at a time. {mean if pool == 'mean' else attention}",
        ]

    def parts(self, clip: Clip) -> str:
        """A table: towers, sizes, objective and the weights' hash."""
        scale: Any = clip.model.logit_scale
        rows = {
            "Input": f"{clip.size} px; texts of {clip.model_cfg['text_cfg'].get('context_length') or 77} tokens at most",
            "Width of embeddings": str(clip.model_cfg["embed_dim"]),
            "Logit scale": f"{float(scale.detach().exp()):.4g}",
        }
        bias: Any = getattr(clip.model, "logit_bias", None)
        if bias is not None:
            rows["Logit bias"] = f"{float(bias.detach()):.4g} (of the sigmoid loss)"
        if self.config is not None and isinstance(self.config.model, ClipConfig):
            model = self.config.model
            if model.name:
                rows = {
                    "Architecture": origin(model.name),
                    "Started from": model.pretrained or "random weights",
                    **rows,
                }
            else:
                rows = {
                    "Image tower": f"timm's {model.vision.timm}",
                    "Text tower": origin(model.text.huggingface),
                    **rows,
                }
            rows["Objective"] = f"{self.config.objective.kind} ({getattr(self.config.objective, 'loss', '')})"
            rows["Optimizer steps"] = f"{self.step:,}"
        rows["Weights sha256"] = f"{self.weights_sha256} (names, types, shapes, bytes)"
        return (
            "\n".join(["| | |", "|---|---|", *(f"| {cell(name)} | {cell(text)} |" for name, text in rows.items())])
            + "\n"
        )


@dataclass
class Pairs:
    """Images and texts that a folder is checked with.

    images: RGB. texts: as they are in the data. description: where they come from, for the card.
    """

    images: list[Image.Image]
    texts: list[str]
    description: str


def check_pairs(source: Provenance, max_pixels: int = 64_000_000) -> Pairs:
    """Samples of the data that a CLIP was trained on, evenly over the first source that is on this machine, with a few texts
    more; generated pictures where none is."""
    for name, data in source.config.data.sources.items() if source.config else ():
        if data.is_remote:
            continue
        try:
            dataset = ShardDataset(split_folder(data.path))
        except ShardError:
            continue
        images, texts = [], []
        for row in np.unique(np.linspace(0, len(dataset) - 1, PAIRS).astype(int)):
            try:
                sample = dataset.read(int(row))
                picture = decode_image(next(iter(sample.images.values())), max_pixels)
            except (BadSample, StopIteration):
                continue
            images.append(picture)
            texts += list(texts_of(sample, data.text_fields).values())[:1]
        if images:
            return Pairs(images, [*texts, *TEXTS], f"{len(images)} images of {name} and {len(texts)} of its texts")
    pictures = [probe_image(number, side) for number, side in enumerate((150, 97, 224, 301))]
    return Pairs(pictures, list(TEXTS), f"{len(pictures)} generated pictures")
