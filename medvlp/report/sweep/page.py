"""The part of a page that is about an evaluation: from its files to what the template shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medvlp.jsonl import Row
from medvlp.report.run.details import TaskDetails, task_details
from medvlp.report.sweep.calibration import calibrations
from medvlp.report.sweep.cards import cards
from medvlp.report.sweep.curves import step_charts
from medvlp.report.sweep.evaluation import Evaluation
from medvlp.report.sweep.exports import signs_of, write_exports
from medvlp.report.sweep.leaderboard import SHADES, heat_map, leaderboards, span
from medvlp.report.sweep.marks import BEST, LEVEL, Comparisons, Pair, standings, wins_ties_losses
from medvlp.report.sweep.reliability.conditions import condition_tables
from medvlp.report.sweep.reliability.images import blind_models, reliances
from medvlp.report.sweep.scores import Scores, Task, checkpoint_names, label
from medvlp.report.sweep.subgroups import subgroup_tables
from medvlp.report.sweep.tables import exclusion_lines, leakage_notes, result_lines

FEW_MODELS = 4
"""Models whose numbers all stand side by side, open; of more, behind a heading that opens."""
FEW_CELLS = 4
"""Cells that have all their examples on the page; of more, each has fewer."""
PICTURES = 72
"""Pictures of examples on a page of many cells, about ten kilobytes each."""
FEW_EXAMPLES = 4
"""Of each gallery of a page of many cells."""
PAIRS_NAMED = 6
"""Pairs of models named in a line about what was not compared."""


@dataclass(frozen=True)
class Difference:
    """The models of a column next to its best one."""

    task: Task
    label: str
    best: str
    lines: list[tuple[str, str, Pair | None]]
    """(model, its standing, its comparison with the best)."""


@dataclass(frozen=True)
class Uncompared:
    """Pairs of models that were not compared on a task, for one reason."""

    task: str
    lines: list[str]
    """What differs, as the first pair has it."""
    pairs: list[tuple[str, str]]
    skipped: int


@dataclass(frozen=True)
class DataLine:
    """What the numbers of a task were measured on."""

    task: str
    models: int
    samples: str
    n: str
    unique_images: str
    excluded: dict[str, int]
    bad: dict[str, int]


def evaluation_values(folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    """Everything that the template shows of an evaluation; the files for papers and spreadsheets are written next to it."""
    scores, comparisons = Scores(evaluation), Comparisons(evaluation.comparisons)
    boards = leaderboards(scores, comparisons)
    cell_cards, task_cards = cards(scores)
    charts, stepless = step_charts(scores)
    details, skipped = _details(folder, scores)
    pages = reliances(scores)
    return {
        "scores": scores,
        "boards": boards,
        "signs": signs_of(boards),
        "heat_map": heat_map(scores, comparisons) if len(scores.models) > 1 and len(scores.tasks) > 1 else None,
        "shades": SHADES,
        "charts": charts,
        "stepless": stepless,
        "differences": [d for board in boards for d in _differences(scores, comparisons, board)],
        "matrix": _matrix(scores),
        "level": LEVEL,
        "uncompared": _uncompared(scores),
        "reliances": pages,
        "blind": blind_models(pages),
        "conditions": condition_tables(scores),
        "subgroups": subgroup_tables(scores),
        "calibrations": calibrations(scores),
        "details": details,
        "details_skipped": skipped,
        "lines": result_lines(evaluation.results),
        "result_names": list(checkpoint_names(evaluation.results).values()),
        "is_open": len(scores.models) <= FEW_MODELS,
        "remarks": _remarks(scores),
        "exclusions": exclusion_lines(evaluation.results),
        "leakage": leakage_notes(evaluation.results),
        "data": _data_lines(scores),
        "cards": cell_cards,
        "task_cards": task_cards,
        "files": [path.name for path in write_exports(folder, scores, comparisons, boards)],
    }


def _differences(scores: Scores, comparisons: Comparisons, board: Any) -> list[Difference]:
    tables = []
    for column in board.columns:
        task, metric = column.task, column.metric
        if not comparisons.has(task, metric):
            continue
        standing = standings(scores, comparisons, task, metric)
        order = scores.ranked(task, metric)
        best = next((model for model in order if standing.get(model) == BEST), None)
        if best is not None:
            lines = [
                (scores.names[model], standing[model], comparisons.pair(task, metric, best, model))
                for model in order
                if model != best
            ]
            tables.append(Difference(task, column.label, scores.names[best], lines))
    return tables


def _matrix(scores: Scores) -> list[tuple[str, list[tuple[int, int, int] | None]]]:
    """(model, its wins, ties and losses against each model in the same order; None of itself and where nothing was compared);
    empty for two models, whose comparison says the same."""
    counts = wins_ties_losses(scores.evaluation.comparisons)
    models = [model for model in scores.models if model in counts]
    if len(models) < 3:
        return []
    return [(scores.names[model], [counts[model].get(rival) for rival in models]) for model in models]


def _uncompared(scores: Scores) -> list[Uncompared]:
    groups: dict[tuple[str, tuple[str, ...]], tuple[list[str], dict[tuple[str, str], None]]] = {}
    names = {(task.task, task.split): task.name for task in scores.tasks}
    for row in scores.evaluation.comparisons:
        if row["difference"] is None and row["differing"]:
            task = names.get((row["task"], row.get("split") or ""), str(row["task"]))
            pair = scores.names.get(row["a"], str(row["a"])), scores.names.get(row["b"], str(row["b"]))
            lines = tuple(sentence.partition(":")[0] for sentence in row["differing"])
            groups.setdefault((task, lines), (row["differing"], {}))[1][pair] = None
    return [
        Uncompared(task, sentences, list(pairs)[:PAIRS_NAMED], len(list(pairs)[PAIRS_NAMED:]))
        for (task, _), (sentences, pairs) in groups.items()
    ]


def _remarks(scores: Scores) -> list[str]:
    """What of the numbers has to be known next to their marks: metrics that fell out, images that were withheld, weights that
    nobody trained. A line a model and reason, with the tasks."""
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for model in scores.models:
        for task in scores.tasks:
            for remark in _remarks_of(scores.protocol(model, task) or {}):
                groups.setdefault((scores.names[model], remark), {})[task.name] = None
    return [f"{model} on {', '.join(tasks)}: {remark}" for (model, remark), tasks in groups.items()]


def _remarks_of(protocol: Row) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for metric, reason in (protocol.get("omitted") or {}).items():
        reasons.setdefault(str(reason), []).append(label(metric))
    remarks = [f"no {', '.join(names)} ({reason})" for reason, names in reasons.items()]
    if isinstance(protocol.get("images"), str):
        remarks.append(f"images {protocol['images']}")
    if isinstance(protocol.get("untrained"), str):
        remarks.append(protocol["untrained"])
    return remarks


def _data_lines(scores: Scores) -> list[DataLine]:
    lines = []
    for task in scores.tasks:
        protocols = [p for model in scores.models if (p := scores.protocol(model, task)) is not None]
        groups: list[list[Row]] = []
        for protocol in protocols:
            drops = [protocol.get("excluded"), protocol.get("bad")]
            group = next((g for g in groups if [g[0].get("excluded"), g[0].get("bad")] == drops), None)
            groups.append([protocol]) if group is None else group.append(protocol)
        for group in groups:
            samples, n, unique_images = (_counts(group, name) for name in ("samples", "n", "unique_images"))
            excluded, bad = group[0].get("excluded") or {}, group[0].get("bad") or {}
            lines.append(DataLine(task.name, len(group), samples, n, unique_images, excluded, bad))
    return lines


def _counts(protocols: Sequence[Row], name: str) -> str:
    return span([protocol[name] for protocol in protocols if isinstance(protocol.get(name), int)])


def _details(folder: Path, scores: Scores) -> tuple[list[TaskDetails], int]:
    """Examples of cells: of all, where they are few; else of the best model of each task, then of the second, until the
    page has its pictures. And the number of cells without."""
    cells = [(m, task) for m in scores.models for task in scores.tasks if scores.protocol(m, task) is not None]
    few = len(cells) <= FEW_CELLS
    if not few:
        cells = sorted(cells, key=lambda cell: (_position(scores, *cell), scores.tasks.index(cell[1])))
    details: list[TaskDetails] = []
    pictures = 0
    for model, task in cells:
        if not few and pictures >= PICTURES:
            break
        protocol = scores.protocol(model, task) or {}
        detail = task_details(folder, scores.names[model], task.name, protocol, None if few else FEW_EXAMPLES)
        pictures += detail.pictures
        details.append(detail)
    return details, len(cells) - len(details)


def _position(scores: Scores, model: str, task: Task) -> int:
    ranked = scores.ranked(task, task.main[0])
    return ranked.index(model) if model in ranked else len(scores.models)
