"""A preparation's folders: who may write to them, and whether they were begun with the same configuration."""

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
from data_prep.plan import Plan
from medvlp import claims
from medvlp.claims import LOCK
from medvlp.jsonl import encode_json
from medvlp.shards.atomic import PARTIAL, remove_leftovers, write_whole
from medvlp.shards.manifest import LEDGER, PARTS, PLAN


@contextmanager
def claim(output: Path, shared: bool) -> Iterator[None]:
    """Hold the folder against every other command. One in which nothing came to be, however that ended, binds nobody.

    shared: with the other tasks of an array, each of which does units of its own.
    """
    with ExitStack() as held:
        try:
            claims.refuse_other_kinds(output, "prep", "output")
            if (
                output.is_dir()
                and not (output / PLAN).exists()
                and any(not p.name.endswith((PARTIAL, LOCK)) for p in output.iterdir())
            ):
                raise PrepError(f"output={output} holds files that no preparation wrote; give a new or an empty folder")
            held.enter_context(claims.claim(output, "prep", shared=shared))
        except claims.ClaimError as error:
            raise PrepError(str(error)) from None
        if not shared:
            remove_leftovers(output)
            _clear_barren(output)
        try:
            yield
        finally:
            if not shared:
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
                pass  # others are at work here: what looks left over may be theirs
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield folder
    finally:
        os.close(handle)


def agree(output: Path, plan: Plan, cache: str) -> None:
    """Write the plan, or see that the one that the folder was begun with is this one.

    Of an unfinished folder the input may have changed: units are known by what they read.
    """
    path = output / PLAN
    now: dict[str, Any] = {"stages": plan.described(), "tools": plan.tools}
    if path.exists():
        begun = read_object(path, stages=list, tools=dict)
        finished = (output / LEDGER).exists()
        if finished and begun["stages"] != now["stages"] and not read_object(output / LEDGER, out=int)["out"]:
            _unfinish(output)  # nothing came of it: another configuration may have its place
            write_whole(path, encode_json(now, indent=1) + b"\n")
            return
        if finished:  # done is done: newer tools would only matter to shards still to be written
            begun["tools"] = now["tools"]
        elif _but_input(begun["stages"]) == _but_input(now["stages"]):
            begun["stages"] = now["stages"]
        if differences := list(_differences(begun, now, "")):
            raise PrepError(_invalidated(output, differences, begun, plan, cache))
        if finished:
            return
    write_whole(path, encode_json(now, indent=1) + b"\n")


def _unfinish(output: Path) -> None:
    """Take away what makes a folder finished; all else that is there will be written over."""
    splits = read_object(output / LEDGER, splits=dict)["splits"]
    for folder in output.iterdir():  # and nothing else, whatever the ledger calls a split
        if folder.name in splits:
            shutil.rmtree(folder, ignore_errors=True)
    (output / LEDGER).unlink()


def _but_input(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in stage.items() if name != "input"} for stage in stages]


def _invalidated(output: Path, differences: list[str], begun: dict[str, Any], plan: Plan, cache: str) -> str:
    """What changed, what that makes worthless, and what to do."""
    reading = [plan.read, *plan.stages]
    if begun["tools"] != plan.tools or _but_input(begun["stages"])[: len(reading)] != reading:
        lost = "every unit has to be done anew"
    elif any(stage.get("stage") == "read" and stage["input"] != plan.input for stage in begun["stages"]):
        lost = "units that read what changed have to be done anew"
    else:
        lost = "units stay as they are, splits and shards have to be made anew"
    keep = "" if cache or lost.startswith("every") else "; with cache=<folder>, units are kept for other outputs"
    return (
        f"{output} was begun with another configuration:\n  " + "\n  ".join(differences) + f"\n{lost}{keep}: "
        "give a new output folder, or the old configuration"
    )


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    """Where two plans differ, a line each, by the names that a person knows."""
    if isinstance(old, list) and isinstance(new, list) and [_named(e) for e in old] == [_named(e) for e in new]:
        for before, now in zip(old, new, strict=True):
            yield from _differences(before, now, _named(before) or where)
    elif isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(old.get(name), new.get(name), f"{where}.{name}" if where else name)
    elif old != new:
        yield f"{where}: {_short(old)} there, {_short(new)} now"


def _named(entry: Any) -> str:
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
        lacking = types.keys() - content.keys()
        if lacking:
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        for name, kind in types.items():
            entries = content[name] if kind is list else ()
            if not isinstance(content[name], kind) or not all(isinstance(entry, dict) for entry in entries):
                raise ValueError(f"{name} is {str(content[name])[:80]!r}")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PrepError(f"{path} is damaged ({error}); restore it, or prepare into a new folder") from None
    return dict(content)
