"""Locks of output folders: one living process writes at a time, and only a command of the folder's own kind."""

import errno
import fcntl
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from medvlp.errors import UserError

LOCK = ".lock"
NAMES = {
    "train": "a training run",
    "eval": "an evaluation",
    "prep": "prepared data",
    "export": "an exported model",
    "check": "the findings of a check",
}
FILES = {
    "train": ("checkpoints", "metrics.jsonl", "status.json"),
    "eval": ("results.jsonl",),
    "prep": (".plan.json", "ledger.json", "manifest.json"),
    "export": ("open_clip_config.json", "model.safetensors", "model.safetensors.index.json", "adapter_config.json"),
    "check": ("findings.jsonl",),
}
"""Files by which a folder is known, whatever else became of it."""
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})

_lock_handles: set[int] = set()


class ClaimError(UserError):
    """A folder is in use, or is of another kind; the message names it and says what to do."""


def kind_of(folder: Path) -> str:
    """The verb that made a folder; "" where it is absent, empty, or nobody's that we know."""
    for verb, names in FILES.items():
        if any((folder / name).exists() for name in names):
            return verb
    with suppress(OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, RecursionError):
        verb = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")).get("verb")
        return verb if verb in NAMES else ""
    return ""


def refuse_other_kinds(folder: Path, verb: str, key: str) -> None:
    """Raise ClaimError if a folder is a file, or another verb's.

    Args:
        key: what names the folder, for the message.
    """
    if folder.exists() and not folder.is_dir():
        raise ClaimError(f"{key}={folder} is a file; give a folder")
    kind = kind_of(folder)
    if kind not in ("", verb):
        raise ClaimError(f"{folder} holds {NAMES[kind]}; medvlp {verb} does not write into it: give another {key}")


@contextmanager
def claim(folder: Path, verb: str, key: str = "output", is_shared: bool = False) -> Iterator[None]:
    """Hold a folder against every other process that claims it, and make it if it is not there.

    The lock is flock's on <folder>/.lock: it ends with the process, however that ends. It holds between machines on file
    systems that pass locks on (NFS from version 4, or with lockd; Lustre mounted with flock; not NFS mounted with nolock
    or local_lock). Where there are no locks at all this is said, and the folder is used without. Folders that were made here
    and are still empty at the end go again.

    Args:
        is_shared: with others who share it; they all hold it against those who do not.
    Raises:
        ClaimError: another process holds it, or it is another verb's.
    """
    refuse_other_kinds(folder, verb, key)
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    handle = _lock(folder, verb, key, is_shared)
    _lock_handles.add(handle)
    try:
        yield
    finally:
        with suppress(OSError):
            if not is_shared:
                (folder / LOCK).unlink()
            for path in new_folders:
                path.rmdir()
        _lock_handles.discard(handle)
        os.close(handle)


def _lock(folder: Path, verb: str, key: str, is_shared: bool) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        handle = _open_lock(folder / LOCK)
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(folder / LOCK)):
                if not is_shared:
                    os.truncate(handle, 0)
                    os.write(handle, f"medvlp {verb}, process {os.getpid()} on {socket.gethostname()}".encode())
                return handle
        except FileNotFoundError:
            pass  # its holder took it away with the folder since we opened it
        except OSError as error:
            if error.errno in NO_LOCKS:
                print(
                    f"note: {folder} lies where files cannot be locked: nothing keeps a second {verb} out of it",
                    file=sys.stderr,
                )
                return handle
            holder = os.pread(handle, 200, 0).decode(errors="replace") or "another process"
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise ClaimError(f"{folder} is in use by {holder}; wait for it, or give another {key}") from None
            raise
        os.close(handle)


def _open_lock(path: Path) -> int:
    """The lock's file, and no other: it is written to, and a folder from elsewhere may have a link in its place.

    Raises:
        ClaimError: something else has its name.
    """
    try:
        # Opened to write: network file systems lock nothing else between machines.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise ClaimError(f"{path} is a link or a folder, expected a file of ours: delete it") from None
        raise
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(handle)
        raise ClaimError(f"{path} is no plain file, or has a second name, expected a file of ours: delete it")
    return handle


def _close_in_child() -> None:
    for (
        handle
    ) in _lock_handles:  # a copy of the handle in a loader worker would hold the lock when this process is dead
        os.close(handle)
    _lock_handles.clear()


os.register_at_fork(after_in_child=_close_in_child)
