"""Hydra's and OmegaConf's errors in one readable sentence each."""

import re
from collections.abc import Sequence

from hydra.errors import MissingConfigException

from medvlp.config.composition.keys import keys_of, unknown_key
from medvlp.config.composition.overrides import value_of
from medvlp.config.composition.prepared import prepared_folder
from medvlp.config.composition.search import list_options
from medvlp.config.rules import suggestion


def missing_option(error: MissingConfigException) -> str:
    """What to say of an option that is no file."""
    name = (error.missing_cfg_file or "").strip("/")
    group, _, option = name.rpartition("/")
    if group.startswith("recipes/"):
        return f"a recipe says `override /{group.removeprefix('recipes/')}: {option}` in its defaults, with the slash"
    options = sorted(list_options("recipes" if group == "recipes" else f"configs/{group}"))
    message = f"{group}={option}: no such option{suggestion(option, options)} Available: {', '.join(options)}"
    if group == "data":
        message += f"; or any source that is prepared, but there is no {prepared_folder(option)}"
    return message


def readable(verb: str, error: Exception, overrides: Sequence[str]) -> str:
    """Hydra and OmegaConf name the key somewhere in three lines; this is one, with the nearest key."""
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)  # type: ignore[arg-type]
    text = "\n".join(str(link) for link in chain)
    full = re.search(r"full_key: (\S+)", text)
    unknown = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is not in struct|not in)", text)
    if unknown:
        key = full.group(1) if full else unknown.group(1) or unknown.group(2)
        if key in keys_of(verb):
            group = key.split(".")[0]
            return f"{key} is not a key of the chosen {group}; `medvlp {verb} --help` lists each option's keys"
        return unknown_key(verb, key)
    lines = [line.strip() for link in reversed(chain) for line in str(link).splitlines() if line.strip()]
    reason = next((line for line in lines if not line.endswith("raised while composing config:")), str(error))
    reason = re.sub(r"^ConfigError raised while resolving interpolation: ", "", reason)
    if full:
        arguments = [override.lstrip("+") for override in overrides]
        argument = next((text for text in arguments if text.split("=", 1)[0] == full.group(1)), full.group(1))
        return f"{argument}: {reason}"
    recipe = value_of(overrides, "recipes")
    return f"recipe {recipe!r}: {reason}" if recipe else reason


def first_line(error: Exception) -> str:
    """An error's first line, after the key where it names one."""
    text = str(error).strip().splitlines()
    full = next((line.split(":", 1)[1].strip() for line in text if line.strip().startswith("full_key:")), "")
    return (f"{full}: " if full else "") + (text[0] if text else type(error).__name__)
