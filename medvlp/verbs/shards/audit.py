"""One stage of `medvlp check`: its problems are counted, and shown with what its tokens cost."""

from collections.abc import Mapping

from rich.console import Console

from data_prep.check import file_problems, leaked_samples
from medvlp.builders.audit import class_heads, held_out_splits, sources_and_rules, token_audit, training_splits
from medvlp.config import CheckConfig, InstructConfig
from medvlp.data.audit.labels import head_summaries, label_problems, label_values
from medvlp.data.audit.problems import ProblemCounts
from medvlp.data.audit.rules import audit_source
from medvlp.data.audit.terminal import print_problems, print_tokens, progress, visible
from medvlp.shards import ShardDataset

NO_MODEL = (
    "No model was given, so tokens were not looked at: lengths, special tokens in texts, and which are supervised. Add "
    "model=<option> objective=instruct."
)


def audit_stage(config: CheckConfig, problems: ProblemCounts, console: Console) -> None:
    """A publisher's files, or prepared data as the model and the objective (where there are any) will read them."""
    if config.source:
        problems.add_all(file_problems(config))
        print_problems(console, problems)
        return
    for name, dataset, rules in sources_and_rules(config):
        problems.add_all(audit_source(name, dataset, rules, config.data.workers, progress))
    train, heads = training_splits(config), class_heads(config)
    for name, dataset in zip(config.data.sources, train, strict=True):
        problems.add_all(label_problems(name, dataset, heads) if heads else ())
    for split in held_out_splits(config):
        sentence, leaked = leaked_samples(train, split)
        problems.add_all(leaked)
        console.print(visible(sentence))
    if not isinstance(config.objective, InstructConfig):
        print_problems(console, problems)
        datasets = dict(zip(config.data.sources, train, strict=True))
        for line in head_summaries(datasets, heads) if heads else value_lines(datasets):
            console.print(visible(line))
        if not config.model.kind and not heads:
            console.print(NO_MODEL)
        return
    audit = token_audit(config)
    for problem in audit.problems():
        if problem.location not in problems.errors:  # else it has been named, without tokens
            problems.add(problem)
    print_problems(console, problems)
    print_tokens(console, audit, config.examples)


def value_lines(datasets: Mapping[str, ShardDataset]) -> list[str]:
    """The labels that samples have, by source."""
    return [f"{name}: {line}" for name, dataset in datasets.items() for line in label_values(dataset)]
