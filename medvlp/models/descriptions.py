"""Checks of model descriptions from outside: the keys and the types that are passed on to other libraries.

A description (an open_clip folder, a JSON file, a checkpoint's metadata) becomes arguments of loaders, and some arguments
run code, read other files or ask the network. So only what is listed here is passed on; of a configuration of
transformers, the fields that its own class declares.
"""

import dataclasses
import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import timm
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from medvlp.models.description_keys import CLIP, CONFIG_EXTRAS, CONFIG_WITHHELD, LONGEST, PREPROCESS, TOKENIZER_KEYS
from medvlp.models.weights import WeightsError

LARGEST = 2**20
"""No number of a description is larger, in either direction."""
DEEPEST = 12
"""Levels of a description."""

NAME = re.compile(r"[\w .:/@+\-]*")


def clip_description(values: Any, origin: str) -> dict[str, Any]:
    """An open_clip architecture (`model_cfg`) that holds nothing but what is listed here, as a copy.

    Args:
        origin: the file that it was read from, for messages.
    Raises:
        WeightsError: names the file, the key and what was expected.
    """
    if values is None:
        refuse(values, "a mapping", origin, "")
    description = checked(values, CLIP, origin)
    for key in ("embed_dim", "vision_cfg", "text_cfg"):
        if description.get(key) is None:
            raise WeightsError(f"{origin}: {key} is missing; expected the `model_cfg` of one of open_clip's models")
    name = description["vision_cfg"].get("timm_model_name")
    if name and not is_timm(name):
        raise WeightsError(
            f"{origin}: vision_cfg.timm_model_name is {name!r}, which is not one of timm's architectures"
        )
    return description


def preprocess_description(values: Any, origin: str) -> dict[str, Any]:
    """open_clip's preprocessing settings (`preprocess_cfg`), as a copy; tuples stay tuples.

    Raises:
        WeightsError: names the file, the key and what was expected.
    """
    return checked(values, PREPROCESS, origin)


def is_timm(name: str) -> bool:
    """Whether timm itself has the architecture; with a scheme it would read another description, from a hub or a folder."""
    return ":" not in name and bool(timm.is_model(name))


def checked(value: Any, rule: Any, origin: str, key: str = "") -> Any:
    """A copy of the value, of which every key and type has been allowed by the rule. None stands for any value.

    Raises:
        WeightsError: an unknown key, or a value of another type.
    """
    if value is None:
        return None
    if isinstance(rule, dict):
        if not isinstance(value, Mapping):
            refuse(value, "a mapping", origin, key)
        unknown = [name for name in value if name not in rule]
        if unknown:
            path = f"{key}.{unknown[0]}" if key else str(unknown[0])
            raise WeightsError(
                f"{origin}: {path[:80]!r} is not a key that a model's description may have here; expected one of "
                f"{', '.join(sorted(rule))}. Take it out if you trust the rest of the file"
            )
        return {
            name: checked(item, rule[name], origin, f"{key}.{name}" if key else name) for name, item in value.items()
        }
    if isinstance(rule, list):
        if not isinstance(value, list | tuple) or len(value) > LONGEST:
            refuse(value, "a short list", origin, key)
        return type(value)(checked(item, rule[0], origin, key) for item in value)
    if isinstance(rule, tuple):
        if all(isinstance(choice, str) for choice in rule):
            return value if value in rule else refuse(value, f"one of {', '.join(rule)}", origin, key)
        alternative = rule[1] if isinstance(value, list | tuple) else rule[0]
        return checked(value, alternative, origin, key)
    if isinstance(rule, range):
        if type(value) is not int or value not in rule:
            refuse(value, f"a whole number below {rule.stop}", origin, key)
        return value
    return scalar(value, rule, origin, key)


def scalar(value: Any, kind: type, origin: str, key: str) -> Any:
    """A number within bounds, a truth value, or a short text without control characters.

    Raises:
        WeightsError: something else.
    """
    if kind is bool and type(value) is bool:
        return value
    if kind is str and type(value) is str and len(value) <= LONGEST and NAME.fullmatch(value):
        return value
    numbers = {int: (int,), float: (int, float)}.get(kind, ())
    if type(value) in numbers and math.isfinite(value) and abs(value) <= LARGEST:
        return value
    words = {bool: "true or false", str: "a short name", int: f"a whole number up to {LARGEST}"}
    return refuse(value, words.get(kind, f"a number up to {LARGEST}"), origin, key)


def refuse(value: Any, expected: str, origin: str, key: str) -> NoReturn:
    """Say what stands there, and what should.

    Raises:
        WeightsError: always.
    """
    assignment = f"{key}={str(value)[:80]!r}" if key else f"{str(value)[:80]!r}"
    raise WeightsError(f"{origin}: {assignment}, expected {expected}")


def plain(value: Any, origin: str, depth: int = 0) -> Any:
    """A copy of what JSON can hold.

    Raises:
        WeightsError: something that JSON cannot hold, or that is nested too deep.
    """
    if depth > DEEPEST:
        raise WeightsError(f"{origin}: more than {DEEPEST} levels")
    if isinstance(value, Mapping):
        return {str(key): plain(item, origin, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, origin, depth + 1) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise WeightsError(f"{origin}: a {type(value).__name__}, expected what JSON can hold")


def only(values: Any, keys: Collection[str] | re.Pattern[str], origin: str) -> dict[str, Any]:
    """The entries with a known key, as plain values.

    Raises:
        WeightsError: no mapping, or values that JSON cannot hold.
    """
    if not isinstance(values, Mapping):
        refuse(values, "a mapping", origin, "")
    is_known = keys.fullmatch if isinstance(keys, re.Pattern) else keys.__contains__
    return {str(key): plain(item, origin) for key, item in values.items() if is_known(str(key))}


def config_description(values: Any, kinds: Collection[str], origin: str) -> dict[str, Any]:
    """A configuration of transformers with the fields that its class declares, and no other.

    Where code is to be found, which kernels to fetch and what a quantiser may load are not among them.

    Args:
        kinds: the model types that are expected.
    Raises:
        WeightsError: another model type, or values that JSON cannot hold.
    """
    kind = values.get("model_type") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in kinds or kind not in CONFIG_MAPPING:
        refuse(kind, f"one of {', '.join(sorted(kinds)[:8])}{', ...' if len(kinds) > 8 else ''}", origin, "model_type")
    declared = {field.name for field in dataclasses.fields(CONFIG_MAPPING[kind])}
    allowed = (declared | CONFIG_EXTRAS.get(kind, set())) - CONFIG_WITHHELD.get(kind, set())
    description = only(values, allowed, origin)
    if "architecture" in description and not is_timm(str(description["architecture"])):
        refuse(description["architecture"], "one of timm's architectures", origin, "architecture")
    return {"model_type": kind, **description}


def assistant_description(values: Any, kind: str, towers: Collection[str], origin: str) -> dict[str, Any]:
    """The configuration of a Llava or FastVlm, its tower's and its language model's included.

    Raises:
        WeightsError: as `config_description`.
    """
    description = config_description(values, (kind,), origin)
    for key, kinds in (("vision_config", towers), ("text_config", tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))):
        description[key] = config_description(values.get(key), kinds, f"{origin}: {key}")
    return description


def tokenizer_files(files: Any, names: Collection[str], origin: str) -> dict[str, str]:
    """A tokenizer's files by name, of which tokenizer_config.json keeps the keys that say how text becomes tokens.

    Args:
        names: which files a tokenizer may have.
    Raises:
        WeightsError: no texts by name, or a tokenizer_config.json that is not JSON.
    """
    if not isinstance(files, Mapping) or not all(isinstance(text, str) for text in files.values()):
        refuse(files, "texts by name", origin, "tokenizer files")
    cleaned = {name: text for name, text in files.items() if name in names}
    if "tokenizer_config.json" in cleaned:
        try:
            config = json.loads(cleaned["tokenizer_config.json"])
        except ValueError as error:
            raise WeightsError(f"{origin}: tokenizer_config.json is not JSON: {error}") from None
        config = only(config, TOKENIZER_KEYS, f"{origin}: tokenizer_config.json")
        cleaned["tokenizer_config.json"] = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    return cleaned
