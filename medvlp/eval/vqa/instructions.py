"""Several instructions or prompt sets: all are measured, the one that does best on validation data gives the scores."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medvlp.eval.statistics.measures import measures
from medvlp.eval.statistics.prompt_sets import BY_SCORES, choice_protocol, choose
from medvlp.eval.task import TaskResult
from medvlp.eval.vqa.scores import MAIN

if TYPE_CHECKING:
    from medvlp.eval.vqa.task import Vqa


def measure_instructions(task: "Vqa", model: Any) -> TaskResult:
    """The result with the chosen instruction, its records with the main scores that every instruction got.

    The choice is by the mean score of the questions of the validation split (`valid_limit` of them); without such a split it
    is the first. Controls are asked with the chosen instruction only.

    Raises:
        TaskError: as `Vqa.run`.
    """
    by_name = {name: replace(of_set, trained=task.trained) for name, of_set in task.prompt_sets.items()} or {
        name: replace(task, instructions={}, question_filter=replace(task.question_filter, instruction=text))
        for name, text in task.instructions.items()
    }
    value_of = _on_valid(task, by_name, model)
    choice_name = choose(value_of) if value_of else next(iter(by_name))
    result = by_name[choice_name].run(model)
    records = {choice_name: result.records}
    for name, task_of_name in by_name.items():
        if name != choice_name:
            records[name] = _alone(task_of_name).run(model).records
    scores_of = {
        name: {record["id"]: record["scores"] for record in of_instruction} for name, of_instruction in records.items()
    }
    for record in result.records:
        record[BY_SCORES] = {
            name: {metric: value for metric, value in scores_of[name].get(record["id"], {}).items() if metric in MAIN}
            for name in by_name
        }
    choice = choice_protocol(choice_name, value_of, "mean score", "the task has no other split to choose on")
    protocol = result.protocol | {"prompt_sets": dict(task.prompt_set_keys or task.instructions)} | choice
    return replace(result, protocol=protocol, metrics=task.bootstrap.measure(measures(result.records, protocol)))


def _on_valid(task: "Vqa", by_name: Mapping[str, "Vqa"], model: Any) -> dict[str, float]:
    """Instruction → the mean score of its answers to the questions of the validation split."""
    if task.valid is None:
        return {}
    value_of = {}
    for name, task_of_name in by_name.items():
        records = (
            replace(_alone(task_of_name), dataset=task.valid, limit=task.valid_limit, trained=None).run(model).records
        )
        value_of[name] = sum(record["score"] or 0.0 for record in records) / len(records)
    return value_of


def _alone(task: "Vqa") -> "Vqa":
    """Without controls and intervals."""
    return replace(task, controls=(), bootstrap=replace(task.bootstrap, resamples=0))
