"""UserError, the base of every error that the user can fix. Its kinds stand in the rooms that raise them."""


class UserError(Exception):
    """A configuration, a file, a folder or data that the user gave is wrong; they can fix it.

    The message says what was found, where (file, line, key), what was expected and what to do. A verb prints it and ends with
    exit code 1, without a traceback. What is our own fault is never one: a ValueError of our code ends with a traceback.
    """


class UsageError(UserError):
    """Arguments that a verb does not take: exit code 2. The message is all that is printed; without one, the verb's usage is."""


class Fault(Exception):
    """A fault of ours that is fully told by the message, as the errors of worker processes are: exit code 70, no traceback."""
