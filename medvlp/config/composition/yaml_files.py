"""Recipes, options and tasks as files: anyone may have written them, so they are read as data, within bounds."""

import copy
import io
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf

from medvlp.config.composition.renamed import RENAMED_OPTIONS, renamed_option, renamed_values
from medvlp.config.rules import ConfigError

MAX_BYTES = 2**20
MAX_NODES = 50_000
"""Values of a file after its aliases are written out: composing copies them, and nine lines of aliases of aliases are 10^9."""
MAX_DEPTH = 40
ENVIRONMENT = "MEDVLP_DATA"
"""The one variable that a file may refer to: what else an environment holds, keys among them, is no affair of a recipe's."""
PACKAGE_LINE = "# @package _global_"
"""Without it in a recipe's first lines, Hydra would put its values where nobody reads them."""


def read_text(path: Path) -> str:
    """A YAML file's text, bounded in size and in what its aliases make of it.

    Raises:
        ConfigError: names the file, and the line where there is one.
    """
    return _checked_text(path, _bounded_bytes(path))


def _bounded_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} has {len(data)} bytes, expected at most {MAX_BYTES}")
    return data


def _checked_text(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8")
        _check_size(path, text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return text


def read_mapping(path: Path) -> DictConfig:
    """A YAML file that holds a mapping, its references unresolved.

    Raises:
        ConfigError: names the file and what is wrong with it.
    """
    return copy.deepcopy(_mapping(path, _bounded_bytes(path)))


@lru_cache(maxsize=512)
def _mapping(path: Path, data: bytes) -> DictConfig:
    """The mapping of a file's content, which a command reads several times."""
    text = _checked_text(path, data)
    try:
        node = OmegaConf.load(io.StringIO(text))
    except Exception as error:  # PyYAML and OmegaConf raise what they like at a file that nobody vouches for
        raise ConfigError(f"{path}: {' '.join(str(error).split())[:400]}") from None
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{path} holds a list, expected `key: value` lines")
    _check_defaults(path, node)
    return node


def first_comment(path: Path) -> str:
    """The first comment of a file that is about its content; "" where there is none."""
    lines = path.read_bytes()[:MAX_BYTES].decode("utf-8", errors="replace").splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    return next((text for text in comments if not text.startswith("@")), "")


def check_recipe(path: Path) -> DictConfig:
    """A recipe's own values.

    Raises:
        ConfigError: no mapping, or not marked as what holds for the whole configuration.
    """
    node = read_mapping(path)
    if not any(line.split() == PACKAGE_LINE.split() for line in read_text(path)[:512].splitlines()):
        raise ConfigError(f"{path}: the first line of a recipe is `{PACKAGE_LINE}`; without it its values go unread")
    return node


class CheckedSource(FileConfigSource):
    """Hydra's folder of YAML files, each read by `read_mapping`, with options and keys under their present names."""

    @staticmethod
    def scheme() -> str:
        return "checked"

    def load_config(self, config_path: str) -> ConfigResult:
        config_path = self._present(config_path)
        path = self._file(config_path)
        if path.is_file():
            result = ConfigResult(
                provider=self.provider,
                path=f"{self.scheme()}://{self.path}",
                config=read_mapping(path),
                header=self._get_header_dict(read_text(path)[:512]),
            )
        else:
            result = super().load_config(config_path)
        package = [] if result.header["package"] == "_global_" else config_path.split("/")[:-1]
        values = OmegaConf.to_container(result.config, resolve=False)
        renamed = renamed_values(values, package)
        if renamed != values:
            result.config = OmegaConf.create(renamed)
        return result

    def is_config(self, config_path: str) -> bool:
        return bool(super().is_config(self._present(config_path)))

    def _present(self, config_path: str) -> str:
        """The path of an option under its present name, where the old one is no file here."""
        group, _, option = config_path.removesuffix(".yaml").rpartition("/")
        if option not in RENAMED_OPTIONS.get(group, {}) or self._file(config_path).is_file():
            return config_path
        return f"{group}/{renamed_option(group, option)}"

    def _file(self, config_path: str) -> Path:
        return Path(os.path.join(self.path, self._normalize_file_name(config_path)))


class RecipesSource(CheckedSource):
    """A folder with recipes/ in it. Its other folders are no groups of options: they hold data, results, or anything."""

    @staticmethod
    def scheme() -> str:
        return "recipes"

    def is_group(self, config_path: str) -> bool:
        return config_path.split("/")[0] == "recipes" and bool(super().is_group(config_path))


def environment(name: str, default: str | None = None) -> str | None:
    """`${oc.env:MEDVLP_DATA,data}` in a file; no other variable.

    Raises:
        ConfigError: another variable.
    """
    if name != ENVIRONMENT:
        raise ConfigError(f"${{oc.env:{name}}}: a file may refer to no variable of the environment but {ENVIRONMENT}")
    return os.environ.get(name, default)


SourcesRegistry.instance().register(CheckedSource)
SourcesRegistry.instance().register(RecipesSource)
OmegaConf.register_new_resolver("oc.env", environment, replace=True)


def _check_size(path: Path, text: str) -> None:
    """Bounds on depth and on the values that a file has once its aliases are written out, without writing them out."""
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    sizes: dict[str, int | None] = {}
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        line = event.start_mark.line + 1
        size = 1
        if isinstance(event, yaml.CollectionStartEvent):
            if event.anchor:
                sizes[event.anchor] = None
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                raise ConfigError(f"{path}, line {line}: more than {MAX_DEPTH} values inside each other")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
            if anchor:
                sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            anchor_size = sizes.get(event.anchor, 1)
            if anchor_size is None:
                raise ConfigError(f"{path}, line {line}: *{event.anchor} stands inside of what it names")
            size = anchor_size
        elif isinstance(event, yaml.ScalarEvent):
            if event.anchor:
                sizes[event.anchor] = 1
        else:
            continue
        outer, total = open_nodes.pop()
        open_nodes.append((outer, total + size))
        if total + size > MAX_NODES:
            raise ConfigError(
                f"{path}, line {line}: its aliases make more than {MAX_NODES} values of it; write them out"
            )


def _check_defaults(path: Path, node: DictConfig) -> None:
    """Hydra's `defaults` is a list of options, each a name or one `group: name`."""
    if "defaults" not in node:
        return
    defaults = OmegaConf.to_container(node, resolve=False)["defaults"]  # type: ignore[index,call-overload]
    if not isinstance(defaults, list) or not all(_is_default(entry) for entry in defaults):
        raise ConfigError(
            f"{path}: defaults={str(defaults)[:100]!r}, expected a list such as [clip_rocov2, {{override /data: rocov2}}]"
        )


def _is_default(entry: Any) -> bool:
    if isinstance(entry, str):
        return True
    if not isinstance(entry, dict) or len(entry) != 1:
        return False
    name, option = next(iter(entry.items()))
    options: Sequence[Any] = option if isinstance(option, list) else [option]
    return isinstance(name, str) and all(name is None or isinstance(name, str) for name in options)
