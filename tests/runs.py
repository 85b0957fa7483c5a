"""Training runs of a tiny model, in this process or as a user would start them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from markupsafe import Markup

from medvlp.train import main
from tests.conftest import REPOSITORY

if TYPE_CHECKING:
    from tests.distributed.ranks import Fork


def tiny_words(folder: Path) -> list[str]:
    """Overrides of a tiny CLIP on the split at <folder>/made/train, with the architecture file beside it."""
    return [
        "model=open_clip",
        f"model.name={folder}/tiny-clip.json",
        f"data.sources.made.path={folder}/made/train",
        "data.global_batch_size=8",
        "data.workers=0",
        "data.log_samples=true",
        "optim.lr=2e-3",
        "optim.warmup_steps=2",
        f"run_root={folder}/runs",
        "trainer.max_steps=12",
        "trainer.log_every=1",
        "trainer.checkpoint_every=3",
        "trainer.accelerator=cpu",
    ]


def run_here(words: list[str]) -> int:
    """`medvlp train` in this process."""
    threads = torch.get_num_threads()
    try:
        with patch("medvlp.report.run.charts._svg", _no_picture):
            return main(words)
    finally:
        torch.set_num_threads(threads)


def _no_picture(figure: Any, title: str) -> Markup:
    """In the place of a report's drawn chart: to draw twelve takes longer than such a run; tests/report does."""
    return Markup('<svg role="img"></svg>')


def start(
    words: list[str], ranks: int = 1, module: str = "medvlp.train", folder: Path = REPOSITORY, group: bool = False
) -> subprocess.Popen:
    """`medvlp train` in a process of its own, on one rank or under torchrun. group: in a process group of its own, as a
    terminal makes one."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--standalone"]
    command = [sys.executable, *(launcher if ranks > 1 else []), "-m", module, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads() if ranks == 1 else 1)}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=group,
    )


def finish(process: "subprocess.Popen | Fork", seconds: float = 600) -> tuple[int, str]:
    """Exit code and output; what takes this long hangs."""
    if not isinstance(process, subprocess.Popen):
        return process.finish(seconds)
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def wait_for_step(process: "subprocess.Popen | Fork", run: Path, step: int, seconds: float = 600) -> None:
    """Return as soon as the run has written the keys of a step."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path = run / "samples.jsonl"
        if path.exists() and len(path.read_bytes().splitlines()) >= step:
            return
        if process.poll() is not None:
            raise AssertionError(f"the run ended before step {step}:\n{finish(process)[1]}")
        time.sleep(0.005)
    raise AssertionError(f"the run did not come to step {step} in {seconds} s")


def rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a .jsonl file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    return [row["loss"] for row in rows(run / "metrics.jsonl") if row["split"] == "train"]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """Model weights of a checkpoint."""
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
