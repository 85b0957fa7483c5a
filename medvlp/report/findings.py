"""Findings of `medvlp check` on a terminal."""

from rich.table import Table
from rich.text import Text

from medvlp.data.audit.problems import Tally, rank
from medvlp.process import printable

SHOWN_DETAIL = 300
"""Characters of a detail in the table; findings.jsonl has all."""
STYLES = {"error": "bold red", "warning": "yellow"}


def visible(text: str, style: str = "") -> Text:
    """For a terminal: markup is shown as it is, control characters escaped, so that data cannot steer the terminal."""
    return Text(printable(text), style)


def findings_table(tally: Tally) -> Table:
    """A row for each kind of finding, errors first, then the warnings that matter most."""
    table = Table(show_lines=True)
    for title in ("", "problem", "how many", "the first of them", "how to mend it"):
        table.add_column(title, overflow="fold")  # a path that is cut leads nowhere
    for severity, name in sorted(tally.counts, key=lambda kind: (kind[0], rank(kind[1]), kind[1])):
        first = tally.first[severity, name]
        about = f", conversation {first.problem.conversation}" if first.problem.conversation else ""
        detail = first.problem.detail
        cut = detail if len(detail) <= SHOWN_DETAIL else detail[:SHOWN_DETAIL] + "…"
        lines = [visible(line) for line in (first.file, first.key + about, cut) if line]
        count = str(tally.counts[severity, name])
        table.add_row(
            Text(severity, STYLES[severity]), visible(name), count, Text("\n").join(lines), Text(first.advice)
        )
    return table


def counted(number: int, what: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {what}{'' if number == 1 else 's'}"
