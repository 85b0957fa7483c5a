"""Options of `medvlp prep`."""

import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from medvlp.combinations import parse_combinations
from medvlp.config.rules import ConfigError, one_of, share, some_of
from medvlp.shards.vocabulary import SPLITS

ENGINES = ("local", "ray", "slurm")
PANELS = ("keep", "split")
DEIDENTIFY = ("auto", "none", "text", "pixels", "all")
DUPLICATES = ("off", "report", "drop")
SPLIT_RULES = ("publisher", "grouped", "random")
HELD_OUT_SPLITS = tuple(split for split in SPLITS if split != "train")
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
    """Another name for one option of a source: medmnist's options.set, slake's options.language, pmc_vqa's options.version,
    llava_json's options.images."""

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
    grey_bits: int = 8
    """Bits of a grey value of images that are scaled because they have more than 8: 8, or 16 for data.augment.bits=16."""
    licences: list[str] = field(default_factory=list)
    """Licences that are allowed, such as [CC0,CC-BY]; empty allows all."""
    retracted: bool = False
    """Keep retracted articles."""
    modality: bool = True
    """Find a modality by concepts, DICOM or the caption where the source names none."""
    languages: list[str] = field(default_factory=list)
    """Languages that are allowed, such as [en]; empty allows all, undetected."""
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
    holdout_by: list[dict[str, Any]] = field(default_factory=list)
    """Combinations of labels and metadata that are held out of train, `[{modality: CT, organ: liver}, {site: [3, 5]}]`, each
    group that has one of them as a whole."""
    holdout_to: str = "test"
    """Split of what holdout_by holds out: test or valid. What was published in a more held-out split stays there."""
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

    def check(self) -> None:
        """Choices and limits, and that nothing is asked of stages that are switched off. Raises ConfigError."""
        for key, choices in (
            ("engine", ENGINES),
            ("panels", PANELS),
            ("deidentify", DEIDENTIFY),
            ("duplicates", DUPLICATES),
            ("split", SPLIT_RULES),
            ("contaminated", CONTAMINATED),
            ("holdout_to", HELD_OUT_SPLITS),
        ):
            one_of(key, getattr(self, key), choices)
        some_of("duplicates_in", self.duplicates_in, SPLITS)
        some_of("decontaminate_by", self.decontaminate_by, MATCHES)
        for key in ("workers", "samples_per_shard", "max_pixels", "min_side", "max_aspect"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key} is {getattr(self, key)}, expected 1 or more")
        if not self.max_aspect <= 50:
            raise ConfigError(
                f"max_aspect is {self.max_aspect}, expected at most 50: training takes no narrower strips"
            )
        share("max_blacked", self.max_blacked)
        limits = self.intensity
        if limits and not (len(limits) == 2 and all(map(math.isfinite, limits)) and limits[0] < limits[1]):
            raise ConfigError(
                f"intensity={limits} should be the values shown black and white, such as intensity=[0,4095]"
            )
        if self.grey_bits not in (8, 16):
            raise ConfigError(f"grey_bits={self.grey_bits} must be 8 or 16")
        if self.retries < 0 or not 0 <= self.duplicates_radius <= 32:
            raise ConfigError(
                f"retries={self.retries} must not be negative, duplicates_radius={self.duplicates_radius} from 0 to 32"
            )
        self._check_splits()
        self._check_stages()

    def _check_splits(self) -> None:
        shares = self.fractions
        if set(shares) - set(SPLITS) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
            raise ConfigError(f"fractions={shares} must be shares of train, valid and test that add up to 1")
        parse_combinations("holdout_by", self.holdout_by)
        if not 0 <= self.holdout < 1:
            raise ConfigError(f"holdout={self.holdout} must be a share of train's groups, from 0 to below 1")
        if self.holdout and self.split == "random":
            raise ConfigError(
                f"holdout={self.holdout} takes from a published train; with split=random, fractions.valid does"
            )

    def _check_stages(self) -> None:
        stages = {
            "licences": self.licences,
            "languages": self.languages,
            "panels": self.panels != "keep",
            "deidentify": self.deidentify not in ("auto", "none"),
            "duplicates": self.duplicates == "drop",
            "decontaminate": self.decontaminate,
            "intensity": self.intensity,
            "grey_bits": self.grey_bits != 8,
        }
        active = [name for name, value in stages.items() if value]
        if not self.checks and active:
            raise ConfigError(f"checks=false only packs files, but {', '.join(active)} needs them read; leave it out")
