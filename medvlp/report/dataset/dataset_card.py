"""The data set's card: README.md with the front matter that hubs read, made from ledger, manifests and attribution."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from medvlp.report.dataset.citations import Citations
from medvlp.report.dataset.contents import Contents
from medvlp.report.dataset.croissant import BIASES, description
from medvlp.report.dataset.duplicates import read_conflicts, read_copy_counts
from medvlp.report.dataset.leakage import conflict_line, leakage_lines
from medvlp.report.dataset.stages import SENTENCES, deidentification, how_split, removed_by_stages
from medvlp.report.licences import hub_licence, licence_address
from medvlp.report.markdown import code, link, plain, table
from medvlp.report.wording import in_words
from medvlp.shards.atomic import write_whole

FILE = "README.md"
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
MAX_CONFLICTS = 20
MAX_SETTING = 80
"""Characters of a setting in the table of stages; manifests have it whole."""


def write_card(contents: Contents, citations: Citations) -> Path:
    """Write README.md; returns its path."""
    path = contents.folder / FILE
    front = yaml.safe_dump(front_matter(contents), sort_keys=False, allow_unicode=True)
    lines = [f"---\n{front}---\n", *_body(contents, citations), ""]
    write_whole(path, "\n".join(lines).encode("utf-8"))
    return path


def front_matter(contents: Contents) -> dict[str, Any]:
    """What hubs sort data sets by. Several licences are a list; `other` is one that hubs have no name for."""
    licences = sorted({hub_licence(licence) for licence, _ in contents.counts("licence")})
    size = next((name for limit, name in SIZES if contents.samples < limit), "n>10M")
    files = [{"split": split.name, "path": f"{split.name}/*.tar"} for split in contents.splits if split.samples]
    return {
        "pretty_name": f"{contents.source}, prepared by medvlp",
        "license": licences if len(licences) != 1 else licences[0],
        "size_categories": [size],
        "tags": ["medical", "webdataset", "croissant", "research-use-only"],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _body(contents: Contents, citations: Citations) -> Iterator[str]:
    yield f"# {plain(contents.source)}, prepared by medvlp\n"
    yield "**Research use only. Not for clinical use.**\n"
    yield f"{plain(description(contents))}\n"
    yield "## Sources\n"
    names = list(dict.fromkeys([contents.source, *(source for source, *_ in citations.summary() if source)]))
    for name in names:
        publication = contents.publications.get(name)
        yield f"- {plain(name)}" + (f": {link(publication.citation, publication.url)}" if publication else "")
    yield "\nWho made each work, and where it stands, is in [ATTRIBUTION.md](ATTRIBUTION.md) and attribution.csv."
    yield from _licences(contents)
    yield from _splits(contents)
    yield "\n## Modalities\n"
    yield from table(["Modality", "Samples"], [(plain(m), n) for m, n in contents.counts("modality")], numbers=(1,))
    yield from _filters(contents)
    yield from _deidentification(contents, citations.removed_counts)
    yield from _copies(contents)
    yield from _limits()
    yield from _loading(contents)


def _licences(contents: Contents) -> Iterator[str]:
    yield "\n## Licences\n"
    counts = contents.counts("licence")
    rows = [(link(licence, licence_address(licence)), count) for licence, count in counts]
    yield from table(["Licence", "Samples"], rows, numbers=(1,))
    if len(counts) > 1:
        yield "\nLicences differ by sample (column `licence`): the whole may be used only as all of them allow."
    if any(licence in ("unknown", "not stated") for licence, _ in counts):
        yield "\nWhere a licence is unknown, nobody has granted one: ask the publisher before you pass samples on."


def _splits(contents: Contents) -> Iterator[str]:
    yield "\n## Splits\n"
    yield f"{plain(how_split(contents))} {plain(contents.group_line)}\n"
    for sentence in leakage_lines(contents.ledger):
        yield f"**{plain(sentence[:1].upper() + sentence[1:])}.**\n"
    rows = [
        (plain(split.name), _or_dash(split.samples_in), split.samples, split.groups, f"`{split.manifest_hash[:16]}`")
        for split in contents.splits
    ]
    yield from table(["Split", "Came in", "Samples", "Groups", "sha256 of its manifest"], rows, numbers=(1, 2, 3))
    if contents.moved:
        moves = ", ".join(f"{plain(move)}: {count}" for move, count in contents.moved.items())
        yield f"\nMoved to another split than the publisher's: {moves}."


def _or_dash(number: int | None) -> str:
    return "–" if number is None else str(number)


def _filters(contents: Contents) -> Iterator[str]:
    yield "\n## How it was made\n"
    yield f"Came in: {contents.samples_in}; went out: {contents.samples}; dropped: {contents.samples_in - contents.samples}."
    rows, panels = contents.ledger.get("rows"), contents.ledger.get("panels")
    if panels:
        yield f"Of those that came in, {rows} are the source's, and {panels} are panels that figures were cut into."
    yield ""
    stages = [
        (code(entry.get("stage", "")), plain(SENTENCES.get(entry.get("stage", ""), "")), _settings(entry))
        for entry in contents.stages
    ]
    yield from table(["Stage", "What it does", "Settings"], stages)
    if contents.drops:
        yield "\nDropped (names and details in dropped.jsonl):\n"
        drops = [(code(stage), plain(in_words(reason)), count) for stage, reason, count in contents.drops]
        yield from table(["Stage", "Reason", "Samples"], drops, numbers=(2,))
    if contents.stage_counts:
        yield "\nCounted on the way:\n"
        counts = [(code(stage), plain(counted), count) for stage, counted, count in contents.stage_counts]
        yield from table(["Stage", "What", "Count"], counts, numbers=(2,))
    versions = ", ".join(f"{plain(name)} {plain(version)}" for name, version in contents.tools.items())
    yield f"\nMade with {versions or 'tools that the manifests do not name'}."


def _settings(entry: dict[str, Any]) -> str:
    settings = []
    for name, value in entry.items():
        if name == "stage" or value in ("", None, [], {}):
            continue
        text = f"{len(value)} files, named in the manifests" if name == "input" else str(value)
        settings.append(f"{name}: {text if len(text) <= MAX_SETTING else text[:MAX_SETTING] + '…'}")
    return plain("; ".join(settings))


def _deidentification(contents: Contents, by_source: Mapping[str, int]) -> Iterator[str]:
    yield "\n## De-identification\n"
    sentences = deidentification(contents)
    rows = [(code("read"), plain(kind), n) for kind, n in sorted(by_source.items())]
    rows += [(code(stage), plain(kind), n) for stage, kind, n in removed_by_stages(contents)]
    if not sentences and not rows:
        yield "No stage was applied: what the publisher removed is removed, and nothing more."
        return
    yield " ".join(sentences)
    if rows:
        yield "\nFound and removed, by kind (what it was is written nowhere):\n"
        yield from table(["Stage", "Kind", "Count"], rows, numbers=(2,))
    yield "\nNo automatic method finds everything. What was missed cannot be counted here: measure the leak rate on a"
    yield "sample that a person has read before anything derived from patients' records leaves your institution."


def _copies(contents: Contents) -> Iterator[str]:
    yield "\n## Duplicates and contamination\n"
    against = (contents.stage("decontaminate") or {}).get("against", {})
    if contents.stage("duplicates") is None:
        yield "Copies within the data were not looked for."
    if not against:
        yield "Nothing was compared with evaluation sets: samples of them may be in here."
    else:
        yield "Compared with these evaluation sets:\n"
        yield from table(
            ["Evaluation set", "sha256 of its manifest"], [(plain(n), f"`{mark[:16]}`") for n, mark in against.items()]
        )
    yield from _conflicts(contents)
    copies = read_copy_counts(contents.folder)
    if copies:
        yield ""
        rows = [(plain(c.kind), plain(c.split), plain(c.origin), plain(c.action), c.count) for c in copies]
        yield from table(["Kind", "In", "Copy of one in", "What was done", "Pairs"], rows, numbers=(4,))
    elif against or contents.stage("duplicates") is not None:
        yield "\nNo copies were found."


def _conflicts(contents: Contents) -> Iterator[str]:
    pairs = read_conflicts(contents.folder)
    if not pairs:
        return
    yield f"\n**{plain(conflict_line(len(pairs)))}** lists all of them"
    yield f"{', the first are here:' if len(pairs) > MAX_CONFLICTS else ':'}\n"
    rows = [
        (
            plain(f"{pair.key} ({pair.split})"),
            plain(f"{pair.original} ({pair.original_split})"),
            pair.match,
            plain(pair.labels),
        )
        for pair in pairs[:MAX_CONFLICTS]
    ]
    yield from table(["Sample", "Sample of the same picture", "Same", "Labels"], rows)


def _limits() -> Iterator[str]:
    yield "\n## Known limits\n"
    yield from (f"- {plain(bias)}" for bias in BIASES)
    yield "- Modality, language and panels come from rules: a share of them is wrong."
    yield "- Captions are not reports; nobody has checked them against the images."


def _loading(contents: Contents) -> Iterator[str]:
    split = next((split.name for split in contents.splits if split.samples), "train")
    yield f"""
## How to load it

Each split is a folder of webdataset tars with an index, a table (samples.parquet) and a manifest with checksums.

```python
from medvlp.shards import ShardDataset

sample = ShardDataset({split!r}).read(0)
sample.images, sample.texts["caption"], sample.metadata["licence"]
```

`medvlp verify .` compares every file with its checksum. Any reader of webdataset reads {split}/*.tar, and any reader
of Croissant croissant.json."""
