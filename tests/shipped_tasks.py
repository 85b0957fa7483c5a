"""The shipped tasks, read once a process: several tests have a case for each."""

from medvlp.config import list_options, load_task

SHIPPED_TASKS = {name: load_task(name) for name in list_options("configs/task")}
"""Name → its configuration; a test that changes one loads its own."""
