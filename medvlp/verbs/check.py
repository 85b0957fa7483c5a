"""`medvlp check`: problems of data before any training; exit code 1 where something has to be fixed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from medvlp.claims import refuse_other_kinds
from medvlp.cli import run_verb
from medvlp.config import (
    CheckConfig,
    InstructConfig,
    LlavaConfig,
    compose,
    compose_stages,
    require_prepared,
)
from medvlp.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from medvlp.data.audit.problems import ProblemCounts

USAGE = """usage: medvlp check recipes=<a recipe of medvlp train> [key=value ...]
       medvlp check data=<option> [model=<option> objective=<option>] [key=value ...]
       medvlp check data.sources.<name>.path=<folder of a split>
       medvlp check source=<name> input=<folder or file> [flag=... options.<name>=...]

Looks at prepared shards, or at a publisher's files through the reader of a source, before anything is trained: names
every problem with file and key, and how to fix it. Without a model it cannot count tokens. No weights are loaded.

keys: those of `medvlp train`, and
  source, input, flag, options.<name>
                        look at a publisher's files instead of at shards, as `medvlp prep` would read them
  output=<folder>       write every problem to findings.jsonl there; the table shows the first of each kind
  examples=3            samples whose conversations are printed, their supervised tokens in colour

Exit code 0: nothing has to be fixed (warnings may be shown); 1: something has to; 2: usage."""


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
    stages = compose_stages("check", config.stages, args) or {"": config}
    for stage in stages.values():
        if not stage.source:
            require_prepared(stage)
    return stages, config.output


def work(settings: tuple[dict[str, CheckConfig], str]) -> int:
    """Check the data of every stage; 1 where something has to be fixed."""
    from medvlp.data.audit.problems import ProblemCounts
    from medvlp.data.audit.terminal import open_console, visible
    from medvlp.environment import set_up_libraries

    set_up_libraries()
    stages, output = settings
    console = open_console()
    errors = 0
    with findings_file(output) as write:
        for name, config in stages.items():
            problems = ProblemCounts(write)
            if name:
                console.rule(visible(f"stage {name}"))
            (check_files if config.source else check_shards)(config, problems, console)
            errors += problems.total("error")
    if output:
        console.print(visible(f"every one: {Path(output) / 'findings.jsonl'}"))
    return 1 if errors else 0


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


def check_files(config: CheckConfig, problems: ProblemCounts, console: Console) -> None:
    """A publisher's files, as the preparation will read them."""
    from data_prep.check import file_problems
    from medvlp.data.audit.terminal import print_problems

    for problem in file_problems(config):
        problems.add(problem)
    print_problems(console, problems)


def check_shards(config: CheckConfig, problems: ProblemCounts, console: Console) -> None:
    """Prepared data, as the model and the objective (where there are any) will read it."""
    from data_prep.check import leaked_samples
    from medvlp.builders.audit import held_out_splits, sources_and_rules, training_splits
    from medvlp.data.audit.rules import audit_source
    from medvlp.data.audit.terminal import print_problems, progress, visible

    for name, dataset, rules in sources_and_rules(config):
        for problem in audit_source(name, dataset, rules, config.data.workers, progress):
            problems.add(problem)
    train, sentences = training_splits(config), []
    for split in held_out_splits(config):
        sentence, leaked = leaked_samples(train, split)
        sentences.append(sentence)
        for problem in leaked:
            problems.add(problem)
    for sentence in sentences:
        console.print(visible(sentence))
    if isinstance(config.objective, InstructConfig):
        check_tokens(config, problems, console)
        return
    print_problems(console, problems)
    if not config.model.kind:
        console.print(
            "No model was given, so tokens were not looked at: lengths, special tokens in texts, and which are "
            "supervised. Add model=<option> objective=instruct."
        )


def check_tokens(config: CheckConfig, problems: ProblemCounts, console: Console) -> None:
    """Conversations as the assistant's tokens: what is wrong with them, what they cost, the first ones in colour."""
    from medvlp.builders.audit import conversation_sources, encoder_without_weights
    from medvlp.builders.llava import encoder_identity
    from medvlp.data.audit.terminal import print_costs, print_problems, print_samples
    from medvlp.data.audit.token_costs import LAYOUTS, MeasuredSource, epoch_tokens, token_problems
    from medvlp.data.chat.lengths import cached_lengths

    assert isinstance(config.model, LlavaConfig)
    assert isinstance(config.objective, InstructConfig)
    objective, encoder = config.objective, encoder_without_weights(config.model)
    sources = []
    for name, weight, dataset in conversation_sources(config):
        lengths = cached_lengths(dataset, encoder, objective.max_length, objective.too_long, encoder_identity(encoder))
        sources.append(MeasuredSource(name, weight, dataset, lengths))
    for source in sources:
        for problem in token_problems(source, encoder, objective.max_length):
            if problem.location not in problems.errors:  # else it has been named, without tokens
                problems.add(problem)
    print_problems(console, problems)
    if all(len(source.lengths.rows) for source in sources):
        size, accumulate = config.data.global_batch_size, config.trainer.accumulate
        tokens = {
            packing: epoch_tokens(sources, encoder, objective.max_length, packing, size, accumulate, config.seed)
            for packing in LAYOUTS
        }
        print_costs(console, sources, tokens, objective.packing, encoder.image_tokens)
        print_samples(console, sources[0], encoder, objective.max_length, config.examples)


if __name__ == "__main__":
    sys.exit(main())
