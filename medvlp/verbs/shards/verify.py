"""`medvlp verify <shard dir>`: is the data what its manifest says?"""

from __future__ import annotations

from collections.abc import Sequence

from medvlp.cli import run_verb
from medvlp.errors import UsageError
from medvlp.shards import Finding, read_manifest, verify
from medvlp.shards.manifest import MANIFEST, find_splits
from medvlp.shards.storage import split_folder
from medvlp.terminal import printable

USAGE = """usage: medvlp verify <shard dir or address>

Reads every byte of a split (a folder with a manifest.json), or of a folder of splits with its ledger, and names
what is wrong, file by file. Exit code 0: all is well; 1: something is wrong; 2: usage."""


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp verify`; returns the exit code."""
    return run_verb("verify", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return USAGE


def parse(args: list[str]) -> str:
    """The folder or address. Raises UsageError."""
    if len(args) != 1 or not args[0] or args[0].startswith("-"):
        raise UsageError(f"medvlp verify takes one folder, not {' '.join(args)!r}\n{USAGE}")
    return args[0]


def work(path: str) -> int:
    """Verify a folder and print the findings; 1 if there are any."""
    folder = split_folder(path)
    findings = verify(folder)
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
        print(printable(f"{finding.file:<{width}}  {finding.problem:<{kind}}  {finding.detail}"))
