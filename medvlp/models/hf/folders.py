"""Folders of transformers' models: where a reference's files are, which of them decide what the model gives, and what is
never read (pickles, code)."""

import json
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError

from medvlp.models.weights import DAMAGE, SCHEME, WeightsError, first_line, resolve

GGUF = ".gguf"
MODULES, POOLING = "modules.json", "1_Pooling/config.json"
"""Of an encoder that sentence-transformers publishes: its layers, and how a text's vector is made of its tokens."""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
CONTENT = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""Files of a folder that a model is made of; nothing else is fetched, hashed or read."""
CODE_IN = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
"""Files whose `auto_map` names code of the repository."""
LARGEST_JSON = 2**20
"""Bytes of a configuration at most."""


def model_folder(reference: str, revision: str = "", weights: bool = True) -> tuple[Path, str]:
    """The folder of a model, and the name of its GGUF file ("" where it has safetensors).

    reference: a folder, a hub name, `package:<package>/<path>`, or one of these that ends in .gguf. weights: False fetches
    and asks for config.json alone. A folder, package or file never asks the hub. A hub name is asked for once in a process:
    which commit it stands for stays the same until the process ends, and files of this commit that are here are not fetched.

    Raises:
        WeightsError: nothing there, or a hub that cannot be reached; says which files belong where.
    """
    path = Path(resolve(reference)).expanduser()
    if path.name.endswith(GGUF) and (reference.startswith(SCHEME) or path.exists() or path.is_absolute()):
        if not path.is_file():
            raise WeightsError(f"hf:{reference}: no such file")
        return path.parent, path.name
    if path.is_dir():
        if revision:
            raise WeightsError(f"hf:{reference} is a folder on this machine, which has no revision {revision!r}")
        if not (path / "config.json").is_file():
            raise WeightsError(f"hf:{reference}: {_without_config(path)}")
        return path, ""
    if path.exists() or reference.startswith((".", "/", "~")) or not HUB_NAME.fullmatch(reference):
        raise WeightsError(f"hf:{reference}: neither a folder with config.json nor a name on the Hugging Face hub")
    return _from_hub(reference, revision, weights), ""


def _without_config(path: Path) -> str:
    """What a folder without config.json is, and what can be done."""
    if (path / "adapter_config.json").is_file():
        return "an adapter without the model under it; merge it (peft's merge_and_unload) and save the result"
    if (path / "open_clip_config.json").is_file():
        return f"a model in open_clip's format: write open_clip:{path}"
    if (path / "checkpoints").is_dir():
        return f"a run of medvlp train: write {path}, without hf:"
    files = sorted(file.name for file in path.glob(f"*{GGUF}"))
    return f"no config.json in the folder{f'; write hf:{path / files[0]}' if files else ''}"


def _from_hub(name: str, revision: str, weights: bool) -> Path:
    try:
        commit = _commit(name, revision)
        return _snapshot(name, commit.name) if weights else commit
    except (*DAMAGE, Exception) as error:  # its client raises errors of httpx, of its own, and OSError
        version = f" --revision {revision}" if revision else ""
        patterns = " ".join(f"'{pattern}'" for pattern in CONTENT)
        raise WeightsError(
            f"hf:{name}{f'@{revision}' if revision else ''} is not on this machine, and the Hugging Face hub does not give it "
            f"({first_line(error)}). Where the hub can be reached, run\n  hf download {name}{version} --include {patterns}\n"
            f"and copy the folder models--{name.replace('/', '--')} to {constants.HF_HUB_CACHE} (or set HF_HOME), or add "
            f"--local-dir <folder> and name the model hf:<folder>. A model that asks for consent needs `hf auth login` first"
        ) from None


@cache
def _commit(name: str, revision: str) -> Path:
    """The folder of what a revision stands for now, with config.json in it; its name is the commit."""
    return Path(hf_hub_download(name, "config.json", revision=revision or None)).parent


@cache
def _snapshot(name: str, commit: str) -> Path:
    """The same folder with all files that a model is made of."""
    folder = Path(snapshot_download(name, revision=commit, allow_patterns=[*CONTENT], ignore_patterns=["*/*"]))
    if (folder / MODULES).is_file():
        with suppress(EntryNotFoundError):  # where it is missing, the encoder says so
            hf_hub_download(name, POOLING, revision=commit)
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file's object.

    Raises:
        WeightsError: not there, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise WeightsError(f"{path} has more than {LARGEST_JSON} bytes; a configuration has a few thousand")
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read ({first_line(error)})") from None
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds no JSON object")
    return content


def refuse_code(folder: Path, reference: str) -> None:
    """No file of the folder asks for code of its own.

    Raises:
        WeightsError: one does (`auto_map`).
    """
    for name in CODE_IN:
        if (folder / name).is_file() and read_json(folder / name).get("auto_map"):
            raise WeightsError(
                f"hf:{reference}: {name} asks for code of the repository to be run (auto_map), which is never done. Where "
                f"transformers has a class of its own for the model, many repositories have a copy in that form (its name "
                f"often ends in -hf); or remove auto_map in a copy of the folder, if the weights are of transformers' own class"
            )


def content_files(folder: Path, gguf: str = "") -> list[Path]:
    """The files that decide what a model gives, sorted by name.

    Raises:
        WeightsError: no weights among them.
    """
    files = {path for pattern in CONTENT for path in folder.glob(pattern)}
    if gguf:  # transformers reads settings and a tokenizer next to it, but no other weights
        is_weights = (".safetensors", ".safetensors.index.json")
        return sorted({folder / gguf, *(path for path in files if not path.name.endswith(is_weights))})
    if not any(path.suffix == ".safetensors" for path in files):
        pickles = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        hint = (
            f"; {pickles[0]} is a pickle, which is never read: many repositories have a revision with safetensors "
            f"(refs/pr/...), and transformers' save_pretrained writes them"
            if pickles
            else ""
        )
        raise WeightsError(f"{folder}: no safetensors weights{hint}")
    return sorted(files)
