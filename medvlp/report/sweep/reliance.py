"""Whether a model looks at the image, in words: its score with the right image next to its score with another one."""

from collections.abc import Sequence
from dataclasses import dataclass

from medvlp.jsonl import Row
from medvlp.report.sweep.leaderboard import interval
from medvlp.report.sweep.scores import Scores, Task, label

CONTROLS = {"shuffled_images": "another sample's image", "blank_image": "a blank image"}
"""Control → the image that was shown instead, in words; the first that a metric has decides."""

MODELS_NAMED = 6
"""Models with a sentence of their own at the top of a page; the table below has all."""


@dataclass(frozen=True)
class Reliance:
    """One metric of one model on one task."""

    model: str
    task: Task
    metric: str
    ignores: bool
    """Whether nothing shows that the image was looked at."""
    sentence: str
    difference: str
    interval: str
    instead: str
    """The image that was shown instead, in words."""


def reliances(scores: Scores) -> list[Reliance]:
    """In the order of models and tasks: the main metrics that have a control."""
    pages = []
    for model in scores.models:
        for task in scores.tasks:
            sentences = (scores.protocol(model, task) or {}).get("reliance") or {}
            for metric in task.main:
                if (page := _of_metric(scores, model, task, metric, sentences.get(metric, ""))) is not None:
                    pages.append(page)
    return pages


def blind_models(pages: Sequence[Reliance]) -> list[str]:
    """A sentence for each model with tasks on which none of its metrics shows that it looks at the image."""
    by_model: dict[str, dict[str, list[Reliance]]] = {}
    for page in pages:
        by_model.setdefault(page.model, {}).setdefault(page.task.name, []).append(page)
    sentences = []
    for model, by_task in by_model.items():
        tasks = [task for task, members in by_task.items() if all(page.ignores for page in members)]
        if tasks:
            words = by_task[tasks[0]][0].instead
            listing = f"all {len(by_task)} tasks ({', '.join(tasks)})" if len(tasks) > 1 else tasks[0]
            name = (
                listing if len(tasks) == len(by_task) else f"{', '.join(tasks)} ({len(tasks)} of {len(by_task)} tasks)"
            )
            sentences.append(
                f"{model} scores as well with {words} on {name}: nothing there shows that it looks at the image."
            )
    surplus = len(sentences) - MODELS_NAMED
    if surplus > 0:
        models = "model" if surplus == 1 else "models"
        sentences[MODELS_NAMED:] = [f"The same holds on tasks of {surplus} more {models}."]
    return sentences


def _of_metric(scores: Scores, model: str, task: Task, metric: str, sentence: str) -> Reliance | None:
    row = scores.row(model, task, metric)
    for control, words in CONTROLS.items():
        difference = scores.row(model, task, f"{metric}/minus_{control}")
        if row is None or row["value"] is None or difference is None or difference["value"] is None:
            continue
        low = difference.get("ci_low")
        ignores = low is not None and low <= 0
        if not sentence:
            sentence = _sentence(scores.names[model], task, metric, row, difference, words)
        return Reliance(
            scores.names[model],
            task,
            metric,
            ignores,
            sentence,
            f"{difference['value']:+.3f}",
            interval(difference),
            words,
        )
    return None


def _sentence(name: str, task: Task, metric: str, row: Row, difference: Row, words: str) -> str:
    scored = f"{label(metric)} {row['value']:.3f}, with {words} {row['value'] - difference['value']:.3f}"
    low, high = difference.get("ci_low"), difference.get("ci_high")
    numbers = f"{scored}; difference {difference['value']:+.3f} [{interval(difference)}], n = {difference['n']}"
    if low is None or high is None:
        scored = f"{scored}; difference {difference['value']:+.3f}, n = {difference['n']}"
        return f"{name} on {task.name}: {scored}. Without an interval it is not said whether the image helps."
    if high < 0:
        return f"{name} answers {task.name} better with {words} than with the right one ({numbers})."
    if low <= 0:
        return f"{name} answers {task.name} as well with {words}: nothing here shows that it looks at the image ({numbers})."
    return f"{name} uses the image on {task.name} ({numbers})."
