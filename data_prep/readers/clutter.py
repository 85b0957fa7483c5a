"""Files and folders that systems leave among a publisher's: Mac's "._" copies, .DS_Store, __MACOSX, Thumbs.db, …"""

from __future__ import annotations

from pathlib import Path

COUNTED = ("read", "files passed by: left by a system")
"""How a source's counts call them."""

SYSTEM_FILE = ("hidden_file", "a system left it there; it holds no sample")
"""(reason, detail) of a drop, in sources whose every file is a row."""

_NAMES = frozenset(
    (
        *("__macosx", ".ds_store", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", ".localized"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "icon\r"),
        *(".directory", "@eadir", ".ipynb_checkpoints", "lost+found"),
    )
)


def is_clutter(path: str) -> bool:
    """Whether a path with "/" leads to, or through, what a system left behind."""
    return any(part.startswith("._") or part.lower() in _NAMES for part in path.split("/"))


def glob(folder: Path, pattern: str, ignored: dict[str, int]) -> list[Path]:
    """Paths below a folder that fit a pattern, sorted, without clutter, which is added to what was passed by."""
    matches = sorted(folder.glob(pattern))
    paths = [path for path in matches if not is_clutter(path.relative_to(folder).as_posix())]
    if len(paths) < len(matches):
        ignored[COUNTED[1]] = ignored.get(COUNTED[1], 0) + len(matches) - len(paths)
    return paths
