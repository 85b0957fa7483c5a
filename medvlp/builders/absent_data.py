"""Data of a task that are not here: which files are needed, from where, and the command that prepares them."""

from medvlp.cli import VERBS
from medvlp.config import ConfigError, TaskConfig
from medvlp.errors import UserError


def advice(task: TaskConfig) -> str:
    """What to do where the task's data are absent: which files are needed, from where, and the command that prepares them."""
    if not task.prep:
        return f"Prepare it with\n  {task.prep_command()}"
    try:
        origin = VERBS["prep"].load().origin_of(task.prep)
    except UserError as error:
        raise ConfigError(f"task {task.name}: prep={task.prep}: {error}") from None
    files = f"It needs of {origin.title}: {origin.files}." if origin.files else f"It needs no files ({origin.title})."
    licence = f" (licence: {origin.licence})" if origin.licence else ""
    page = f"\nThey are at {origin.page}{licence}." if origin.page and origin.files else ""
    return f"{files}{page} Prepare it with\n  {task.prep_command(bool(origin.files))}"
