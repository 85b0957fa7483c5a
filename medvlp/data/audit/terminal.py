"""What `medvlp check` shows on a terminal: problems, token costs, supervised tokens in colour."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from medvlp.data.audit.problems import ProblemCounts, rank
from medvlp.data.audit.rules import SampleAudit
from medvlp.data.audit.token_costs import MeasuredSource, TokenAudit
from medvlp.data.chat.encoder import ChatEncoder, Encoded
from medvlp.data.chat.examples import Examples
from medvlp.shards.vocabulary import IMAGE_TOKEN
from medvlp.terminal import printable

DETAIL_CHARACTERS = 300
"""Of a detail in the table; findings.jsonl has all."""
SAMPLE_CONVERSATIONS = 4
"""Conversations of one sample that are printed."""
PIPE_WIDTH = 160
"""Columns of the tables where the output is no terminal."""
STYLES = {"error": "bold red", "warning": "yellow"}


def open_console() -> Console:
    """Of the terminal, or as wide as the tables where the output is a file."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def progress(name: str, samples: int, audits: Iterable[SampleAudit]) -> Iterable[SampleAudit]:
    """The audits, behind a bar on the terminal where there is one."""
    hidden = not sys.stderr.isatty()
    return track(audits, name, total=samples, console=Console(stderr=True), transient=True, disable=hidden)


def visible(text: str, style: str = "") -> Text:
    """For a terminal: markup is shown as it is, control characters escaped, so that data cannot steer the terminal."""
    return Text(printable(text), style)


def counted(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def problem_table(problems: ProblemCounts) -> Table:
    """A row for each kind of problem, errors first, then the warnings that matter most."""
    table = Table(show_lines=True)
    for title in ("", "problem", "how many", "the first of them", "how to fix it"):
        table.add_column(title, overflow="fold")  # a path that is cut leads nowhere
    for severity, name in sorted(problems.counts, key=lambda kind: (kind[0], rank(kind[1]), kind[1])):
        first = problems.first[severity, name]
        conversation = f", conversation {first.conversation}" if first.conversation else ""
        detail = first.detail
        detail = detail if len(detail) <= DETAIL_CHARACTERS else detail[:DETAIL_CHARACTERS] + "…"
        lines = [visible(line) for line in (first.file, first.key + conversation, detail) if line]
        count = str(problems.counts[severity, name])
        table.add_row(
            Text(severity, STYLES[severity]), visible(name), count, Text("\n").join(lines), Text(first.advice)
        )
    return table


def print_problems(console: Console, problems: ProblemCounts) -> None:
    """The table, and the numbers of errors and warnings."""
    if problems.counts:
        console.print(problem_table(problems))
    console.print(f"{counted(problems.total('error'), 'error')}, {counted(problems.total('warning'), 'warning')}")


def print_tokens(console: Console, audit: TokenAudit, samples: int) -> None:
    """What tokens cost, and the first samples; nothing where a source has nothing to train on."""
    if tokens := audit.epoch_tokens():
        print_costs(console, audit.sources, tokens, audit.packing, audit.encoder.image_tokens)
        print_samples(console, audit.sources[0], audit.encoder, audit.max_length, samples)


def print_costs(
    console: Console, sources: Sequence[MeasuredSource], tokens: Mapping[str, int], packing: str, image_tokens: int
) -> None:
    """Lengths of each source's conversations, and what an epoch costs by each way of laying them out.

    Args:
        tokens: objective.packing → tokens of an epoch.
        packing: the configured one.
    """
    table = Table("source", "conversations", "an image", "tokens (median, most)", "supervised (median, most)", "share")
    for source in sources:
        summary = source.summary()
        split = f" ({summary['split']:.0f} split)" if summary["split"] else ""
        cells = [f"{summary['conversations']:.0f}{split}", f"{summary['an_image']:.1f}"]
        cells += [
            f"{summary[f'{kind}_median']:.0f}, {summary[f'{kind}_most']:.0f}" for kind in ("tokens", "supervised")
        ]
        table.add_row(visible(source.name), *cells, f"{summary['supervised_share']:.1%}")
    console.print(table)
    layouts = [
        f"{name} {count:,} ({tokens['none'] / count:.1f}× fewer)" for name, count in tokens.items() if name != "none"
    ]
    console.print(
        f"An image is {image_tokens} tokens. Tokens of an epoch, padding included, by objective.packing: "
        f"none {tokens['none']:,}, {', '.join(layouts)}; chosen is {packing}."
    )


def print_samples(
    console: Console, source: MeasuredSource, encoder: ChatEncoder, max_length: int, samples: int
) -> None:
    """The first samples as training sees them."""
    examples = Examples(source.dataset, source.lengths, encoder, max_length, grouped=True)
    if samples:
        console.print(Text("Supervised tokens are ") + Text("green", "bold green") + Text(", the rest is read only:"))
    for number in range(min(samples, len(examples))):
        sample = examples.read(number)
        console.print(visible(sample.key, "bold"))
        for conversation in sample.conversations[:SAMPLE_CONVERSATIONS]:
            console.print(coloured(encoder, encoder.encode(conversation.turns, len(sample.images))))
        if len(sample.conversations) > SAMPLE_CONVERSATIONS:
            console.print(f"and {counted(len(sample.conversations) - SAMPLE_CONVERSATIONS, 'conversation')} more")


def coloured(encoder: ChatEncoder, encoded: Encoded) -> Text:
    """Supervised tokens in green, the rest dim, an image's tokens folded to `<image>×576`. Control characters of the text
    are escaped, as in `visible`."""
    text = Text()
    is_image = encoded.ids == encoder.image_id
    kind = np.where(is_image, 2, encoded.supervised)
    cuts = [0, *(np.flatnonzero(np.diff(kind)) + 1), len(kind)]
    for start, stop in pairwise(map(int, cuts)):
        if is_image[start]:
            for _ in range((stop - start) // encoder.image_tokens):
                text.append(f"{IMAGE_TOKEN}×{encoder.image_tokens}", style="cyan")
        else:
            lines = encoder.decode(encoded.ids[start:stop].tolist()).split("\n")
            text.append("\n".join(map(printable, lines)), style="bold green" if encoded.supervised[start] else "dim")
    return text
