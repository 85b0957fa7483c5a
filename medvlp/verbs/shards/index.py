"""`medvlp index`: webdataset tars that others wrote become trainable where they are."""

from collections.abc import Sequence
from pathlib import Path

from medvlp.cli import run_verb
from medvlp.config import IndexConfig, compose, verb_help
from medvlp.errors import UsageError, UserError
from medvlp.shards.foreign.dataset import DROPS, IndexSummary, index_tars
from medvlp.shards.foreign.form import UNKNOWN, ForeignForm, check_form
from medvlp.shards.foreign.origins import Origin, find_origins, make_folder, refuse_prepared
from medvlp.shards.storage.location import Location, write_location
from medvlp.shards.storage.settings import RemoteSettings
from medvlp.shards.storage.urls import is_url
from medvlp.terminal import printable

MAPPINGS = ("texts", "labels")


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp index`; returns the exit code."""
    return run_verb("index", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    keys = verb_help("index").split("\n", 2)[2]
    return (
        "usage: medvlp index <folder> [<folder, tar, address or .txt with these> ...] [key=value ...]\n\n"
        "Reads webdataset tars of others once, and writes an index, a table and a manifest, so that `medvlp check`, `train`,\n"
        "`eval` and `verify` read them as they read their own. Addresses may have ranges: s3://bucket/{00000..00099}.tar.\n"
        "What cannot be used is counted, and named in dropped.jsonl. Stopped, it goes on where it was.\n\n" + keys
    )


def parse(args: list[str]) -> tuple[IndexConfig, list[str]]:
    """The configuration, and the tars. Raises UsageError, ConfigError."""
    options = [arg for arg in args if "=" in arg and not is_url(arg.partition("=")[0])]
    sources = [arg for arg in args if arg not in options]
    if not sources or any(source.startswith("-") for source in sources):
        raise UsageError
    return compose("index", options), sources


def work(parsed: tuple[IndexConfig, list[str]]) -> int:
    """Index the tars and say what is in them.

    Raises:
        ShardError: nothing that can be read, or a split that is there already.
        UserError: no folder to write to.
    """
    from medvlp.data.images.decode import size_of

    config, sources = parsed
    origins = find_origins(sources, RemoteSettings.from_options(**vars(config.remote)))
    base = origins[0].base
    out = output_folder(config, base)
    refuse_prepared(out)
    form = ForeignForm(
        name=config.name or base.rstrip("/").rpartition("/")[2],
        captions=config.caption,
        split_at=config.split_at,
        texts=config.texts,
        labels=config.labels,
        licence=config.licence,
        modality=config.modality,
        group=config.group,
        dots=config.dots,
    )
    check_form(form)
    make_folder(out)
    if out.resolve() != Path(base).resolve():
        write_location(out, Location(tars=base))
    summary = index_tars(origins, out, config.split, form, config.workers, size_of, tell)
    print("\n".join(map(printable, lines_of(summary, out, origins))))
    return 0


def output_folder(config: IndexConfig, base: str) -> Path:
    """Where the index goes. Raises UserError where it has to be told."""
    if not config.out and is_url(base):
        raise UserError(f"the tars are at {base}: give a folder for their index, out=<folder>")
    return Path(config.out or base)


def tell(line: str) -> None:
    """Show how far it is."""
    print(printable(line), flush=True)


def lines_of(summary: IndexSummary, out: Path, origins: Sequence[Origin]) -> list[str]:
    """What was indexed, what was not, and what to know before training."""
    lines = [f"{summary.samples} of {summary.total} samples in {summary.shards} of {len(origins)} tars: {out}"]
    lines += [f"  not usable: {reason} {count}" for reason, count in summary.drops.most_common()]
    lines += [f"  BROKEN: {tar}: {detail}" for tar, detail in summary.broken.items()]
    if summary.drops or summary.broken:
        lines.append(f"  each by name: {out / DROPS}")
    if summary.ignored:
        counts = ", ".join(f"{name} {count}" for name, count in summary.ignored.most_common(8))
        lines.append(f"  members ignored: {counts}")
    if summary.repeated_images:
        lines.append(
            f"  TRAINED ON TWICE: {summary.repeated_images} samples have the image of another one, byte for byte"
        )
    if summary.repeated_names:
        lines.append(
            f"  {summary.repeated_names} names are in several tars; their keys hold the tar's name, and stay apart"
        )
    unknown = summary.licences.get(UNKNOWN, 0)
    if unknown:
        lines.append(
            f"  LICENCE UNKNOWN: {unknown} of {summary.samples} samples; licence=json.<field> or licence=<licence of all> says it"
        )
    licences = ", ".join(f"{name} {count}" for name, count in summary.licences.most_common(8) if name != UNKNOWN)
    lines += [f"  licences: {licences}"] if licences else []
    lines.append(f"next: medvlp check data.sources.<name>.path={out}")
    return lines
