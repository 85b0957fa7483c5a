"""A Croissant description (MLCommons, version 1.0) of a prepared data set: its files with checksums, and its tables.

Tars are one set of files a split: their checksums are in the split's manifest, whose own is given here. Their members
are no record sets, since readers would unpack all tars first; `samples.parquet` has a record for each sample.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlp.report.dataset.contents import Contents
from medvlp.report.dataset.stages import SENTENCES, deidentification, how_split, removed_by_stages
from medvlp.report.licences import licence_address
from medvlp.shards import ShardDataset
from medvlp.shards.atomic import write_whole
from medvlp.shards.manifest import LEDGER, MANIFEST, SAMPLES

Node = dict[str, Any]

FILE = "croissant.json"

CONTEXT: Node = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
            *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
            "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}
"""The names that Croissant's specification gives."""

COLUMNS = {
    "key": "Unique in the data set; the members of a sample in its tar are named <key>.<extension>.",
    "shard": "The tar that holds the sample.",
    "split": "The split that the sample belongs to.",
    "group": "What samples are kept together by, such as an article or a patient.",
    "licence": "The licence that the source or the article states.",
    "width": "Pixels of the first image; 0 without one, and for volumes.",
    "height": "Pixels of the first image; 0 without one, and for volumes.",
    "caption_length": "Characters.",
    "sha256": "Of the first image's encoded bytes.",
    "perceptual_hash": "64 bits of the first image, in hexadecimal.",
    "modality": "Such as CT; unknown is a value.",
}
"""Column of samples.parquet → what it holds."""
_NUMBERS = ("width", "height", "caption_length")

BIASES = (
    "Figures of articles and teaching files show what authors found worth showing: rare and severe findings are "
    "over-represented, normal ones under-represented, and sites, devices and populations are not a random sample.",
    "Captions say what their authors needed to say, and little of what is not remarkable.",
)
USES = (
    "Research on vision-language models of medical images. Not for clinical use: no model trained on this may be used "
    "to diagnose or treat without an assessment of its own.",
)


def write_croissant(contents: Contents, removals: Mapping[str, int]) -> Path:
    """Write croissant.json; returns its path. removals: what the source's reader took out of files, by kind."""
    path = contents.folder / FILE
    text = json.dumps(croissant(contents, removals), ensure_ascii=False, indent=1)
    write_whole(path, f"{text}\n".encode("utf-8", "backslashreplace"))
    return path


def croissant(contents: Contents, removals: Mapping[str, int]) -> Node:
    """The description as JSON-LD. Of the data alone, so it has no date."""
    hashes = "".join(dataset.manifest_hash for dataset in contents.datasets)
    licences = [licence_address(licence) or licence for licence, _ in contents.counts("licence")]
    publication = contents.publications.get(contents.source)
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": contents.source,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "description": description(contents),
        "version": f"1.0.0+{hashlib.sha256(hashes.encode()).hexdigest()[:12]}",
        "license": licences,
        **({"citeAs": f"{publication.citation} {publication.url}", "url": publication.url} if publication else {}),
        "keywords": ["medical imaging", "image-text pairs", contents.source],
        "isLiveDataset": False,
        **responsible_use(contents, removals),
        "distribution": [node for dataset in contents.datasets for node in _files(dataset)],
        "recordSet": [_splits(contents), *(_samples(dataset) for dataset in contents.datasets)],
    }


def description(contents: Contents) -> str:
    """A sentence or two for catalogues."""
    splits = ", ".join(f"{split.samples} in {split.name}" for split in contents.splits)
    return (
        f"{contents.samples} medical image-text samples prepared by medvlp from {contents.source}: {splits}. "
        f"Of {contents.samples_in}, {contents.samples_in - contents.samples} dropped out on the way; {LEDGER} says why. "
        "Research use only; not for clinical use."
    )


def responsible_use(contents: Contents, removals: Mapping[str, int]) -> Node:
    """The properties of Croissant's vocabulary for responsible AI."""
    steps = [SENTENCES[stage["stage"]] for stage in contents.stages if stage.get("stage") in SENTENCES]
    hidden = deidentification(contents)
    counts = [f"{kind}: {count}" for kind, count in sorted(removals.items())]
    counts += [f"{kind}: {count}" for _, kind, count in removed_by_stages(contents)]
    return {
        "rai:dataCollection": f"Read by medvlp from {contents.source} as its publisher releases it.",
        "rai:dataCollectionType": ["Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": [*steps, how_split(contents)],
        "rai:dataBiases": list(BIASES),
        "rai:dataUseCases": list(USES),
        "rai:dataLimitations": [
            "Automatic checks miss some of what they look for; the counts say what was found, not what is there."
        ],
        "rai:personalSensitiveInformation": [
            "Images and texts concern the health of persons.",
            *(hidden or ["No stage of de-identification was applied: the publisher's own is relied on."]),
            *([f"Removed: {', '.join(counts)}. No automatic method finds everything."] if counts else []),
        ],
    }


def _files(dataset: ShardDataset) -> list[Node]:
    split = dataset.folder.name
    table = dataset.manifest.files[SAMPLES]
    tables = [
        _file(
            f"{split}/{MANIFEST}", "application/json", dataset.manifest_hash, (dataset.folder / MANIFEST).stat().st_size
        ),
        _file(f"{split}/{SAMPLES}", "application/x-parquet", table.sha256, table.size),
    ]
    tars = {
        "@type": "cr:FileSet",
        "@id": f"{split}/tars",
        "name": f"{split}/tars",
        "description": f"{len(dataset.manifest.shards)} webdataset tars of {split}; checksums in {split}/{MANIFEST}.",
        "encodingFormat": "application/x-tar",
        "includes": f"{split}/*.tar",
    }
    return [*tables, *([tars] if dataset.manifest.shards else [])]


def _file(name: str, kind: str, sha256: str, size: int) -> Node:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": kind,
        "sha256": sha256,
    }


def _splits(contents: Contents) -> Node:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": how_split(contents),
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "splits/name", "dataType": "sc:Text"},
        ],
        "data": [{"splits/name": split.name} for split in contents.splits],
    }


def _samples(dataset: ShardDataset) -> Node:
    split = dataset.folder.name
    name = f"{split}_samples"
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The {len(dataset)} samples of {split}, in the order of the tars.",
        "key": {"@id": f"{name}/key"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": f"{name}/{column}",
                "description": meaning,
                "dataType": "sc:Integer" if column in _NUMBERS else "sc:Text",
                "source": {"fileObject": {"@id": f"{split}/{SAMPLES}"}, "extract": {"column": column}},
            }
            for column, meaning in COLUMNS.items()
        ],
    }
