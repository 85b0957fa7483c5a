"""The tasks for `medvlp list`: by group with the data that each wants, and all that is known of one."""

from collections.abc import Sequence
from pathlib import Path

from medvlp.builders.absent_data import advice
from medvlp.config import ConfigError, TaskConfig, list_options, load_task, suggestion, task_files, task_groups
from medvlp.config.evaluation.task import GROUPS
from medvlp.shards import ShardError, read_manifest

UNGROUPED = "(in no group)"


def group_lines() -> list[str]:
    """Every group with its tasks, a line each: kind, split, data and description. A task in two groups stands in both."""
    tasks = {name: load_task(name) for name in task_files()}
    groups = task_groups()
    if ungrouped := [name for name, task in tasks.items() if not task.groups]:
        groups[UNGROUPED] = ungrouped
    rows = task_rows(tasks)
    widths = [max(map(len, column)) for column in zip(*rows.values(), strict=True)][:-1]
    lines = []
    for group, names in groups.items():
        subject = f"  {GROUPS[group]}" if group in GROUPS else ""
        hint = "  (tasks=[...] means the task of this name)" if group in tasks else ""
        lines += ["", f"{group}{subject}{hint}"]
        for name in names:
            *cells, description = rows[name]
            line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"  {line}  {description}".rstrip())
    return [
        *lines[1:],
        "",
        "tasks=[vqa] runs a group. `medvlp list tasks <name>` says all about a task, and how to get its data.",
    ]


def task_rows(tasks: dict[str, TaskConfig]) -> dict[str, tuple[str, ...]]:
    """Task → its cells: name, kind, split, state of its data, description."""
    descriptions = list_options("configs/task")
    return {name: (name, task.kind, task.split, state_of(task), descriptions[name]) for name, task in tasks.items()}


def state_of(task: TaskConfig) -> str:
    """The folder of a task's data, and whether the split that is scored is prepared there."""
    folder = Path(task.data) / task.split
    try:
        manifest, _ = read_manifest(folder)
    except ShardError:
        if folder.exists():
            return f"{task.data} (unfinished)"
        return f"{task.data} ({f'has no {task.split}' if Path(task.data).is_dir() else 'not prepared'})"
    return f"{task.data} ({manifest.samples:,} samples)"


def detail_lines(names: Sequence[str]) -> list[str]:
    """All that is known of tasks, or of a group's tasks, and what to do where their data are absent.

    Raises:
        ConfigError: no task or group of a name.
    """
    files, groups = task_files(), task_groups()
    lines: list[str] = []
    for name in names:
        if name not in files and name not in groups:
            raise ConfigError(
                f"no task or group {name!r}{suggestion(name, [*files, *groups])} `medvlp list tasks` shows them"
            )
        for task_name in [name] if name in files else groups[name]:
            lines += ["", *_details(task_name, load_task(task_name))]
    return lines[1:]


def _details(name: str, task: TaskConfig) -> list[str]:
    texts = {
        "kind": task.kind,
        "groups": ", ".join(task.groups) or "none",
        "split": f"{task.split} (during training {task.valid_split})",
        "data": state_of(task),
    }
    lines = [f"{name}: {list_options('configs/task')[name]}", *(f"  {key:<7} {text}" for key, text in texts.items())]
    return lines + [f"  {line}" for line in advice(task).splitlines()]
