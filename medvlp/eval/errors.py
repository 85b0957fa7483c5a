"""Errors of tasks that cannot be measured, and of records that cannot be read."""

from medvlp.errors import UserError


class TaskError(UserError):
    """A task does not fit its data or its model; the message says what was found, and what to change."""


class PromptTooLong(TaskError):
    """A prompt with its answer takes more tokens than the model has positions for."""


class RecordsError(UserError):
    """Records of an evaluation do not hold what is computed from them; the message says which, and what to do."""
