"""From the command line to typed objects: Hydra composes, OmegaConf checks types, and people get readable messages.

Neither Hydra nor OmegaConf is used outside this package.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medvlp.config.assistant import InstructConfig, LlavaConfig, WordsConfig
from medvlp.config.checks import ConfigError, check, check_name, suggestion
from medvlp.config.inspection import CheckConfig
from medvlp.config.overrides import field_types, parsed, value_of
from medvlp.config.preparation import PrepConfig
from medvlp.config.schema import (
    AskConfig,
    ClipConfig,
    ContrastiveConfig,
    EvalConfig,
    ExportConfig,
    PartConfig,
    SourceConfig,
    TaskConfig,
    TrainConfig,
)
from medvlp.config.yaml_files import CheckedSource, check_recipe, first_comment, read_mapping

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
GROUPS = {
    "train": ("data", "model", "objective", "optim", "trainer", "recipes"),
    "eval": ("recipes",),
    "prep": ("recipes",),
}
GROUPS |= {"check": GROUPS["train"], "export": (), "ask": ()}
"""Keys of a verb whose value names an option, a file of configs/<group>/ or recipes/."""
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
    words = list(overrides)
    params: dict[str, Any] = {}
    if not multirun:
        # A grid's recipe turns multirun on itself; a cell of it, started by us, turns it off again.
        _, hydra = _compose(verb, words)
        if hydra is None or "MULTIRUN" not in str(hydra.get("mode")):
            return [words]
        params = OmegaConf.to_container(hydra.sweeper).get("params") or {}  # type: ignore[union-attr]
    axes: dict[str, list[str]] = {}
    plain = []
    for word in [*(f"{key}={value}" for key, value in params.items()), *words]:
        override = _parsed(verb, word, is_grid=True)
        if not override.is_sweep_override():
            plain.append(word)
        elif override.is_discrete_sweep():
            axes[override.get_key_element()] = list(override.sweep_string_iterator())
        else:
            raise ConfigError(f"{word}: a grid has cells; list its values, e.g. {override.get_key_element()}=1,2")
    base = value_of(plain, "run_name")
    if base is None:
        base = _compose(verb, plain)[0].get("run_name")
    rest = [word for word in plain if not word.startswith(("run_name=", "hydra."))]
    cells = []
    for values in itertools.product(*axes.values()):
        names = [f"{key.split('.')[-1]}-{value}" for key, value in zip(axes, values, strict=True)]
        suffix = "__".join(re.sub(r"[^\w.+-]+", "-", name.replace("'", "")) for name in names)
        chosen = [f"{key}={value}" for key, value in zip(axes, values, strict=True)]
        cells.append([*rest, *chosen, f"run_name={base}__{suffix}", "hydra.mode=RUN"])
    return cells


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
    except (OmegaConfBaseException, KeyError, TypeError, RecursionError) as error:
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
        task = _to_object(OmegaConf.merge(OmegaConf.structured(TaskConfig), read_mapping(paths[name])))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{paths[name]}: {_first_line(error)}") from None
    check(task)
    return task


def list_options(folder: str) -> dict[str, str]:
    """Names under `recipes` or `configs/<group>`, each with the first comment line of its file."""
    found = {}
    for root in reversed(search_folders()):
        for path in sorted((root / folder).rglob("*.yaml")):
            found[path.relative_to(root / folder).with_suffix("").as_posix()] = first_comment(path)
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
    recipe = value_of(overrides, "recipes")
    if recipe is not None:
        _check_recipe(verb, recipe)
    read = {word: _parsed(verb, word) for word in overrides}
    for word, override in read.items():
        if override.is_sweep_override():
            raise ConfigError(
                f"{word}: several values for one key are a grid, which only `medvlp train -m` runs; give one"
            )
    named = [word for word in overrides if word.startswith(tuple(OPEN_MAPPINGS))]
    fixed = [str(read[word].input_line) for word in overrides if word not in named]
    try:
        with _hydra():
            node = hydra_compose(PRIMARY[verb], fixed, return_hydra_config=True)
        OmegaConf.set_struct(node, False)
        hydra = node.pop("hydra", None)
        node.pop("recipes", None)
        for word in named:
            _set_named(node, word.partition("=")[0], read[word].value())
        if verb == "train":
            _one_length(node, overrides)
        OmegaConf.resolve(node)
        return node, hydra
    except MissingConfigException as error:
        raise ConfigError(_missing_option(error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_readable(verb, error, overrides)) from None
    except RecursionError:
        raise ConfigError(
            f"recipe {recipe!r} takes itself as a default, by itself or by one of its own defaults"
        ) from None


def _parsed(verb: str, word: str, is_grid: bool = False) -> Override:
    """An argument as Hydra understands it, read by the type of its field.

    Raises:
        ConfigError: an unknown key, or a value that the field cannot have.
    """
    key, _, value = word.partition("=")
    prefix = next((name for name in OPEN_MAPPINGS if key.startswith(name)), None)
    if prefix is not None:
        schema, field = OPEN_MAPPINGS[prefix], key.rpartition(".")[2]
        fields = {item.name: item.type for item in dataclasses.fields(schema)} if schema else {field: Any}
        # Names of sources and parts are whatever people call them: outside of grids, Hydra does not see them.
        return parsed(word, fields.get(field), is_grid, "" if is_grid else "named")
    if key.startswith("hydra."):
        return parsed(word, None)
    types = field_types(SCHEMAS[verb], KINDS)
    if key in GROUPS[verb]:
        return parsed(word, list[str] if value.startswith("[") else str | None, is_grid)
    mapping = next((name for name in types if key.startswith(f"{name}.") and get_origin(types[name]) is dict), None)
    if key not in types and mapping is None:
        raise ConfigError(_unknown(verb, key))
    return parsed(word, get_args(types[mapping])[1] if mapping else types[key], is_grid)


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
    search = create_config_search_path(f"{CheckedSource.scheme()}://{first}")
    schema = search.get_path().pop()  # Hydra insists on its being the last
    for path in others:
        search.append("medvlp", f"{CheckedSource.scheme()}://{path}")
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
    for part in name.split("/"):  # eval writes to runs/eval/<recipe>
        check_name("recipes", part)
    paths = [root / "recipes" / f"{name}.yaml" for root in search_folders()]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        known = sorted(list_options("recipes"))
        raise ConfigError(f"unknown recipe {name!r}{suggestion(name, known)} Available: {', '.join(known)}")
    stated = check_recipe(path).get("verb")
    if stated != verb and (verb, stated) != ("check", "train"):
        said = f"is for `medvlp {stated}`" if stated else "does not say `verb: " + verb + "`"
        raise ConfigError(f"recipe {name!r} ({path}) {said}, but this is `medvlp {verb}`")


def _missing_option(error: MissingConfigException) -> str:
    wanted = (error.missing_cfg_file or "").strip("/")
    group, _, option = wanted.rpartition("/")
    if group.startswith("recipes/"):
        return f"a recipe says `override /{group.removeprefix('recipes/')}: {option}` in its defaults, with the slash"
    options = sorted(list_options("recipes" if group == "recipes" else f"configs/{group}"))
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
        known = list(field_types(SCHEMAS[verb], KINDS))
        if key in known:
            group = key.split(".")[0]
            return f"{key} is not a key of the chosen {group}; `medvlp {verb} --help` lists each option's keys"
        return _unknown(verb, key)
    lines = [line.strip() for link in reversed(chain) for line in str(link).splitlines() if line.strip()]
    reason = next((line for line in lines if not line.endswith("raised while composing config:")), str(error))
    reason = re.sub(r"^ConfigError raised while resolving interpolation: ", "", reason)
    if full:
        words = [word.lstrip("+") for word in overrides]
        given = next((word for word in words if word.split("=", 1)[0] == full.group(1)), full.group(1))
        return f"{given}: {reason}"
    recipe = value_of(overrides, "recipes")
    return f"recipe {recipe!r}: {reason}" if recipe else reason


def _unknown(verb: str, key: str) -> str:
    """What to say of a key that the schema does not have: a slip, a key without its group, or a source's own option."""
    known = list(field_types(SCHEMAS[verb], KINDS))
    last = key.rpartition(".")[2]
    nested = [name for name in known if name.rpartition(".")[2] == last]
    if get_close_matches(key, known, n=1, cutoff=0.75) or not (nested or "options" in known):
        hint = suggestion(key, known)
    elif nested:
        hint = f"; did you mean {' or '.join(map(repr, nested[:3]))}?"
    else:
        hint = f"; a source's own options are written options.{last}=<value>: `medvlp prep source=<name> --help`."
    return f"unknown key {key!r}{hint} `medvlp {verb} --help` lists the keys"


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    full = next((line.split(":", 1)[1].strip() for line in text if line.strip().startswith("full_key:")), "")
    return (f"{full}: " if full else "") + (text[0] if text else type(error).__name__)
