"""A preparation's folders: the lock on them, and the plan with which they were begun."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from data_prep.errors import PrepError
from data_prep.plan import PreparationPlan
from medvlp import claims
from medvlp.claims import LOCK
from medvlp.jsonl import encode_json
from medvlp.shards.atomic import PARTIAL, remove_leftovers, write_whole
from medvlp.shards.manifest import LEDGER, PARTS, PLAN


@contextmanager
def claim(output: Path, is_shared: bool) -> Iterator[None]:
    """Hold the folder against every other command. One in which nothing came to be, however that ended, binds nobody.

    is_shared: with the other tasks of an array, each of which does units of its own.
    """
    with ExitStack() as stack:
        try:
            claims.refuse_other_kinds(output, "prep", "output")
            if (
                output.is_dir()
                and not (output / PLAN).exists()
                and any(not p.name.endswith((PARTIAL, LOCK)) for p in output.iterdir())
            ):
                raise PrepError(f"output={output} holds files that no preparation wrote; give a new or an empty folder")
            stack.enter_context(claims.claim(output, "prep", is_shared=is_shared))
        except claims.ClaimError as error:
            raise PrepError(str(error)) from None
        if not is_shared:
            remove_leftovers(output)
            _clear_barren(output)
        try:
            yield
        finally:
            if not is_shared:
                _clear_barren(output)


def _clear_barren(output: Path) -> None:
    """Take away the plan of a preparation of which there is nothing else: no unit was done, or a kill came first."""
    folders = [path for path in output.iterdir() if path.is_dir()]
    if {path.name for path in output.iterdir() if path not in folders} <= {PLAN, LOCK} and all(
        path.name == LOCK for folder in folders for path in folder.iterdir()
    ):
        (output / PLAN).unlink(missing_ok=True)
        for folder in folders:
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


@contextmanager
def parts_folder(output: Path, cache: str) -> Iterator[Path]:
    """Where parts are: inside the output, or in the cache, which several preparations may use at once."""
    folder = Path(cache).absolute() if cache else output / PARTS
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if cache:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_leftovers(folder)
            except BlockingIOError:
                pass  # others are at work here: leftovers may be theirs
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield folder
    finally:
        os.close(handle)


def agree(output: Path, plan: PreparationPlan, cache: str) -> None:
    """Write the plan, or see that the one that the folder was begun with is this one.

    Of an unfinished folder the input may have changed: units are known by what they read.
    """
    path = output / PLAN
    new: dict[str, Any] = {"stages": plan.described(), "tools": plan.tools}
    if path.exists():
        old = read_object(path, stages=list, tools=dict)
        if not old["stages"]:
            old = new
        finished = (output / LEDGER).exists()
        if finished and old["stages"] != new["stages"] and not read_object(output / LEDGER, out=int)["out"]:
            _unfinish(output)  # nothing came of it: another configuration may have its place
            write_whole(path, encode_json(new, indent=1) + b"\n")
            return
        if finished:  # done is done: newer tools would only matter to shards still to be written
            old["tools"] = new["tools"]
        elif _but_input(old["stages"]) == _but_input(new["stages"]):
            old["stages"] = new["stages"]
        if differences := list(_differences(old, new, "")):
            raise PrepError(_invalidated(output, differences, old, plan, cache))
        if finished:
            return
    write_whole(path, encode_json(new, indent=1) + b"\n")


def withdraw_plan(output: Path) -> None:
    """Let another plan have the folder, and the units that are done in it: this one was refused before it decided anything."""
    write_whole(output / PLAN, encode_json({"stages": [], "tools": {}}) + b"\n")


def _unfinish(output: Path) -> None:
    """Take away what makes a folder finished; all else that is there will be written over."""
    splits = read_object(output / LEDGER, splits=dict)["splits"]
    for folder in output.iterdir():  # and nothing else, whatever the ledger calls a split
        if folder.name in splits:
            shutil.rmtree(folder, ignore_errors=True)
    (output / LEDGER).unlink()


def _but_input(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in stage.items() if name != "input"} for stage in stages]


def _invalidated(output: Path, differences: list[str], old: dict[str, Any], plan: PreparationPlan, cache: str) -> str:
    """What changed, what that makes worthless, and what to do."""
    reading = [plan.read, *plan.stages]
    if old["tools"] != plan.tools or _but_input(old["stages"])[: len(reading)] != reading:
        lost = "every unit has to be done again"
    elif any(stage.get("stage") == "read" and stage["input"] != plan.input for stage in old["stages"]):
        lost = "units that read what changed have to be done again"
    else:
        lost = "units stay as they are, splits and shards have to be made again"
    keep = "" if cache or lost.startswith("every") else "; with cache=<folder>, units are kept for other outputs"
    return (
        f"{output} was begun with another configuration:\n  " + "\n  ".join(differences) + f"\n{lost}{keep}: "
        "give a new output folder, or the old configuration"
    )


def _differences(old: Any, new: Any, name_of_parent: str) -> Iterator[str]:
    """Where two plans differ, a line each, by the names that a person knows."""
    if isinstance(old, list) and isinstance(new, list) and [_stage_of(e) for e in old] == [_stage_of(e) for e in new]:
        for old_entry, new_entry in zip(old, new, strict=True):
            yield from _differences(old_entry, new_entry, _stage_of(old_entry) or name_of_parent)
    elif isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(
                old.get(name), new.get(name), f"{name_of_parent}.{name}" if name_of_parent else name
            )
    elif old != new:
        yield f"{name_of_parent}: {_short(old)} there, {_short(new)} now"


def _stage_of(entry: Any) -> str:
    return str(entry.get("stage", "")) if isinstance(entry, dict) else ""


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:12]}…"


def read_object(path: Path, **types: type) -> dict[str, Any]:
    """A JSON object with at least these keys, and values of these types under them; a list is one of objects.

    Raises:
        PrepError: the file is something else.
    """
    try:
        content = json.loads(path.read_bytes())
        missing = types.keys() - content.keys()
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        for name, kind in types.items():
            entries = content[name] if kind is list else ()
            if not isinstance(content[name], kind) or not all(isinstance(entry, dict) for entry in entries):
                raise ValueError(f"{name} is {str(content[name])[:80]!r}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PrepError(f"{path} is damaged ({error}); restore it, or prepare into a new folder") from None
    return dict(content)
