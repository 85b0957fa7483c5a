"""The summary on the terminal at a preparation's end: counts, ignored fields, and warnings."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from data_prep.ledger import DROPS
from data_prep.readers.fields import IGNORED
from medvlp.jsonl import read_rows

SHARE = 0.1
"""Of a split's rows; if more are dropped, it is said in words."""

FIELDS_SHOWN = 12

MAX_DETAIL = 300
"""Characters of what is said of one drop."""

DROPS_READ = 100_000
"""Of the named drops, in which first rows are looked for."""

PIXELS = ("check_images", "deidentify_pixels")
"""Stages that change pixels; what they did is said."""


def summary(output: Path, ledger: dict[str, Any], was_done: bool) -> str:
    """Lines for the terminal; warnings stand last."""
    from medvlp.report.dataset.leakage import leakage_lines  # matplotlib, which reports import, takes its time

    lines = [f"{output} was already finished; nothing to do"] if was_done else []
    sizes = ", ".join(f"{split} {page['out']}" for split, page in ledger["splits"].items())
    lines.append(f"in {ledger['in']}, out {ledger['out']} ({sizes}), dropped {ledger['in'] - ledger['out']}")
    examples = first_drops(output, ledger["drops"])
    for stage, reasons in ledger["drops"].items():
        for reason, count in reasons.items():
            example = examples.get((stage, reason))
            lines += [f"  {count:>7} {stage}: {reason}", *([f"          first: {example}"] if example else [])]
    moves = ledger.get("counts", {}).get("split", {})
    lines += [f"  {count:>7} {move}" for move, count in moves.items()]
    lines += _ignored(ledger)
    for stage in PIXELS:
        lines += [f"  {n:>7} {stage}: {subject}" for subject, n in ledger.get("counts", {}).get(stage, {}).items()]
    lines += leakage_lines(ledger)
    lines.append(f"shards {output}/<split>/, drops by name {output}/dropped.jsonl")
    lines.append(f"report {output}/report.html")
    return "\n".join([*lines, *(f"warning: {warning}" for warning in warnings(ledger))])


def first_drops(output: Path, drops: dict[str, dict[str, int]], split: str = "") -> dict[tuple[str, str], str]:
    """(stage, reason) → the name and the detail of the first of these drops, of any split or of one.

    Drops of private data have no details, and are skipped.
    """
    kinds = {(stage, reason) for stage, reasons in drops.items() for reason in reasons}
    first: dict[tuple[str, str], str] = {}
    for drop in islice(read_rows(output / DROPS) if kinds else (), DROPS_READ):
        kind = drop["stage"], drop["reason"]
        if kind in kinds and kind not in first and split in ("", drop["split"]):
            is_named = drop["detail"].startswith(drop["name"])
            first[kind] = _printable(
                drop["detail"] if is_named or not drop["detail"] else f"{drop['name']}: {drop['detail']}"
            )
            if len(first) == len(kinds):
                break
    return {kind: text for kind, text in first.items() if text}


def _printable(text: str) -> str:
    text = "".join(character if character.isprintable() else " " for character in text[: MAX_DETAIL + 1])
    return text if len(text) <= MAX_DETAIL else f"{text[: MAX_DETAIL - 1]}…"


def _ignored(ledger: dict[str, Any]) -> list[str]:
    """What reading counted besides drops; what was removed from private files stands in the report."""
    counts = ledger.get("counts", {}).get("read", {})
    fields = {subject.removeprefix(f"{IGNORED}: "): n for subject, n in counts.items() if subject.startswith(IGNORED)}
    lines = [f"  {n:>7} {subject}" for subject, n in counts.items() if not subject.startswith((IGNORED, "removed "))]
    if fields:
        most = sorted(fields.items(), key=lambda field: -field[1])
        listing = ", ".join(f"{name} ({n})" for name, n in most[:FIELDS_SHOWN])
        remainder = f" and {len(most) - FIELDS_SHOWN} more, see ledger.json" if len(most) > FIELDS_SHOWN else ""
        lines.append(f"  {IGNORED}, with the rows that have them: {listing}{remainder}")
    return lines


def warnings(ledger: dict[str, Any]) -> list[str]:
    """What a person should look at before training: many drops, classes that are gone, training images that are tested on."""
    from medvlp.report.dataset.leakage import conflict_line, leakage_of

    lines = []
    for split, page in ledger["splits"].items():
        drops = _drops(page["drops"])
        if page["out"] and drops.total() > SHARE * page["in"]:
            lines.append(f"{drops.total()} of {page['in']} rows of {split} ({_share(drops, page)}) {_most(drops)}")
    for label, classes in ledger.get("vanished", {}).items():
        names = ", ".join(f"{name!r} ({count})" for name, count in list(classes.items())[:FIELDS_SHOWN])
        remainder = f" and {len(classes) - FIELDS_SHOWN} more" if len(classes) > FIELDS_SHOWN else ""
        lines.append(f"no sample is left of these classes of {label}: {names}{remainder}; dropped.jsonl says why")
    leaking = [leakage.split for leakage in leakage_of(ledger) or [] if leakage.in_train]
    if leaking:
        lines.append(
            f"a score on {' or '.join(leaking)} is partly a score on training images; leakage.jsonl names them, "
            "duplicates=drop takes their copies out of train"
        )
    if ledger.get("conflicting_labels"):
        lines.append(conflict_line(ledger["conflicting_labels"]))
    return lines + _about_pixels(ledger.get("counts", {}).get("check_images", {}))


def _about_pixels(counts: dict[str, int]) -> list[str]:
    deep = sum(n for subject, n in counts.items() if subject.startswith("images of more than 8 bits"))
    dark = counts.get("nearly black images", 0)
    lines = []
    if deep:
        lines.append(
            f"{deep} images have more than 8 bits and were scaled as above; look at them in report.html. "
            "intensity=[black,white] sets the values for all of them"
        )
    if dark:
        lines.append(f"{dark} images are nearly black as they are shown; look at them in report.html")
    return lines


def empty_splits(output: Path, ledger: dict[str, Any]) -> str:
    """What is said of a preparation, or of splits, that have no sample left; "" where there are some."""
    pages = {"the data set": ledger} if not ledger["out"] else ledger["splits"]
    empty = {name: _drops(page["drops"]) for name, page in pages.items() if page["in"] and not page["out"]}
    empty = {name: drops for name, drops in empty.items() if drops}
    if not empty:
        return "" if ledger["out"] else f"{output} has no samples: the input has no rows"
    lines = []
    for name, drops in empty.items():
        examples = first_drops(output, pages[name]["drops"], name if name in ledger["splits"] else "")
        first = {": ".join(kind): text for kind, text in examples.items()}.get(drops.most_common(1)[0][0], "")
        lines.append(
            f"{name} is empty: all {drops.total()} samples {_most(drops)}{first and f'; the first is {first}'}"
        )
    return "; ".join(lines) + f"; {output}/dropped.jsonl names them"


def _drops(page: dict[str, dict[str, int]]) -> Counter[str]:
    """`stage: reason` → number; figures that gave way to their panels are not lost."""
    return Counter(
        {
            f"{stage}: {reason}": n
            for stage, reasons in page.items()
            for reason, n in reasons.items()
            if reason != "replaced_by_panels"
        }
    )


def _share(drops: Counter[str], page: dict[str, Any]) -> str:
    return f"{drops.total() / page['in']:.0%}"


def _most(drops: Counter[str]) -> str:
    return "were dropped" + "".join(f", most ({n}) by {reason}" for reason, n in drops.most_common(1))
