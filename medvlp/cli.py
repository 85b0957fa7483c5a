"""`medvlp <verb>`: the table of verbs, and the frame that every verb runs in. Nothing heavy is imported before one is chosen."""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from medvlp import process
from medvlp.errors import UsageError


@dataclass(frozen=True)
class Verb:
    """One verb. Its module has `usage(args) -> str`, `parse(args) -> config` and `work(config) -> exit code`."""

    name: str
    module: str
    line: str
    """Its line in `medvlp --help`."""

    def load(self) -> ModuleType:
        """The module."""
        return importlib.import_module(self.module)


VERBS = {
    verb.name: verb
    for verb in (
        Verb("prep", "data_prep.cli", "publisher's files → shards: source=<name> input=<dir> output=<dir>"),
        Verb(
            "index",
            "medvlp.verbs.shards.index",
            "make webdataset tars of others trainable: <folder or addresses> [out=...]",
        ),
        Verb(
            "score",
            "medvlp.verbs.shards.score",
            "columns about samples, to select by: <split> [checkpoint=<model>] [duplicates=0.95]",
        ),
        Verb("verify", "medvlp.verbs.shards.verify", "check a shard folder byte by byte: <shard dir>"),
        Verb(
            "check",
            "medvlp.verbs.shards.check",
            "look at data before training: data=<option> [model=...], or source=<name> input=<dir>",
        ),
        Verb(
            "plan", "medvlp.verbs.plan", "memory, speed and hours of a training before it runs: recipes=<name> gpus=8"
        ),
        Verb("train", "medvlp.train", "shards → checkpoint: recipes=<name> [key=value ...]"),
        Verb("eval", "medvlp.evaluate", "checkpoints → results: recipes=<name> checkpoints=[...] tasks=[...]"),
        Verb(
            "compare",
            "medvlp.verbs.results.compare",
            "results → paired differences between models: <results folder ...> [task=<name>]",
        ),
        Verb("report", "medvlp.verbs.results.report", "runs → report.html: <run folder ...>"),
        Verb(
            "export",
            "medvlp.verbs.models.export",
            "checkpoint → folder for open_clip or transformers: checkpoint=<ckpt> format=<format> output=<dir>",
        ),
        Verb(
            "ask", "medvlp.verbs.models.ask", 'ask an assistant about images: checkpoint=<ckpt> image=<file> "question"'
        ),
        Verb(
            "replay",
            "medvlp.verbs.models.replay",
            "a step that gave no finite number, again: <run>/non_finite/step-<n>",
        ),
        Verb(
            "cache",
            "medvlp.verbs.results.cache",
            "what evaluations keep for later ones: [clear] [kind=images] [older_than=30]",
        ),
        Verb("list", "medvlp.verbs.list", "what there is: [recipes|tasks|sources|models|data]"),
        Verb("demo", "medvlp.verbs.demo", "all of it, small, on data that a wheel carries"),
    )
}


def usage() -> str:
    """The text of `medvlp --help`."""
    rows = "\n".join(f"  {verb.name:<8}{verb.line}" for verb in VERBS.values())
    return (
        f"medvlp: from medical figures and reports to a published, comparable model\n\n"
        f"usage: medvlp <verb> [arguments]\n\n{rows}\n\n"
        f"medvlp <verb> --help explains one verb. On several ranks: torchrun --nproc-per-node N -m medvlp.train ...\n"
        f"Research use only; not for clinical use."
    )


def run_verb(name: str, argv: Sequence[str] | None = None) -> int:
    """Run one verb: help, arguments, work, and how it ends.

    Args:
        argv: the verb's arguments; None for those of this process, which then is this command and nothing else.
    Returns: 0 done, 1 the user's input is wrong, 2 usage, 3 stopped by a signal, 70 a fault of ours (after its traceback).
    """
    args = list(sys.argv[1:] if argv is None else argv)
    return _run(process.command if argv is None else process.run, name, args)


def _run(begin: Callable[[str, Callable[[], int]], int], name: str, args: list[str]) -> int:
    return begin(name, lambda: _parse_and_work(VERBS[name].load(), args))


def _parse_and_work(verb: ModuleType, args: list[str]) -> int:
    if "-h" in args or "--help" in args:
        print(verb.usage(args))
        return 0
    try:
        config = verb.parse(args)
    except UsageError as error:
        print(error if error.args else verb.usage(args), file=sys.stderr if error.args else sys.stdout)
        return process.USAGE
    code: int = verb.work(config)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """`medvlp`; returns the exit code, as `run_verb`."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if args else process.USAGE
    if args[0] == "--version":
        from importlib.metadata import version

        print(version("medvlp"))
        return 0
    name = args[0]
    if name not in VERBS:
        from difflib import get_close_matches

        close = get_close_matches(name, VERBS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        print(f"medvlp: unknown verb {name!r}{hint} Verbs: {', '.join(VERBS)}", file=sys.stderr)
        return process.USAGE
    return _run(process.command if argv is None else process.run, name, args[1:])


if __name__ == "__main__":
    sys.exit(main())
