"""Several prompt sets of a task: all are measured, the one that does best on validation data gives the scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from medvlp.eval.statistics.measures import measures
from medvlp.eval.statistics.prompt_sets import BY_SCORES, choice_protocol, choose
from medvlp.eval.task import TaskResult


@dataclass(frozen=True)
class PromptSets:
    """Prompt sets, and how one of them is chosen.

    tasks: name → the task with this set, without sets of its own. keys: what they differ in, for the protocol. metric: what the
    choice is by, in words. value_of: a result on validation data → it. main: metrics of a record of which the spread is given.
    without: fields of a task that cost time and do not decide → what replaces them.
    """

    tasks: Mapping[str, Any]
    keys: Mapping[str, Any]
    metric: str
    value_of: Callable[[TaskResult], float]
    main: Sequence[str]
    without: Mapping[str, Any] = field(default_factory=dict)

    def measure(self, task: Any, model: Any) -> TaskResult:
        """The result with the chosen set, its records with the main scores that every set got.

        The choice is on the task's validation split (`valid_limit` items of it); without such a split it is the first set.
        Controls are asked with the chosen set only.

        Raises:
            TaskError: as the task's `run`.
        """
        tasks = {name: replace(of_set, trained=task.trained) for name, of_set in self.tasks.items()}
        value_of = self._on_valid(task, tasks, model)
        choice_name = choose(value_of) if value_of else next(iter(tasks))
        result: TaskResult = tasks[choice_name].run(model)
        records = {choice_name: result.records}
        for name, of_set in tasks.items():
            if name != choice_name:
                records[name] = self._alone(of_set).run(model).records
        scores_of = {name: {record["id"]: record["scores"] for record in of_set} for name, of_set in records.items()}
        for record in result.records:
            record[BY_SCORES] = {
                name: {
                    metric: value
                    for metric, value in scores_of[name].get(record["id"], {}).items()
                    if metric in self.main
                }
                for name in tasks
            }
        choice = choice_protocol(choice_name, value_of, self.metric, "the task has no other split to choose on")
        protocol = result.protocol | {"prompt_sets": dict(self.keys)} | choice
        return replace(result, protocol=protocol, metrics=task.bootstrap.measure(measures(result.records, protocol)))

    def _on_valid(self, task: Any, tasks: Mapping[str, Any], model: Any) -> dict[str, float]:
        """Set → its value on the validation split; nothing without one."""
        if task.valid is None:
            return {}
        on_valid = {"dataset": task.valid, "limit": task.valid_limit, "trained": None}
        return {
            name: self.value_of(replace(self._alone(of_set), **on_valid).run(model)) for name, of_set in tasks.items()
        }

    def _alone(self, task: Any) -> Any:
        """Without controls and intervals."""
        return replace(task, controls=(), bootstrap=replace(task.bootstrap, resamples=0), **self.without)


def mean_score(result: TaskResult) -> float:
    """The mean of the scores of all items."""
    return sum(record["score"] or 0.0 for record in result.records) / len(result.records)
