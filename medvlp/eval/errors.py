"""The error of a task that cannot be measured."""

from medvlp.errors import UserError


class TaskError(UserError):
    """A task does not fit its data or its model; the message says what was found, and what to change."""
