"""`medvlp <verb>`: nothing heavy is imported before a verb is chosen."""

import importlib
import sys
from collections.abc import Sequence

from medvlp import process

VERBS = {
    "prep": ("data_prep.cli", "publisher's files → shards: source=<name> input=<dir> output=<dir>"),
    "verify": ("medvlp.verbs.verify", "check a shard folder byte by byte: <shard dir>"),
    "check": (
        "medvlp.verbs.check",
        "look at data before training: data=<option> [model=...], or source=<name> input=<dir>",
    ),
    "train": ("medvlp.train", "shards → checkpoint: recipes=<name> [key=value ...]"),
    "eval": ("medvlp.evaluate", "checkpoints → results: recipes=<name> checkpoints=[...] tasks=[...]"),
    "report": ("medvlp.verbs.report", "runs → report.html: <run folder ...>"),
    "export": (
        "medvlp.verbs.export",
        "checkpoint → folder for open_clip or transformers: checkpoint=<ckpt> format=<format> output=<dir>",
    ),
    "ask": ("medvlp.verbs.ask", 'ask an assistant about images: checkpoint=<ckpt> image=<file> "question"'),
    "list": ("medvlp.verbs.list", "what there is: [recipes|tasks|sources|models|data]"),
    "demo": ("medvlp.verbs.demo", "all of it, small, on data that a wheel carries"),
}


def usage() -> str:
    """The text of `medvlp --help`."""
    rows = "\n".join(f"  {verb:<8}{text}" for verb, (_, text) in VERBS.items())
    return (
        f"medvlp: from medical figures and reports to a published, comparable model\n\n"
        f"usage: medvlp <verb> [arguments]\n\n{rows}\n\n"
        f"medvlp <verb> --help explains one verb. On several ranks: torchrun --nproc-per-node N -m medvlp.train ...\n"
        f"Research use only; not for clinical use."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code is 0 done, 1 wrong input, 2 usage, 3 stopped by a signal, 70 a fault of ours."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version

        print(version("medvlp"))
        return 0
    verb = words[0]
    if verb not in VERBS:
        from difflib import get_close_matches

        close = get_close_matches(verb, VERBS, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        print(f"medvlp: unknown verb {verb!r}{hint} Verbs: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    begin = process.command if argv is None else process.run
    return begin(verb, lambda: importlib.import_module(VERBS[verb][0]).main(words[1:]))


if __name__ == "__main__":
    sys.exit(main())
