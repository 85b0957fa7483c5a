"""The sources by name. A source is one class in one module here, and one line in this table."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from data_prep.errors import PrepError
from data_prep.source import Source

SOURCES: dict[str, str] = {
    "rocov2": "data_prep.sources.figures.rocov2:Rocov2",
    "medmnist": "data_prep.sources.labels.medmnist:MedMnist",
    "mni152": "data_prep.sources.labels.mni152:Mni152",
    "vqa_rad": "data_prep.sources.questions.vqa_rad:VqaRad",
    "slake": "data_prep.sources.questions.slake:Slake",
    "llava_json": "data_prep.sources.questions.llava_json:LlavaJson",
    "pathvqa": "data_prep.sources.questions.pathvqa:PathVqa",
    "kvasir_vqa": "data_prep.sources.questions.kvasir_vqa:KvasirVqa",
    "pmc_vqa": "data_prep.sources.questions.pmc_vqa:PmcVqa",
    "pmc": "data_prep.sources.figures.pmc:Pmc",
    "pmc_oa": "data_prep.sources.figures.pmc_oa:PmcOa",
    "roco": "data_prep.sources.figures.roco:Roco",
    "quilt": "data_prep.sources.figures.quilt:Quilt",
    "biomedica": "data_prep.sources.figures.biomedica:Biomedica",
    "unimed": "data_prep.sources.figures.unimed:UniMed",
    "image_folder": "data_prep.sources.own_files.image_folder:ImageFolder",
    "csv": "data_prep.sources.own_files.csv_table:Csv",
    "dicom": "data_prep.sources.own_files.dicom:Dicom",
    "nifti": "data_prep.sources.own_files.nifti:Nifti",
    "records": "data_prep.sources.questions.records.source:Records",
    "retrieval_sets": "data_prep.sources.questions.retrieval_sets:RetrievalSets",
    "omnimedvqa": "data_prep.sources.questions.omnimedvqa:OmniMedVqa",
    "probe_questions": "data_prep.sources.prepared.probe_questions:ProbeQuestions",
    "report_errors": "data_prep.sources.prepared.report_errors.source:ReportErrors",
}
"""Name → module:class. A module is imported when its source is chosen, or when all are listed."""


def source_class(name: str) -> type[Source]:
    """The class of a source. Raises PrepError if there is none of the name."""
    if name not in SOURCES:
        close = get_close_matches(name, SOURCES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise PrepError(f"unknown source {name!r}{hint} available: {', '.join(sorted(SOURCES))}")
    module, _, cls = SOURCES[name].partition(":")
    source: type[Source] = getattr(importlib.import_module(module), cls)
    return source


def option_names(name: str) -> list[str]:
    """The options of a source."""
    return [field.name for field in fields(source_class(name).option_type)]


def descriptions() -> dict[str, str]:
    """Name → one line, for a listing."""
    return {name: source_class(name).description for name in SOURCES}


def source_help(name: str) -> str:
    """What a source reads and its options, from its own documentation."""
    from medvlp.config import describe

    source = source_class(name)
    module = inspect.getmodule(source)
    texts = [name, inspect.getdoc(module) or "", inspect.getdoc(source) or ""]
    lines = ["options:"]
    for key, default, sentence in describe(source.option_type, "options."):
        default = "[]" if default == "()" else default
        lines.append(f"  {key} = {default}" + (f"\n      {' '.join(sentence.split())}" if sentence else ""))
    texts.append("\n".join(lines) if len(lines) > 1 else "It has no options.")
    return "\n\n".join(text for text in texts if text)


def open_source(
    name: str, input: str, samples_per_shard: int = 1000, flag: str = "", options: Mapping[str, Any] | None = None
) -> Source:
    """The source by name. Raises PrepError if there is none, its input is not what it should be, or an option unknown.

    flag: another way to give the source's `flag_option`.
    """
    source = source_class(name)
    if samples_per_shard < 1:
        raise PrepError(f"samples_per_shard is {samples_per_shard}, expected 1 or more")
    values = dict(options or {})
    names = option_names(name)
    for option in values:
        if option not in names:
            takes = f"its options are {', '.join(names)}" if names else "it has no options"
            raise PrepError(f"source {name} does not know options.{option}; {takes}")
    if flag:
        option = source.flag_option
        if not option:
            raise PrepError(f"source {name} has no flags, but flag is {flag!r}; remove it")
        if values.get(option) in (None, ""):
            values[option] = flag
        if str(values[option]) != flag:
            raise PrepError(f"flag={flag} and options.{option}={values[option]} differ; give options.{option} alone")
    return source(input, samples_per_shard, **values)
