"""`medvlp verify <shard dir>`: is the data what its manifest says?"""

from __future__ import annotations

import sys
from pathlib import Path

from medvlp import process
from medvlp.shards import Finding, ShardError, read_manifest, verify
from medvlp.shards.manifest import MANIFEST, find_splits

USAGE = """usage: medvlp verify <shard dir>

Reads every byte of a split (a folder with a manifest.json), or of a folder of splits with its ledger, and names
what is wrong, file by file. Exit code 0: all is well; 1: something is wrong; 2: usage."""


def main(argv: list[str]) -> int:
    """Entry point; argv without the program's name. Returns the exit code."""
    if argv in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if len(argv) != 1 or not argv[0] or argv[0].startswith("-"):
        print(f"medvlp verify takes one folder, not {' '.join(argv)!r}\n{USAGE}", file=sys.stderr)
        return 2
    folder = Path(argv[0])
    try:
        findings = verify(folder)
    except ShardError as error:
        print(visible(str(error)), file=sys.stderr)
        return 1
    if findings:
        _print_table(findings)
        files = len({finding.file for finding in findings})
        print(f"{folder}: {len(findings)} finding{'s' * (len(findings) > 1)} in {files} file{'s' * (files > 1)}")
        return 1
    splits = [folder] if (folder / MANIFEST).exists() else find_splits(folder)
    manifests = [read_manifest(split)[0] for split in splits]
    samples, shards = sum(m.samples for m in manifests), sum(len(m.shards) for m in manifests)
    print(f"ok: {samples} samples in {shards} shards")
    return 0


def _print_table(findings: list[Finding]) -> None:
    width = max(len(finding.file) for finding in findings)
    kind = max(len(finding.problem) for finding in findings)
    for finding in findings:
        print(visible(f"{finding.file:<{width}}  {finding.problem:<{kind}}  {finding.detail}"))


def visible(text: str) -> str:
    """Text with what could steer a terminal as escapes: file names and keys are the data's."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


if __name__ == "__main__":
    sys.exit(process.command("verify", lambda: main(sys.argv[1:])))
