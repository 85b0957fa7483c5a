"""Keys of a verb: the type of each key's field, and what to say of a key that there is not."""

import dataclasses
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from medvlp.config.composition.overrides import parsed
from medvlp.config.kinds import KINDS, OPEN_MAPPINGS, VERBS
from medvlp.config.rules import ConfigError, suggestion


def field_types(schema: type, prefix: str = "") -> dict[str, Any]:
    """Key → the type of its field, for every key of a schema; a group's keys are those of all its kinds."""
    types: dict[str, Any] = {}
    for item in dataclasses.fields(schema):
        key = prefix + item.name
        types[key] = item.type
        if dataclasses.is_dataclass(item.type):
            options = KINDS[item.name].values() if item.name in KINDS and not prefix else [item.type]
            for option in options:
                types |= field_types(option, f"{key}.")  # type: ignore[arg-type]
    return types


def keys_of(verb: str) -> list[str]:
    """Every key of a verb that the schema knows."""
    return list(field_types(VERBS[verb].config))


def parse_override(verb: str, argument: str, is_grid: bool = False) -> Override:
    """An argument as Hydra understands it, read by the type of its field.

    Raises:
        ConfigError: an unknown key, or a value that the field cannot have.
    """
    key, _, value = argument.partition("=")
    prefix = next((name for name in OPEN_MAPPINGS if key.startswith(name)), None)
    if prefix is not None:
        schema, field = OPEN_MAPPINGS[prefix], key.rpartition(".")[2]
        fields = {item.name: item.type for item in dataclasses.fields(schema)} if schema else {field: Any}
        # Names of sources and parts are whatever people call them: outside of grids, Hydra does not see them.
        return parsed(argument, fields.get(field), is_grid, "" if is_grid else "named")
    if key.startswith("hydra."):
        return parsed(argument, None)
    types = field_types(VERBS[verb].config)
    if key in VERBS[verb].groups:
        return parsed(argument, list[str] if value.startswith("[") else str | None, is_grid)
    mapping = next((name for name in types if key.startswith(f"{name}.") and get_origin(types[name]) is dict), None)
    if key not in types and mapping is None:
        raise ConfigError(unknown_key(verb, key))
    return parsed(argument, get_args(types[mapping])[1] if mapping else types[key], is_grid)


def set_in_mapping(node: DictConfig, key: str, value: Any) -> None:
    """Set `<mapping>.<name>.<field>`, making the name where it is new."""
    prefix, schema = next(item for item in OPEN_MAPPINGS.items() if key.startswith(item[0]))
    if schema is None:
        if OmegaConf.select(node, prefix.rstrip(".")) is None:
            raise ConfigError(f"unknown key {key!r}: what is chosen here has no {prefix.rstrip('.')}")
        OmegaConf.update(node, key, value, force_add=True)
        return
    name, _, field = key.removeprefix(prefix).partition(".")
    if not field:
        raise ConfigError(f"{key} takes its fields one by one, e.g. {key}.{dataclasses.fields(schema)[0].name}=...")
    fields = [item.name for item in dataclasses.fields(schema)]
    if field.split(".")[0] not in fields:
        raise ConfigError(
            f"unknown key {key!r}{suggestion(field, fields)} Fields of {prefix}{name}: {', '.join(fields)}"
        )
    mapping = OmegaConf.select(node, prefix.rstrip("."))
    if name not in mapping:
        mapping[name] = OmegaConf.structured(schema)
    OmegaConf.update(mapping[name], field, value)


def unknown_key(verb: str, key: str) -> str:
    """What to say of a key that the schema does not have: a slip, a key without its group, or a source's own option."""
    keys = keys_of(verb)
    last = key.rpartition(".")[2]
    nested = [name for name in keys if name.rpartition(".")[2] == last]
    if get_close_matches(key, keys, n=1, cutoff=0.75) or not (nested or "options" in keys):
        hint = suggestion(key, keys)
    elif nested:
        hint = f"; did you mean {' or '.join(map(repr, nested[:3]))}?"
    else:
        hint = f"; a source's own options are written options.{last}=<value>: `medvlp prep source=<name> --help`."
    return f"unknown key {key!r}{hint} `medvlp {verb} --help` lists the keys"
