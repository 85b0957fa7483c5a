"""UserError, the base of every error that the user can fix. Its kinds stand in the rooms that raise them."""


class UserError(Exception):
    """A configuration, a file, a folder or data that the user gave is wrong; they can fix it.

    The message says what was found, where (file, line, key), what was expected and what to do. A verb prints it and ends with
    exit code 1, without a traceback. What is our own fault is never one: a ValueError of our code ends with a traceback.
    """
