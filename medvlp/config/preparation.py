"""What can be configured of `medvlp prep`."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

ENGINES = ("local", "ray", "slurm")
PANELS = ("keep", "split")
DEIDENTIFY = ("auto", "none", "text", "pixels", "all")
DUPLICATES = ("off", "report", "drop")
SPLITS = ("publisher", "grouped", "random")
SPLIT_NAMES = ("train", "valid", "test")
CONTAMINATED = ("drop", "report")
MATCHES = ("id", "bytes", "picture", "text")
"""By what a sample is known to be one of an evaluation set."""


@dataclass(kw_only=True)
class PrepConfig:
    """medvlp prep"""

    verb: str = "prep"
    """The command that a recipe is for."""
    source: str = MISSING
    """Which reader: `medvlp list sources` shows them."""
    input: str = ""
    """Folder (or file) as the publisher releases it."""
    output: str = MISSING
    """Folder for the shards, one sub-folder a split."""
    options: dict[str, Any] = field(default_factory=dict)
    """The source's own choices, name by name: options.templates=radiology."""
    flag: str = ""
    """Which variant, for sources that come in several: medmnist's set, slake's language, pmc_vqa's version."""

    engine: str = "local"
    """Where units run: local (processes here), ray, or slurm (writes an array job to submit)."""
    workers: int = 2
    """Processes, Ray's CPUs, or tasks of the array. The bytes written do not depend on it."""
    retries: int = 2
    """How often a unit that failed for no fault of the input is tried again."""
    ray_address: str = ""
    """A Ray cluster (host:port, or auto); empty starts one on this machine."""
    cache: str = ""
    """Folder that keeps finished units, so that a later preparation of a grown input does only what is new."""

    samples_per_shard: int = 1000
    """Source rows that make one shard."""
    checks: bool = True
    """Clean every text and decode every image; without, files are only packed, and no other stage can run."""
    max_pixels: int = 64_000_000
    """Larger images are dropped."""
    min_side: int = 16
    """Images with a shorter side, in pixels, are dropped."""
    max_aspect: float = 20.0
    """Images whose longer side is more than this many times the shorter are dropped; at most 50, which training takes."""
    intensity: list[float] = field(default_factory=list)
    """Values shown black and white of grey images of more than 8 bits, as [0,4095]; empty: by the file's header, else by
    the values in use, as docs/data.md says."""
    licences: list[str] = field(default_factory=list)
    """Licences that are let through, such as [CC0,CC-BY]; empty lets all through."""
    retracted: bool = False
    """Keep retracted articles."""
    modality: bool = True
    """Find a modality by concepts, DICOM or the caption where the source names none."""
    languages: list[str] = field(default_factory=list)
    """Languages that are let through, such as [en]; empty lets all through, undetected."""
    panels: str = "keep"
    """Compound figures: keep, or split where panels and the labels in the caption agree."""
    deidentify: str = "auto"
    """Take identifying things out of text, pixels, or all, names included; auto: all where the source is private."""

    max_blacked: float = 0.2
    """Share of an image that may be blacked out as text; images that would lose more are dropped."""

    split: str = "publisher"
    """publisher: as published. grouped: and each group whole, in its most held-out split. random: groups at random."""
    fractions: dict[str, float] = field(default_factory=lambda: {"train": 0.9, "valid": 0.05, "test": 0.05})
    """Shares of the groups with split=random."""
    split_seed: int = 0
    """Which random split, and which groups are held out."""
    holdout: float = 0.0
    """Share of train's groups that become valid: by a hash of the group, so that none is in both and later data move none."""
    duplicates: str = "report"
    """Copies of images within the data: off (not looked for), report, or drop all but one."""
    duplicates_in: list[str] = field(default_factory=lambda: ["train"])
    """Splits that duplicates=drop drops from; a copy elsewhere stays, and is reported."""
    duplicates_radius: int = 10
    """Bits of 64 in which perceptual hashes of candidates may differ."""
    decontaminate: list[str] = field(default_factory=list)
    """Prepared evaluation splits whose images, articles and texts must not be trained on."""
    decontaminate_by: list[str] = field(default_factory=lambda: list(MATCHES))
    """What makes a sample one of an evaluation split: id (article, group), bytes, picture, text."""
    contaminated: str = "drop"
    """What becomes of samples that an evaluation split has too: drop, or report."""
