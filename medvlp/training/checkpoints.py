"""Checkpoints: written whole, read only if they are what was written; which is the newest."""

import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medvlp.errors import UserError
from medvlp.models.weights import weights_hash
from medvlp.shards import ShardError
from medvlp.shards.atomic import whole_file

FORMAT = 1
"""Version of what `medvlp` holds in a checkpoint."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or belongs to something else."""


def save_checkpoint(checkpoint: dict[str, Any], target: Path) -> None:
    """Write a checkpoint next to its target, sync it, and rename it.

    Raises:
        CheckpointError: the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with whole_file(target) as file:
            torch.save(checkpoint, file)
    except (ShardError, RuntimeError) as error:  # torch's archive writer reports a full disk as a RuntimeError
        free = shutil.disk_usage(target.parent).free
        raise CheckpointError(
            f"could not save {target}: {error}. {free / 2**20:.0f} MiB are free there; the earlier checkpoints are "
            f"whole, so make room and go on with resume=auto"
        ) from None


_verified: set[tuple[int, ...]] = set()
"""Files whose bytes and hash this process has compared: (device, inode, size, time of change)."""


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content; nothing but tensors and plain values is accepted.

    Every byte is compared with the archive's CRC-32, and the weights with the hash that the checkpoint states, so that
    `content["medvlp"]["weights_sha256"]` is computed and not believed. A process does so once for a file.

    Raises:
        CheckpointError: no such file, damaged, edited, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file")
    stat = path.stat()
    fingerprint = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    try:
        damaged = zipfile.ZipFile(path).testzip() if fingerprint not in _verified else None
        if damaged is not None:
            raise CheckpointError(f"checkpoint {path} is damaged: {damaged} in it is not what was written")
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile and torch raise BadZipFile, UnpicklingError, RuntimeError, EOFError and more
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        raise CheckpointError(f"checkpoint {path} cannot be read: not a checkpoint, or cut short ({reason})") from None
    if not isinstance(content, dict) or "medvlp" not in content:
        raise CheckpointError(f"checkpoint {path} was not written by medvlp train")
    if lacks := next(misshapen(content), ""):
        raise CheckpointError(f"checkpoint {path} is not as medvlp train writes it: {lacks}")
    if fingerprint not in _verified:
        expected, computed = content["medvlp"]["weights_sha256"], weights_hash(content["state_dict"])
        if expected != computed:
            raise CheckpointError(
                f"checkpoint {path}: its weights are not those that it was saved with (sha256 {computed[:12]}…, it states "
                f"{str(expected)[:12]}…). It was damaged or edited: restore it, or take another checkpoint of the run"
            )
        _verified.add(fingerprint)
    return content


def misshapen(content: Mapping[str, Any]) -> Iterator[str]:
    """What of a checkpoint is not of the type that its readers rely on."""
    state, card = content.get("state_dict"), content["medvlp"]
    if not isinstance(state, dict) or not all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items()):
        yield "state_dict should be tensors by name"
    if not isinstance(card, dict):
        yield f"medvlp should be a dict, it is a {type(card).__name__}"
        return
    if card.get("format") != FORMAT:
        yield f"medvlp.format is {card.get('format')!r}, this medvlp reads {FORMAT}"
    if not isinstance(card.get("weights_sha256"), str):
        yield "medvlp.weights_sha256 should be a string"
    config: Any = card.get("config")
    model = config.get("model") if isinstance(config, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("kind"), str):
        yield "medvlp.config.model.kind should be a string"
    assistant = card.get("assistant", {})
    if not isinstance(assistant, dict) or not isinstance(assistant.get("lora", {}), dict):
        yield "medvlp.assistant and its lora should be dicts"
    step = content.get("global_step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        yield "global_step should be a number of steps"


def check_resumable(path: Path) -> dict[str, Any]:
    """The checkpoint's content, if a run can go on from it.

    Raises:
        CheckpointError: as `load_checkpoint`; weights that are not numbers; parts of a run's state are missing.
    """
    content = load_checkpoint(path)
    broken = first_broken(content["state_dict"].items(), torch.isnan)  # masks may hold infinities
    if broken:
        raise CheckpointError(f"checkpoint {path}: {broken} is not a number (NaN), so the run had diverged before it")
    try:
        progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        needed = [progress["is_last_batch"], progress["current"]["ready"], content["optimizer_states"][0]["state"]]
        needed += [content["optimizer_states"][0]["param_groups"], content["lr_schedulers"][0]]
    except (KeyError, IndexError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {path} holds no run to go on with ({type(error).__name__}: {error}); "
            f"start a new run with init_from={path}"
        ) from None
    return content


def first_broken(tensors: Iterable[tuple[str, Tensor]], is_broken: Callable[[Tensor], Tensor]) -> str:
    """The name of the first tensor with an element that is broken, or ""."""
    floats = ((name, tensor) for name, tensor in tensors if tensor.is_floating_point())
    return next((name for name, tensor in floats if is_broken(tensor).any()), "")


def step_of(path: Path) -> int:
    """The optimizer step that a file name states."""
    return int(path.stem.split("-")[1])


def steps(folder: Path) -> list[Path]:
    """step-NNNNNN.ckpt files, oldest first."""
    return sorted((p for p in folder.glob("step-*.ckpt") if p.stem[5:].isdecimal()), key=step_of)


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that can be resumed from; None where there is none at all.

    Those that cannot are named on the way, and none is overwritten by a fresh start.

    Raises:
        CheckpointError: there are checkpoints, and no run can go on from any of them.
    """
    aliases = [folder / name for name in ("last.ckpt", "best.ckpt") if (folder / name).is_file()]
    problems: list[str] = []
    sound: list[tuple[int, Path]] = []
    for path in [*reversed(steps(folder)), *aliases]:
        if sound and path.name.startswith("step-"):
            continue
        try:
            sound.append((check_resumable(path)["global_step"], path))
        except CheckpointError as error:
            problems.append(str(error))
            print(f"skipped: {error}", flush=True)
    if problems and not sound:
        raise CheckpointError(
            f"resume=auto: no run can go on from the {len(problems)} checkpoints in {folder}; the newest: {problems[0]}. "
            f"Restore one, or choose another run_name"
        )
    return max(sound, key=lambda pair: pair[0])[1] if sound else None
