"""From the command line to typed objects: Hydra composes, OmegaConf checks types, and people get readable messages.

Neither Hydra nor OmegaConf is used outside this package.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvlp.config.assistant import InstructConfig, LlavaConfig, WordsConfig
from medvlp.config.checks import ConfigError, check, suggestion
from medvlp.config.inspection import CheckConfig
from medvlp.config.preparation import PrepConfig
from medvlp.config.schema import (
    AskConfig,
    ClipConfig,
    ContrastiveConfig,
    EvalConfig,
    ExportConfig,
    ModelConfig,
    ObjectiveConfig,
    PartConfig,
    SourceConfig,
    TaskConfig,
    TrainConfig,
)

PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = PACKAGE / "_shipped" if (PACKAGE / "_shipped").is_dir() else PACKAGE.parent
"""Parent of configs/ and recipes/: inside an installed wheel, or the repository."""

OPEN_MAPPINGS: dict[str, type | None] = {"optim.parts.": PartConfig, "data.sources.": SourceConfig, "options.": None}
"""Mappings whose names the schema does not know, with the schema of their values; None: plain values.

`optim.parts.text.lr=1e-5` works whether or not YAML mentions `text`; Hydra would ask for a `+` exactly when it does not,
and would then accept a misspelt field."""

SCHEMAS: dict[str, type] = {"train": TrainConfig, "eval": EvalConfig, "prep": PrepConfig, "export": ExportConfig}
PRIMARY = {"train": "train", "eval": "evaluate", "prep": "prep", "export": "export"}
SCHEMAS["ask"], PRIMARY["ask"] = AskConfig, "ask"
SCHEMAS["check"], PRIMARY["check"] = CheckConfig, "check"
KINDS: dict[str, dict[str, type]] = {"model": {}, "objective": {}}


def register(group: str, kind: str, schema: type) -> None:
    """Make a dataclass the schema of `group` options whose YAML begins with `defaults: [<kind>_schema, _self_]`."""
    KINDS[group][kind] = schema
    ConfigStore.instance().store(group=group, name=f"{kind}_schema", node=schema)


for verb, schema in SCHEMAS.items():
    ConfigStore.instance().store(name=f"{verb}_schema", node=schema)
register("model", "clip", ClipConfig)
register("objective", "contrastive", ContrastiveConfig)
register("model", "llava", LlavaConfig)
register("objective", "instruct", InstructConfig)
register("objective", "words", WordsConfig)


def search_folders() -> list[Path]:
    """Parents of configs/ and recipes/ that are searched: the working folder's own come first, then the shipped ones."""
    here = Path.cwd()
    return (
        [here, SHIPPED] if here != SHIPPED and any((here / n).is_dir() for n in ("configs", "recipes")) else [SHIPPED]
    )


def compose(verb: str, overrides: Sequence[str]) -> Any:
    """The typed, checked configuration of a verb.

    Args:
        verb: train, eval, prep, export or check.
        overrides: `key=value` words as typed on the command line.
    Raises:
        ConfigError: names the key or file, and says how to mend it.
    """
    node, _ = _compose(verb, overrides)
    config = _to_object(node)
    check(config)
    return config


def expand_grid(verb: str, overrides: Sequence[str], multirun: bool) -> list[list[str]]:
    """The cells of a grid as lists of overrides, each with a run_name of its own; one cell where there is no grid.

    A grid is a recipe whose `hydra.sweeper.params` list values, or `--multirun` with `key=a,b` on the command line.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    words = list(overrides)
    if not multirun:
        # A grid's recipe turns multirun on itself; a cell of it, started by us, turns it off again.
        _, hydra = _compose(verb, words)
        if hydra is None or "MULTIRUN" not in str(hydra.get("mode")):
            return [words]
        params = OmegaConf.to_container(hydra.sweeper).get("params") or {}  # type: ignore[union-attr]
    else:
        params = {}
    parser = OverridesParser.create()
    sweep = parser.parse_overrides([f"{key}={value}" for key, value in params.items()] + words)
    swept = [override.get_key_element() for override in sweep if override.is_sweep_override()]
    cells: list[list[str]] = BasicSweeper.split_arguments(sweep, None)[0]
    base = next((w.split("=", 1)[1] for w in words if w.startswith("run_name=")), None)
    if base is None:
        plain = [w for w, o in zip(words, parser.parse_overrides(words), strict=True) if not o.is_sweep_override()]
        base = _compose(verb, plain)[0].get("run_name")
    named = []
    for cell in cells:
        chosen = [word for word in cell if word.split("=", 1)[0] in swept]
        suffix = "__".join(
            re.sub(r"[^A-Za-z0-9.+-]+", "-", w.split("=", 1)[0].split(".")[-1] + "-" + w.split("=", 1)[1])
            for w in chosen
        )
        rest = [word for word in cell if not word.startswith(("run_name=", "hydra."))]
        named.append([*rest, f"run_name={base}__{suffix}", "hydra.mode=RUN"])
    return named


def as_dict(config: Any) -> dict[str, Any]:
    """Plain dicts, lists, strings and numbers: what a checkpoint and config.yaml hold."""
    return dataclasses.asdict(config)


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """A training configuration from `as_dict`'s output, typed again.

    Raises:
        ConfigError: an unknown key, kind or value.
    """
    try:
        node = OmegaConf.structured(TrainConfig)
        for group, bases in KINDS.items():
            kind = values[group]["kind"]
            if kind not in bases:
                raise ConfigError(f"{group}.kind={kind!r} is unknown here; known: {sorted(bases)}")
            node[group] = OmegaConf.structured(bases[kind])
        return _to_object(OmegaConf.merge(node, values))
    except (OmegaConfBaseException, KeyError, TypeError) as error:
        raise ConfigError(f"not a training configuration: {_first_line(error)}") from None


def load_task(name: str) -> TaskConfig:
    """A task by name, from configs/task/ of the working folder or the shipped ones.

    Raises:
        ConfigError: unknown name (with the nearest), or a file that does not fit the schema or its rules (with the key).
    """
    paths = {path.stem: path for root in reversed(search_folders()) for path in (root / "configs/task").glob("*.yaml")}
    if name not in paths:
        raise ConfigError(f"unknown task {name!r}{suggestion(name, list(paths))} Available: {', '.join(sorted(paths))}")
    try:
        task = _to_object(OmegaConf.merge(OmegaConf.structured(TaskConfig), OmegaConf.load(paths[name])))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{paths[name]}: {_first_line(error)}") from None
    check(task)
    return task


def list_options(folder: str) -> dict[str, str]:
    """Names under `recipes` or `configs/<group>`, each with the first comment line of its file."""
    found = {}
    for root in reversed(search_folders()):
        for path in sorted((root / folder).rglob("*.yaml")):
            comments = [
                line[1:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")
            ]
            text = next((line for line in comments if not line.startswith("@")), "")
            found[path.relative_to(root / folder).with_suffix("").as_posix()] = text
    return found


def _compose(verb: str, given: Sequence[str]) -> tuple[DictConfig, DictConfig | None]:
    overrides = list(given)
    for word in overrides:
        key, equals, _ = word.partition("=")
        if not equals or not key or key.startswith("~"):
            raise ConfigError(f"{word!r} is not key=value; see medvlp {verb} --help")
        if key.startswith("+"):
            raise ConfigError(
                f"{word!r}: no key can be added to the schema, and no `+` is needed; `medvlp {verb} --help`"
            )
        if f"{key}." in OPEN_MAPPINGS:
            field = ".<field>" if OPEN_MAPPINGS[f"{key}."] else ""
            raise ConfigError(f"{key} is set name by name, e.g. {key}.<name>{field}=<value>")
    recipe = next((word.split("=", 1)[1] for word in overrides if word.startswith("recipes=")), None)
    if recipe is not None:
        _check_recipe(verb, recipe)
    fixed = [word for word in overrides if not word.startswith(tuple(OPEN_MAPPINGS))]
    try:
        with _hydra():
            node = hydra_compose(PRIMARY[verb], fixed, return_hydra_config=True)
        OmegaConf.set_struct(node, False)
        hydra = node.pop("hydra", None)
        node.pop("recipes", None)
        for override in OverridesParser.create().parse_overrides([word for word in overrides if word not in fixed]):
            _set_named(node, override.get_key_element(), override.value())
        if verb == "train":
            _one_length(node, overrides)
        OmegaConf.resolve(node)
        return node, hydra
    except MissingConfigException as error:
        raise ConfigError(_missing_option(error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_readable(verb, error, overrides)) from None


def _set_named(node: DictConfig, key: str, value: Any) -> None:
    """Set `<mapping>.<name>.<field>`, making the name where it is new."""
    prefix, schema = next(item for item in OPEN_MAPPINGS.items() if key.startswith(item[0]))
    if schema is None:
        OmegaConf.update(node, key, value, force_add=True)
        return
    name, _, rest = key.removeprefix(prefix).partition(".")
    if not rest:
        raise ConfigError(f"{key} takes its fields one by one, e.g. {key}.{dataclasses.fields(schema)[0].name}=...")
    known = [item.name for item in dataclasses.fields(schema)]
    if rest.split(".")[0] not in known:
        raise ConfigError(f"unknown key {key!r}{suggestion(rest, known)} Fields of {prefix}{name}: {', '.join(known)}")
    mapping = OmegaConf.select(node, prefix.rstrip("."))
    if name not in mapping:
        mapping[name] = OmegaConf.structured(schema)
    OmegaConf.update(mapping[name], rest, value)


def _one_length(node: DictConfig, overrides: list[str]) -> None:
    """A length given on the command line replaces the recipe's, whichever of the two that states."""
    limits = ["trainer.max_steps", "trainer.max_epochs"]
    given = [key for key in limits if any(word.startswith(f"{key}=") for word in overrides)]
    if len(given) == 1 and OmegaConf.select(node, given[0]) is not None:
        limits.remove(given[0])
        OmegaConf.update(node, limits[0], None)


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra looking through every search folder, the working folder first.

    `hydra.searchpath` would not do: it comes after the main folder, so a shipped option would hide one's own.
    """
    roots = search_folders()
    first, *others = [path for path in [*(root / "configs" for root in roots), *roots] if path.is_dir()]
    search = create_config_search_path(str(first))
    schema = search.get_path().pop()  # Hydra insists on its being the last
    for path in others:
        search.append("medvlp", f"file://{path}")
    search.get_path().append(schema)
    with initialize_config_dir(str(SHIPPED / "configs"), version_base="1.3"):
        GlobalHydra.instance().clear()
        Hydra.create_main_hydra2("medvlp", search)
        yield


def _to_object(node: Any) -> Any:
    missing = sorted(OmegaConf.missing_keys(node))
    if missing:
        raise ConfigError(f"{missing[0]} is not set; give {missing[0]}=<value>" + _group_hint(missing[0]))
    try:
        return OmegaConf.to_object(node)
    except OmegaConfBaseException as error:
        raise ConfigError(_first_line(error)) from None


def _group_hint(key: str) -> str:
    options = {} if "." in key else list_options(f"configs/{key}")
    return f". Options: {', '.join(sorted(options))}" if options else ""


def _check_recipe(verb: str, name: str) -> None:
    paths = [root / "recipes" / f"{name}.yaml" for root in search_folders()]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        known = sorted(list_options("recipes"))
        raise ConfigError(f"unknown recipe {name!r}{suggestion(name, known)} Available: {', '.join(known)}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    stated = content.get("verb") if isinstance(content, dict) else None
    if stated != verb and (verb, stated) != ("check", "train"):
        said = f"is for `medvlp {stated}`" if stated else "does not say `verb: " + verb + "`"
        raise ConfigError(f"recipe {name!r} ({path}) {said}, but this is `medvlp {verb}`")


def _missing_option(error: MissingConfigException) -> str:
    wanted = (error.missing_cfg_file or "").strip("/")
    group, _, option = wanted.rpartition("/")
    options = sorted(o for o in (error.options or list_options(f"configs/{group}")) if not o.endswith("_schema"))
    return f"{group}={option}: no such option{suggestion(option, options)} Available: {', '.join(options)}"


def _readable(verb: str, error: Exception, overrides: list[str]) -> str:
    """Hydra's and OmegaConf's messages name the key somewhere in three lines; say it in one, with the nearest key."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)  # type: ignore[arg-type]
    text = "\n".join(str(link) for link in chain)
    full = re.search(r"full_key: (\S+)", text)
    unknown = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is not in struct|not in)", text)
    if unknown:
        key = full.group(1) if full else unknown.group(1) or unknown.group(2)
        known = _all_keys(verb)
        if key in known:
            group = key.split(".")[0]
            return f"{key} is not a key of the chosen {group}; `medvlp {verb} --help` lists each option's keys"
        return f"unknown key {key!r}{suggestion(key, known)} `medvlp {verb} --help` lists the keys"
    reason = next((line for link in reversed(chain) for line in str(link).splitlines() if line.strip()), str(error))
    if full:
        words = [word.lstrip("+") for word in overrides]
        given = next((word for word in words if word.split("=", 1)[0] == full.group(1)), full.group(1))
        return f"{given}: {reason}"
    return reason


def _all_keys(verb: str) -> list[str]:
    types: list[tuple[str, type]] = [("", SCHEMAS[verb])]
    keys = []
    while types:
        prefix, schema = types.pop()
        for item in dataclasses.fields(schema):
            name = prefix + item.name
            keys.append(name)
            if dataclasses.is_dataclass(item.type):
                options = (
                    KINDS.get(item.name, {}).values() if item.type in (ModelConfig, ObjectiveConfig) else [item.type]
                )
                types += [(name + ".", option) for option in options]  # type: ignore[misc]
    return keys


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    full = next((line.split(":", 1)[1].strip() for line in text if line.strip().startswith("full_key:")), "")
    return (f"{full}: " if full else "") + (text[0] if text else type(error).__name__)
