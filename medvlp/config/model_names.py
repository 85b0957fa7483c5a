"""Names of models, the same in every command: a run's checkpoint, `open_clip:`, `hf:` and `api:`."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from medvlp.config.rules import ConfigError

SCHEMES = ("checkpoint", "open_clip", "hf", "api")

FORMS = """A model is named by
  runs/<run>                                its last checkpoint, or one of its files runs/<run>/checkpoints/*.ckpt
  open_clip:<architecture>[@<tag or file>]  open_clip's own, with random weights where no tag or file is named
  open_clip:<folder>                        in open_clip's format, as `medvlp export` writes it
  open_clip:hf-hub:<name>                   of the Hugging Face hub, in open_clip's format
  hf:<name or folder>[@<revision>]          of transformers
  api:<base url>#<model>                    behind an OpenAI-compatible server, as api:http://localhost:8000/v1#name"""

STEP = re.compile(r"step-(\d+)\.ckpt")
FORMER = "set-aside-"
"""How the names of checkpoints begin that a run has left behind."""
FOREIGN = {"open_clip_config.json": "open_clip:", "config.json": "hf:"}
"""File of a folder that others' libraries open → the scheme by which it is named."""


@dataclass(frozen=True)
class ModelName:
    """A model's name, understood.

    text: as results hold it: what was given, or the path that a pattern or a run folder stands for; a relative one stays so.
    scheme: one of `SCHEMES`.
    target: a checkpoint's file; an architecture, folder or `hf-hub:<name>`; a folder or hub name; `<base url>#<model>`.
    revision: behind the `@`: a tag or file of `open_clip:`, a revision of `hf:`; else "".
    """

    text: str
    scheme: str
    target: str
    revision: str = ""


def parse_model_name(text: str, key: str = "checkpoint") -> ModelName:
    """The one model that a text names. A run folder stands for its last checkpoint, a pattern for its only match.

    key: of the command, for messages.

    Raises:
        ConfigError: not understood, nothing there, or several models; lists the forms.
    """
    names = expand_model_names([text], key)
    if len(names) > 1:
        raise ConfigError(f"{key}={text}: {len(names)} models ({names[0].text}, {names[1].text}, ...); name one")
    return names[0]


def expand_model_names(
    texts: Iterable[str], key: str = "checkpoints", notice: Callable[[str], None] = print
) -> list[ModelName]:
    """The models that texts name, in their order and each once; a pattern stands for all its matches, sorted by name and step.

    notice: is told of each match of a pattern that holds no model.

    Raises:
        ConfigError: as `parse_model_name`; a pattern that matches no model.
    """
    names: dict[tuple[object, ...], ModelName] = {}
    for text in texts:
        for name in _names_of(text, key, notice):
            names.setdefault(_sameness(name), name)
    return list(names.values())


def source_name(source: str, key: str) -> ModelName | None:
    """The model that `init_from`, or the source of a part, names: a checkpoint (which may be there no more), a run folder, or a
    name with a scheme. None of anything else, which its library knows: a hub name, a folder, `timm:`, `package:`.

    Raises:
        ConfigError: as `parse_model_name`.
    """
    if source.partition(":")[0] in SCHEMES[1:]:
        return parse_model_name(source, key)
    if source.endswith(".ckpt") and not glob.has_magic(source):
        return ModelName(source, "checkpoint", os.path.expanduser(source))
    if Path(source).name == "checkpoints" or (Path(source).expanduser() / "checkpoints").is_dir():
        return parse_model_name(source, key)
    return None


def _names_of(text: str, key: str, notice: Callable[[str], None]) -> Iterator[ModelName]:
    scheme, _, target = text.partition(":")
    if scheme in SCHEMES[1:]:
        yield _of_scheme(text, scheme, target, key)
        return
    if not text.strip():
        raise ConfigError(f"{key} is empty. {FORMS}")
    path = os.path.expanduser(text)
    if os.path.exists(path) or not glob.has_magic(path):
        yield _checkpoint(path, key)
        return
    matches = sorted(glob.glob(path, recursive=True), key=_by_step)
    if not matches:
        raise ConfigError(f"{key}={text}: no file or folder matches this pattern. {FORMS}")
    count = 0
    for match in matches:
        try:
            if Path(match).name.startswith(FORMER):
                raise ConfigError(f"{match} belongs to a timeline that its run has left")
            if os.path.isfile(match) and not match.endswith(".ckpt"):
                raise ConfigError(f"{match}: no checkpoint's name (*.ckpt)")
            yield _checkpoint(match, "")
            count += 1
        except ConfigError as error:
            notice(f"{key}={text}: skipped {str(error).partition(FORMS)[0].strip()}")
    if not count:
        raise ConfigError(f"{key}={text}: {len(matches)} files and folders match this pattern, no model among them")


def _of_scheme(text: str, scheme: str, target: str, key: str) -> ModelName:
    """A name with a scheme. Raises ConfigError."""
    if scheme == "api":
        url, _, model = target.partition("#")
        secret = "a query" if "?" in url else "a user name or password" if "@" in _authority(url) else ""
        if secret:  # before any message that quotes it
            raise ConfigError(
                f"{key}: the base url of an api: model holds {secret}, which would stand in the results; a key is given as "
                "OPENAI_API_KEY"
            )
        try:
            parts = urlsplit(url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            is_url = False
        if not is_url or not model:
            raise ConfigError(
                f"{key}={text}: expected api:<base url>#<model>, e.g. api:http://localhost:8000/v1#medgemma"
            )
        return ModelName(text, scheme, target)
    path = os.path.expanduser(target)
    if os.path.exists(path):  # a path may hold an @
        return ModelName(text, scheme, path)
    target, separator, revision = path.rpartition("@") if "@" in path else (path, "", "")
    if not target.removeprefix("hf-hub:") or (separator and not revision):
        raise ConfigError(f"{key}={text}: a name is missing. {FORMS}")
    if target.startswith(("/", "./", "../")) and not os.path.exists(target):
        raise ConfigError(f"{key}={text}: {target}: no such folder. {FORMS}")
    return ModelName(text, scheme, target, os.path.expanduser(revision))


def _authority(url: str) -> str:
    """What stands between the scheme and the path, if there is a scheme."""
    return url.rpartition("://")[2].partition("/")[0]


def _checkpoint(path: str, key: str) -> ModelName:
    """A checkpoint's file, or the last one of a run folder. Raises ConfigError."""
    prefix = f"{key}={path}" if key else path
    if not os.path.exists(path):
        raise ConfigError(f"{prefix}: no such file or folder{_hint(path)}. {FORMS}")
    if os.path.isfile(path):
        return ModelName(path, "checkpoint", path)
    folder = Path(path)
    checkpoints = folder if folder.name == "checkpoints" else folder / "checkpoints"
    if checkpoints.is_dir():
        last = checkpoints / "last.ckpt"
        steps = sorted(
            (p for p in checkpoints.glob("*.ckpt") if STEP.fullmatch(p.name)), key=lambda p: _by_step(str(p))
        )
        if not last.is_file() and not steps:
            raise ConfigError(f"{prefix}: this run has saved no checkpoint yet")
        newest = str(last if last.is_file() else steps[-1])
        return ModelName(newest, "checkpoint", newest)
    for file, scheme in FOREIGN.items():
        if (folder / file).is_file():
            raise ConfigError(f"{prefix}: this folder has no checkpoints, but {file}: write {scheme}{path}")
    runs = sorted(str(p.parent) for p in folder.glob("*/checkpoints"))
    hint = f"; there are runs in it: {', '.join(runs[:3])}; all of them are '{path}/*'" if runs else ""
    raise ConfigError(f"{prefix}: this folder holds no model (a run folder has checkpoints/){hint}. {FORMS}")


def _hint(path: str) -> str:
    """What was probably meant by a path that is not there."""
    if "," in path:
        return "; several are written '[a.ckpt,b.ckpt]'"
    scheme, colon, _ = path.partition(":")
    if colon and re.fullmatch(r"[A-Za-z][\w-]*", scheme):
        return f"; {scheme}: is not one of the schemes {', '.join(f'{name}:' for name in SCHEMES[1:])}"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", path) and not path.endswith(".ckpt"):
        return f"; a model of the Hugging Face hub is hf:{path}"
    return ""


def _by_step(path: str) -> tuple[str, int, int, str]:
    """Sorts step files by step, before other names of theirs: last.ckpt and best.ckpt."""
    folder, file = os.path.split(path)
    match = STEP.fullmatch(file)
    return (folder, 0, int(match[1]), file) if match else (folder, 1, 0, file)


def _sameness(name: ModelName) -> tuple[object, ...]:
    """Equal of two names of one thing: last.ckpt is another name of a step's file."""
    if name.scheme == "checkpoint":
        status = os.stat(name.target)
        return (name.scheme, status.st_dev, status.st_ino)
    return (name.scheme, name.target, name.revision)
