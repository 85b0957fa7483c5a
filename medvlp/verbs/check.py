"""`medvlp check`: looks at data before any training; exit code 1 where something has to be mended."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.claims import refuse_other_kinds
from medvlp.cli import run_verb
from medvlp.config import (
    CheckConfig,
    InstructConfig,
    LlavaConfig,
    PrepConfig,
    compose,
    compose_stages,
    require_prepared,
)
from medvlp.data.audit.problems import Finding, Problem, Tally
from medvlp.errors import UsageError
from medvlp.report.findings import counted, findings_table, visible

if TYPE_CHECKING:
    from rich.console import Console

    from medvlp.data.audit.rules import Seen
    from medvlp.data.audit.token_costs import Measured
    from medvlp.data.chat.encoder import ChatEncoder

USAGE = """usage: medvlp check recipes=<a recipe of medvlp train> [key=value ...]
       medvlp check data=<option> [model=<option> objective=<option>] [key=value ...]
       medvlp check data.sources.<name>.path=<folder of a split>
       medvlp check source=<name> input=<folder or file> [flag=... options.<name>=...]

Looks at prepared shards, or at a publisher's files through the reader of a source, before anything is trained: names
every fault with file and key, and how to mend it. Without a model it cannot count tokens. No weights are loaded.

keys: those of `medvlp train`, and
  source, input, flag, options.<name>
                        look at a publisher's files instead of at shards, as `medvlp prep` would read them
  output=<folder>       write every finding to findings.jsonl there; the table shows the first of each kind
  shown=3               samples whose conversations are shown, their supervised tokens in colour

Exit code 0: nothing has to be mended (warnings may be shown); 1: something has to; 2: usage."""


SHOWN_TURNS = 4
"""Conversations shown of one sample."""
TRAINED = {"bytes": "the same bytes are trained on", "picture": "the same picture is trained on"}
PIPE_WIDTH = 160
"""Columns of the tables where the output is no terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp check`; returns the exit code."""
    return run_verb("check", argv)


def usage(args: list[str]) -> str:
    """What `--help` prints."""
    return USAGE


def parse(args: list[str]) -> tuple[dict[str, CheckConfig], str]:
    """Stage → configuration ("" without stages), and the folder for the findings.

    Raises:
        UsageError: no arguments.
        ConfigError: an unknown key or a wrong value, or data that is not prepared.
    """
    if not args:
        raise UsageError
    config: CheckConfig = compose("check", args)
    runs = compose_stages("check", config.stages, args) or {"": config}
    for run in runs.values():
        if not run.source:
            require_prepared(run)
    return runs, config.output


def work(settings: tuple[dict[str, CheckConfig], str]) -> int:
    """Look, and say what was found; 1 where something has to be fixed."""
    from rich.console import Console

    from medvlp.environment import settle

    settle()
    runs, output = settings
    console = Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)
    errors = 0
    with findings_file(output) as write:
        for name, run in runs.items():
            tally = Tally(write)
            if name:
                console.rule(visible(f"stage {name}"))
            look = check_files if run.source else check_shards
            look(run, tally, console)
            errors += tally.total("error")
    if output:
        console.print(visible(f"every one: {Path(output) / 'findings.jsonl'}"))
    return 1 if errors else 0


def check_files(config: CheckConfig, tally: Tally, console: Console) -> None:
    """A publisher's files, as the preparation will read them."""
    for finding in look_at_files(config):
        tally.add(finding)
    print_findings(console, tally)


def check_shards(config: CheckConfig, tally: Tally, console: Console) -> None:
    """Prepared data, as the model and the objective (where there are any) will read it."""
    from medvlp.builders.audit import encoder_of, look_at_sources, measure_sources, token_findings

    for finding in look_at_sources(config, watch):
        tally.add(finding)
    leakage = []
    for sentence, findings in leakage_of_splits(config):
        leakage.append(sentence)
        for finding in findings:
            tally.add(finding)
    for sentence in leakage:
        console.print(visible(sentence))
    if not isinstance(config.objective, InstructConfig):
        print_findings(console, tally)
        if not config.model.kind:
            console.print(
                "No model was given, so tokens were not looked at: lengths, special tokens in texts, and which are "
                "supervised. Add model=<option> objective=instruct."
            )
        return
    assert isinstance(config.model, LlavaConfig)
    encoder = encoder_of(config.model)
    sources = measure_sources(config, encoder)
    for source in sources:
        for finding in token_findings(source, encoder, config.objective.max_length):
            if finding.place not in tally.faulty:  # else it has been named, without tokens
                tally.add(finding)
    print_findings(console, tally)
    if all(len(source.lengths.rows) for source in sources):
        print_costs(console, config, sources, encoder)
        print_samples(console, config, sources[0], encoder)


def leakage_of_splits(config: CheckConfig) -> Iterator[tuple[str, list[Finding]]]:
    """What of each held-out split is in the splits that are trained on: a sentence, and a finding for each sample."""
    from data_prep.dedup.trained import trained_on
    from medvlp.builders.audit import held_out_splits
    from medvlp.builders.data import open_shards
    from medvlp.report.dataset.leakage import Leakage

    train = [open_shards(source.path) for source in config.data.sources.values()]
    for split in held_out_splits(config):
        matches = trained_on(train, split)
        place = f"{split.folder.parent.name}/{split.folder.name}"
        kinds = list(matches.values())
        findings = []
        for row, key in enumerate(split.keys if matches else []):
            if key in matches:
                problem = Problem("shared_image", "", f"of {place}; {TRAINED[matches[key]]}")
                findings.append(Finding(problem, place, str(split.folder / split.locate(row)[0]), key))
        yield Leakage(place, len(split), kinds.count("bytes"), kinds.count("picture")).sentence, findings


def look_at_files(config: CheckConfig) -> Iterator[Finding]:
    """What a source's reader and the preparation's stages find in a publisher's files, and what the samples show.

    Raises:
        PrepError: an unknown source, or an input that is not its.
    """
    from data_prep.draft import Draft, Drop
    from data_prep.errors import PrepError
    from data_prep.plan import unit_stages
    from data_prep.readers.fields import fields_ignored
    from data_prep.source import Dropped
    from data_prep.sources import open_source
    from data_prep.stages import apply_stages, build_stages
    from medvlp.data.audit.rules import Rules, Together, look

    def found(problem: Problem, key: str) -> Finding:
        return Finding(problem, config.source, config.input, key)

    reader = open_source(config.source, config.input, flag=config.flag, options=config.options)
    limits = PrepConfig(source=config.source, max_pixels=config.data.max_pixels, modality=False, duplicates="off")
    stages = build_stages([stage for stage in unit_stages(limits, reader) if stage["stage"] != "measure"])
    rules = Rules("", ["caption*"], questions=False, max_pixels=0)  # the stages open the images
    splits: dict[str, Together] = {}
    elsewhere: dict[str, tuple[str, str]] = {}
    ignored: Counter[str] = Counter()
    try:
        for unit in reader.units():
            if unit.split not in splits:  # units come split by split
                for split, before in splits.items():
                    elsewhere.update({image: (split, key) for image, key in before.images.items()})
                splits[unit.split] = Together("", dict(elsewhere))
            for item in reader.read(unit):
                if isinstance(item, Dropped):
                    yield found(Problem(item.reason, "", item.detail), item.name)
                    continue
                for left in apply_stages(stages, Draft(item)):
                    if isinstance(left, Drop):
                        yield found(Problem(left.reason, "", left.detail), item.key)
                        continue
                    for problem in splits[unit.split].problems(look(left.sample, rules)):
                        yield found(problem, item.key)
            ignored.update(fields_ignored(reader.counts))
    except PrepError as error:
        yield found(Problem("unreadable_input", "", str(error)), "")
    if ignored:
        said = ", ".join(f"{name} in {counted(number, 'row')}" for name, number in ignored.most_common())
        yield found(Problem("ignored_fields", "", said), "")


@contextmanager
def findings_file(output: str) -> Iterator[Callable[[dict[str, str]], None]]:
    """A function that writes a row to <output>/findings.jsonl, or does nothing without an output."""
    from medvlp.jsonl import encode_row
    from medvlp.shards.atomic import whole_file

    if not output:
        yield lambda row: None
        return
    refuse_other_kinds(Path(output), "check", "output")
    Path(output).mkdir(parents=True, exist_ok=True)
    with whole_file(Path(output) / "findings.jsonl") as file:
        yield lambda row: (file.write(encode_row(row)), None)[1]


def watch(name: str, samples: int, seen: Iterable[Seen]) -> Iterable[Seen]:
    """A bar on the terminal, where there is one."""
    from rich.console import Console
    from rich.progress import track

    return track(
        seen, name, total=samples, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )


def print_findings(console: Console, tally: Tally) -> None:
    """The table, and the numbers of errors and warnings."""
    if tally.counts:
        console.print(findings_table(tally))
    console.print(f"{counted(tally.total('error'), 'error')}, {counted(tally.total('warning'), 'warning')}")


def print_costs(console: Console, config: CheckConfig, sources: Sequence[Measured], encoder: ChatEncoder) -> None:
    """Lengths of each source's conversations, and what an epoch costs by each way of laying them out."""
    from rich.table import Table

    from medvlp.data.audit.token_costs import LAYOUTS, epoch_tokens

    assert isinstance(config.objective, InstructConfig)
    objective = config.objective
    table = Table("source", "conversations", "an image", "tokens (median, most)", "supervised (median, most)", "share")
    for source in sources:
        s = source.summary()
        split = f" ({s['split']:.0f} split)" if s["split"] else ""
        cells = [f"{s['conversations']:.0f}{split}", f"{s['an_image']:.1f}"]
        cells += [f"{s[f'{what}_median']:.0f}, {s[f'{what}_most']:.0f}" for what in ("tokens", "supervised")]
        table.add_row(visible(source.name), *cells, f"{s['supervised_share']:.1%}")
    console.print(table)
    size, accumulate = config.data.global_batch_size, config.trainer.accumulate
    tokens = {
        packing: epoch_tokens(sources, encoder, objective.max_length, packing, size, accumulate, config.seed)
        for packing in LAYOUTS
    }
    said = [f"{packing} {n:,} ({tokens['none'] / n:.1f}× fewer)" for packing, n in tokens.items() if packing != "none"]
    console.print(
        f"An image is {encoder.image_tokens} tokens. Tokens of an epoch, padding included, by objective.packing: "
        f"none {tokens['none']:,}, {', '.join(said)}; chosen is {objective.packing}."
    )


def print_samples(console: Console, config: CheckConfig, source: Measured, encoder: ChatEncoder) -> None:
    """The first samples as training sees them."""
    from rich.text import Text

    from medvlp.data.chat.encoder import coloured
    from medvlp.data.chat.examples import Examples

    assert isinstance(config.objective, InstructConfig)
    examples = Examples(source.dataset, source.lengths, encoder, config.objective.max_length, grouped=True)
    if config.shown:
        console.print(Text("Supervised tokens are ") + Text("green", "bold green") + Text(", the rest is read only:"))
    for number in range(min(config.shown, len(examples))):
        sample = examples.read(number)
        console.print(visible(sample.key, "bold"))
        for conversation in sample.conversations[:SHOWN_TURNS]:
            console.print(coloured(encoder, encoder.encode(conversation.turns, len(sample.images))))
        if len(sample.conversations) > SHOWN_TURNS:
            console.print(f"and {counted(len(sample.conversations) - SHOWN_TURNS, 'conversation')} more")
