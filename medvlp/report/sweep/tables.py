"""All results, a line a metric, and the sentences that belong below them: the same for terminals and pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from medvlp.report.dataset.leakage import Leakage
from medvlp.report.files import Row
from medvlp.report.sweep.evaluation import split_of
from medvlp.report.sweep.marks import LEGEND, trained_mark
from medvlp.report.sweep.scores import checkpoint_names, task_names

MODELS_A_LINE = 4
"""Models that share a sentence are named up to this number."""


@dataclass(frozen=True)
class ResultLine:
    """One (task, metric) over all checkpoints."""

    task: str
    """With the split, where there are several: see `task_names`."""
    metric: str
    n: str
    excluded: str
    """Items that the scores are not over; empty where there are none."""
    cells: list[str]
    """For each checkpoint the value with its interval; empty where the checkpoint has none."""


def cell(row: Row) -> str:
    """`0.412 [0.380, 0.445]†`: a fraction, its 95% interval, and what of its items was trained on."""
    if row["value"] is None:
        return "undefined"
    mark = trained_mark(row.get("protocol"), row["metric"])
    if row.get("ci_low") is None or row.get("ci_high") is None:
        return f"{row['value']:.3f}{mark}"
    return f"{row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]{mark}"


def result_lines(rows: Sequence[Row]) -> list[ResultLine]:
    """Lines in the order of the rows; n is a range where checkpoints were measured on different numbers of items."""
    checkpoints, tasks = list(checkpoint_names(rows)), task_names(rows)
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault((tasks[row["task"], split_of(row)], row["metric"]), {})[str(row["checkpoint"])] = row
    all_lines = []
    for (task, metric), by_checkpoint in lines.items():
        n = _range([row["n"] for row in by_checkpoint.values()])
        excluded = _range([excluded_items(row) for row in by_checkpoint.values()])
        cells = [cell(by_checkpoint[name]) if name in by_checkpoint else "" for name in checkpoints]
        all_lines.append(ResultLine(task, metric, n, "" if excluded == "0" else excluded, cells))
    return all_lines


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(least) if least == most else f"{least}–{most}"


def excluded_items(row: Row) -> int:
    """Items that a row's score leaves out: excluded, or unreadable."""
    protocol = row.get("protocol") or {}
    return sum(count for name in ("excluded", "bad") for count in (protocol.get(name) or {}).values())


def exclusion_lines(rows: Sequence[Row]) -> list[str]:
    """Items that the scores are not over and why, a line a task and reason, as the protocols say it."""
    tasks = task_names(rows)
    lines = []
    for row in rows:
        protocol = row.get("protocol") or {}
        older = [
            f"{count} {reason}" for name in ("excluded", "bad") for reason, count in (protocol.get(name) or {}).items()
        ]
        lines += [
            f"{tasks[row['task'], split_of(row)]}: {sentence}" for sentence in protocol.get("exclusions") or older
        ]
    return list(dict.fromkeys(lines))


def reliance_lines(rows: Sequence[Row]) -> list[str]:
    """The verdict about the image, a line a task and checkpoint, as the protocols say it."""
    tasks, checkpoints = task_names(rows), checkpoint_names(rows)
    verdicts = {}
    for row in rows:
        sentences = (row.get("protocol") or {}).get("reliance")
        if isinstance(sentences, list) and sentences:
            name = f"{tasks[row['task'], split_of(row)]}, {checkpoints[str(row['checkpoint'])]}"
            verdicts[name] = f"{name}: {sentences[0]}"
    return list(verdicts.values())


def leakage_notes(rows: Sequence[Row]) -> list[str]:
    """Overlap of each split with training data, as the protocols count it: a line a task and sentence, with the models that
    it is true of. Of models that others trained there is no line: the mark ? says so."""
    tasks, checkpoints = task_names(rows), checkpoint_names(rows)
    models_of: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        counts = (row.get("protocol") or {}).get("in_train")
        if not isinstance(counts, dict):
            continue
        sentences = [f"not compared with {folder}" for folder in counts.get("unknown") or []]
        if counts.get("compared"):
            names = ("samples", "same_bytes", "same_picture", "same_id", "same_group")
            sentences.insert(0, Leakage(split_of(row), *(counts.get(key, 0) for key in names)).sentence)
        for sentence in [*sentences, *held_out_sentences(row)]:
            models = models_of.setdefault((tasks[row["task"], split_of(row)], sentence), {})
            models[checkpoints[str(row["checkpoint"])]] = None
    return [f"{task}, {shortened(list(models))}: {sentence}" for (task, sentence), models in models_of.items()]


def held_out_sentences(row: Row) -> list[str]:
    """What of the items is of combinations that were held out of training, as the protocol counts it."""
    page = (row.get("protocol") or {}).get("held_out") or {}
    counts = page.get("combinations") or {}
    names = ", ".join(f"{name} ({count})" for name, count in counts.items())
    sentence = f"{page.get('unseen')} of {page.get('items')} items are unseen: held out of training was {names}"
    return [*([sentence] if counts else []), *(page.get("notes") or [])]


def shortened(names: Sequence[str]) -> str:
    """Names for a sentence: the first ones, and how many more there are."""
    remaining = len(names) - MODELS_A_LINE
    return ", ".join(names) if remaining <= 0 else f"{', '.join(names[:MODELS_A_LINE])} and {remaining} more"


def mark_lines(rows: Sequence[Row]) -> list[str]:
    """What each of the marks †, ‡, § and ? of the cells says."""
    marks = dict.fromkeys(trained_mark(row.get("protocol"), row["metric"]) for row in rows)
    return [f"{mark} {LEGEND[mark]}" for mark in LEGEND if mark in marks]
