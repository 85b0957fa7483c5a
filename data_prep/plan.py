"""The plan that a configuration means: its stages as plain data, which the manifest records and whose hash names units."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from data_prep.dedup.similarity import SIDE
from data_prep.errors import PrepError
from data_prep.source import Source, Unit, facts_of
from data_prep.stages import TOOLS
from data_prep.stages.language import LANGUAGES
from data_prep.vocabulary.licences import check_allow
from medvlp.combinations import parse_combinations
from medvlp.config import PrepConfig
from medvlp.jsonl import encode_json
from medvlp.shards import read_manifest
from medvlp.shards.vocabulary import SPLITS

Entry = dict[str, Any]
"""{"stage": name, **parameters}."""

BASE_TOOLS = ("medvlp", "numpy", "pillow", "pyarrow")
"""Distributions whose version can change bytes whatever the stages: pixels, the encoding of PNG and parquet."""


@dataclass(frozen=True)
class PreparationPlan:
    """The plan of a preparation: all that decides a data set's bytes."""

    read: Entry
    """The source with its choices, without what identifies its input."""
    input: dict[str, str]
    """What identifies the input: file (or group of files) → digest."""
    stages: list[Entry]
    """What each sample goes through."""
    dataset_stages: list[Entry]
    """What is decided over all samples together."""
    tools: dict[str, str]
    facts: dict[str, Any] = field(default_factory=dict)
    """Of the source, for the ledger; they decide no bytes of a sample."""

    @property
    def is_deidentified(self) -> bool:
        """Whether samples are de-identified."""
        return any(entry["stage"].startswith("deidentify") for entry in self.stages)

    def described(self) -> list[Entry]:
        """For manifests: everything, in order."""
        return [{**self.read, "input": self.input}, *self.stages, *self.dataset_stages]

    def digest(self, unit: Unit) -> str:
        """Identifies a unit's part. A unit with a fingerprint of its own share of the input ignores the rest of it."""
        return digest_of(
            [self.read, unit.fingerprint or self.input, unit.split, unit.selection, self.stages, self.tools]
        )


def digest_of(content: Any) -> str:
    """128 bits that identify JSON values, as the name of a part."""
    return hashlib.sha256(encode_json(content, sort=True)).hexdigest()[:32]


def make_plan(config: PrepConfig, reader: Source) -> PreparationPlan:
    """The plan that a configuration means for an opened source. Raises PrepError, ShardError (evaluation folders)."""
    stages = unit_stages(config, reader)
    names = [*BASE_TOOLS, *reader.tools, *(tool for entry in stages for tool in TOOLS.get(entry["stage"], ()))]
    digests = reader.fingerprint()
    if deidentified_parts(config.deidentify, reader):  # files are named after patients, too
        digests = {"all files": digest_of(digests)}
    return PreparationPlan(
        read={"stage": "read", "source": config.source, **reader.options()},
        input=digests,
        stages=stages,
        dataset_stages=dataset_stages(config),
        tools={name: _version(name) for name in sorted(set(names))},
        facts=facts_of(reader),
    )


def unit_stages(config: PrepConfig, reader: Source) -> list[Entry]:
    """The stages of each sample, in order."""
    deidentified = deidentified_parts(config.deidentify, reader)
    if not config.checks:
        if deidentified:
            raise PrepError(f"checks=false only packs files, but what {reader.name} reads has to be de-identified")
        return []
    check_allow(config.licences)
    stages: list[Entry] = [{"stage": "clean_text"}, {"stage": "need_text"}]
    if config.licences or not config.retracted:
        stages.append({"stage": "licence_gate", "allow": config.licences, "allow_retracted": config.retracted})
    images: dict[str, Any] = {
        "max_pixels": config.max_pixels,
        "min_side": config.min_side,
        "max_aspect": config.max_aspect,
    }
    if config.intensity:
        images["intensity"] = [float(value) for value in config.intensity]
    if config.grey_bits != 8:
        images["grey_bits"] = config.grey_bits
    stages.append({"stage": "check_images", **images})
    if config.modality or deidentified:
        stages.append({"stage": "modality", **({"closed": True} if deidentified else {})})
    if config.panels == "split":
        stages.append({"stage": "split_panels"})
    if config.languages:
        if unknown := sorted(set(config.languages) - set(LANGUAGES)):
            raise PrepError(f"languages: {', '.join(unknown)} cannot be told; known are {', '.join(LANGUAGES)}")
        stages.append({"stage": "language", "keep": config.languages})
    if deidentified and not reader.private:
        from data_prep.deidentify.pseudonym import key_id, load_key

        stages.append({"stage": "pseudonymise", "key_id": key_id(load_key(None))})
    if "text" in deidentified:
        stages.append({"stage": "deidentify_text"})
    if "pixels" in deidentified:
        stages += [{"stage": "strip_metadata"}, {"stage": "deidentify_pixels", "most": config.max_blacked}]
    stages.append({"stage": "measure"})
    if config.duplicates != "off" or config.decontaminate:
        stages.append({"stage": "describe", "side": SIDE})
    return stages


def deidentified_parts(deidentify: str, reader: Source) -> tuple[str, ...]:
    """What of a sample is de-identified: of text and pixels, none, one or both."""
    if reader.private and deidentify not in ("auto", "all"):
        raise PrepError(
            f"deidentify={deidentify}: {reader.name} comes from patients' records, of which nothing identifying may "
            "leave; leave deidentify out"
        )
    if deidentify == "auto":
        deidentify = "all" if reader.private else "none"
    return {"none": (), "all": ("text", "pixels")}.get(deidentify, (deidentify,))


def dataset_stages(config: PrepConfig) -> list[Entry]:
    """What is decided over all samples together, in order."""
    split: Entry = {"stage": "split", "by": config.split}
    if config.split == "random":
        shares = {name: config.fractions[name] for name in SPLITS if name in config.fractions}
        split |= {"fractions": shares, "seed": config.split_seed}
    if config.holdout_by:
        combinations = [combination.to_json() for combination in parse_combinations("holdout_by", config.holdout_by)]
        split |= {"holdout_by": combinations, "holdout_to": config.holdout_to}
    if config.holdout:
        split |= {"holdout": config.holdout, "seed": config.split_seed}
    entries = [split]
    if config.decontaminate:
        # By content and by a name to read; where the folder stands is not of the data.
        against = {"/".join(Path(f).absolute().parts[-2:]): read_manifest(Path(f))[1] for f in config.decontaminate}
        if len(against) < len(config.decontaminate):
            raise PrepError(f"decontaminate={config.decontaminate}: two folders are called the same; rename one")
        radius = {"radius": config.duplicates_radius}
        action = {"action": config.contaminated, "by": config.decontaminate_by}
        entries.append({"stage": "decontaminate", **action, "against": against, **radius})
    if config.checks and config.duplicates != "off":
        action = {"action": config.duplicates, "in": config.duplicates_in}
        entries.append({"stage": "duplicates", **action, "radius": config.duplicates_radius})
    return [*entries, {"stage": "write", "samples_per_shard": config.samples_per_shard}]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
