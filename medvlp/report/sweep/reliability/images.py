"""Whether a model looks at the image, in words and numbers: its scores with the right image and with others."""

from collections.abc import Sequence
from dataclasses import dataclass

from medvlp.jsonl import Row
from medvlp.report.sweep.leaderboard import interval
from medvlp.report.sweep.scores import Scores, Task, label

CONTROLS = {"shuffled_images": "another sample's image", "blank_image": "a blank image"}
"""Control → the image that was shown instead, in words; the first that a metric has is taken."""
SCORE = "visual_reliance_score"
"""Metric whose interval decides where a task has it; else the differences of the main metrics do."""
MEASURES = {
    SCORE: "visual reliance score",
    "image_sensitivity": "image sensitivity",
    "hallucinated_visual_reasoning_rate": "hallucinated visual reasoning rate",
    "blank_image_retention": "retention with blank images",
}
"""Metric of visual reliance → its heading."""
MOST_SENTENCES = 6
"""Sentences at the top of a page; the table below has all."""


@dataclass(frozen=True)
class Measure:
    """A number about the image. Texts."""

    name: str
    value: str
    interval: str
    is_blind: bool = False
    """Whether it fails to show that the image was looked at."""


@dataclass(frozen=True)
class Reliance:
    """One model on one task."""

    model: str
    task: Task
    ignores: bool
    """Whether nothing shows that the image was looked at."""
    sentences: list[str]
    measures: list[Measure]


def reliances(scores: Scores) -> list[Reliance]:
    """In the order of models and tasks: those with an image control."""
    pages = (_of_cell(scores, model, task) for model in scores.models for task in scores.tasks)
    return [page for page in pages if page is not None]


def _of_cell(scores: Scores, model: str, task: Task) -> Reliance | None:
    differences: list[Measure] = []
    sentences: list[str] = []
    for metric in task.main:
        row = scores.row(model, task, metric)
        for control, words in CONTROLS.items():
            difference = scores.row(model, task, f"{metric}/minus_{control}")
            if row is None or row["value"] is None or difference is None or difference["value"] is None:
                continue
            name = f"{label(metric)}, right image minus {words}"
            differences.append(_measure(name, difference, _is_blind(difference)))
            sentences.append(_sentence(metric, row, difference, words))
            break
    rows = {metric: scores.row(model, task, metric) for metric in MEASURES if metric in task.metrics}
    measures = [
        _measure(MEASURES[metric], row, metric == SCORE and _is_blind(row))
        for metric, row in rows.items()
        if row is not None and row["value"] is not None
    ]
    if not differences and not measures:
        return None
    score = rows.get(SCORE)
    deciding = [_is_blind(score)] if score is not None and score["value"] is not None else []
    ignores = all(deciding or [measure.is_blind for measure in differences] or [False])
    of_protocol = (scores.protocol(model, task) or {}).get("reliance") or []
    return Reliance(scores.names[model], task, ignores, [*of_protocol] or sentences, [*measures, *differences])


def _measure(name: str, row: Row, is_blind: bool) -> Measure:
    return Measure(name, f"{row['value']:.3f}", interval(row), is_blind)


def _is_blind(difference: Row) -> bool:
    """Whether an interval does not lie above 0. Without an interval, only a value that is not above 0 says so."""
    low = difference.get("ci_low")
    return bool((difference["value"] if low is None else low) <= 0)


def _sentence(metric: str, row: Row, difference: Row, words: str) -> str:
    value = difference["value"]
    scored = f"{label(metric)} {row['value']:.3f}, with {words} {row['value'] - value:.3f}; difference {value:+.3f}"
    low, high = difference.get("ci_low"), difference.get("ci_high")
    if low is None or high is None:
        return f"Without an interval it is open whether this model uses the image ({scored}, n = {difference['n']})."
    numbers = f"{scored} [{interval(difference)}], n = {difference['n']}"
    if high < 0:
        return f"This model scores higher with {words} than with the right one ({numbers})."
    if low <= 0:
        return f"There is no sign that this model uses the image ({numbers})."
    return f"This model uses the image ({numbers})."


def blind_models(pages: Sequence[Reliance]) -> list[str]:
    """A sentence for models with tasks on which nothing shows that they look at the image."""
    by_model: dict[str, list[Reliance]] = {}
    for page in pages:
        by_model.setdefault(page.model, []).append(page)
    sentences: list[str] = []
    groups: dict[tuple[int, tuple[str, ...]], list[str]] = {}
    for model, members in by_model.items():
        tasks = tuple(page.task.name for page in members if page.ignores)
        if len(members) == len(tasks) == 1:
            sentences.append(f"{model} on {tasks[0]}: {members[0].sentences[0]}")
        elif tasks:
            groups.setdefault((len(members), tasks), []).append(model)
    for (count, tasks), models in groups.items():
        share = "all" if len(tasks) == count else f"{len(tasks)} of"
        sentences.append(
            f"On {share} {count} tasks ({', '.join(tasks)}) there is no sign that the image is used: the score is not measurably "
            f"better with the right images than with others. {', '.join(models)}."
        )
    surplus = len(sentences) - MOST_SENTENCES
    return (
        sentences
        if surplus <= 0
        else [*sentences[:MOST_SENTENCES], f"{surplus} more such lines are in the table below."]
    )
