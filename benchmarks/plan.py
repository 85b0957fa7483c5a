"""Predicted against measured steps on this CPU, for models, batches and numbers of ranks that were not calibrated on.

Two constants of the towers (FLOP/s, and bytes/s of what they keep for backward) come from two small models, the loss's FLOP/s
from one loss, the optimizer's bytes/s from one update, and the link's from one exchange of two processes. Measured is the CPU
time of a rank's whole step: the least of several, because other work on the machine only adds. The model is never fitted to
what it predicts.
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache

import open_clip
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.measure import report
from medvlp.costs.counts import TowerCounts, bytes_of, count_tower
from medvlp.costs.devices import Machine
from medvlp.costs.step import Step, seconds_of
from medvlp.losses import Pairs, contrastive_loss

SIDE, CONTEXT, VOCABULARY, ROUNDS = 64, 32, 1000, 5
CALIBRATED = ((64, 2, 32), (256, 3, 32))
"""Width, layers and pairs of the steps that give the constants."""
PREDICTED = ((128, 4, 16, 1), (128, 4, 96, 1), (384, 4, 16, 1), (384, 4, 64, 1), (128, 4, 64, 2), (384, 4, 64, 2))
"""Width, layers, pairs and ranks of those that are predicted."""


class Steps(nn.Module):
    """A CLIP and its loss, as one module for DDP."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        vision = {"image_size": SIDE, "layers": layers, "width": width, "head_width": 32, "patch_size": 8}
        text = {
            "context_length": CONTEXT,
            "vocab_size": VOCABULARY,
            "width": width,
            "heads": width // 32,
            "layers": layers,
        }
        self.model, self.loss = open_clip.CLIP(width, vision, text), contrastive_loss("info_nce", {})

    def forward(self, images_BCHW: Tensor, tokens_BL: Tensor) -> Tensor:
        image_BD, text_BD = self.model.encode_image(images_BCHW), self.model.encode_text(tokens_BL)
        return self.of_features(nn.functional.normalize(image_BD, dim=-1), nn.functional.normalize(text_BD, dim=-1))

    def of_features(self, image_BD: Tensor, text_BD: Tensor) -> Tensor:
        ids_B = torch.arange(len(image_BD)) + len(image_BD) * (dist.get_rank() if dist.is_initialized() else 0)
        scale = self.model.logit_scale.exp()
        return self.loss(
            Pairs(image_BD=image_BD, text_BD=text_BD, logit_scale=scale, logit_bias=None, text_ids_B=ids_B)
        )


def least(run: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU seconds of this process, the least of several after one that is not counted."""
    run()
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def step_run(width: int, layers: int, pairs: int) -> Callable[[], None]:
    """A step of a rank's pairs: forward, backward, optimizer."""
    steps: nn.Module = Steps(width, layers)
    optimizer = torch.optim.AdamW(steps.parameters(), lr=1e-4)
    module = DistributedDataParallel(steps) if dist.is_initialized() else steps
    images, tokens = torch.rand(pairs, 3, SIDE, SIDE), torch.randint(1, VOCABULARY, (pairs, CONTEXT))

    def run() -> None:
        optimizer.zero_grad()
        module(images, tokens).backward()
        optimizer.step()

    return run


@cache
def counts(width: int, layers: int) -> tuple[TowerCounts, TowerCounts]:
    """Of the image and of the text tower."""
    with torch.device("meta"):
        model = Steps(width, layers).model
        parameters = list(model.parameters())
        vision = count_tower(lambda batch: model.encode_image(torch.zeros(batch, 3, SIDE, SIDE)), parameters)
        text = count_tower(lambda batch: model.encode_text(torch.ones(batch, CONTEXT, dtype=torch.int64)), parameters)
    return vision, text


def step_of(width: int, layers: int, pairs: int, ranks: int = 1) -> Step:
    vision, text = counts(width, layers)
    with torch.device("meta"):
        size = bytes_of([Steps(width, layers)])
    return Step(vision, text, size, pairs, ranks, 1, width, SIDE, pairs, 0)


def calibrated(link: float) -> Machine:
    """What this machine reaches."""
    width, rows = 128, 512
    features = [nn.functional.normalize(torch.randn(rows, width), dim=-1).requires_grad_() for _ in range(2)]
    steps = Steps(width, 1)
    loss = 8 * rows * rows * width / least(lambda: steps.of_features(*features).backward())
    parameter = nn.Parameter(torch.randn(4_000_000))
    parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.AdamW([parameter])
    memory = 7 * parameter.nbytes / least(optimizer.step)
    rows_of = []
    for calibration in CALIBRATED:
        step = step_of(*calibration)
        remainder = seconds_of(step, Machine(1e30, loss, None, memory, link, 1e30))["step"]
        rows_of.append((step.tower_flops, step.activations, least(step_run(*calibration)) - remainder))
    matrix = torch.tensor([row[:2] for row in rows_of], dtype=torch.float64)
    constants = torch.linalg.solve(matrix, torch.tensor([row[2] for row in rows_of], dtype=torch.float64))
    compute, traffic = (float(1 / value) if value > 0 else 1e30 for value in constants)
    return Machine(compute, loss, traffic, memory, link, 1e30)


def rank_main(rank: int, address: str, results: str) -> None:
    """A rank of two: the link's bytes/s, then the steps that are predicted."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    values = torch.randn(4_000_000)
    seconds = [values.nbytes / least(lambda: dist.all_reduce(values))]
    for width, layers, pairs, ranks in PREDICTED:
        if ranks == 2:
            seconds.append(least(step_run(width, layers, pairs // 2)))
    torch.save(torch.tensor(seconds, dtype=torch.float64), f"{results}{rank}")
    dist.destroy_process_group()


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = os.path.join(folder, "rank")
        mp.spawn(rank_main, (os.path.join(folder, "address"), results), nprocs=2)
        ranks = torch.stack([torch.load(f"{results}{rank}", weights_only=True) for rank in range(2)])
    machine = calibrated(float(ranks[:, 0].mean()))
    of_two = iter(ranks[:, 1:].mean(0).tolist())
    rows = [
        (
            "towers",
            f"{machine.compute / 1e9:.1f} GFLOP/s, and {(machine.activations or 0) / 1e9:.2f} GB/s of what is kept",
        ),
        ("loss", f"{machine.loss / 1e9:.1f} GFLOP/s"),
        ("optimizer, link", f"{machine.memory / 1e9:.2f} GB/s, {machine.link / 1e9:.2f} GB/s"),
    ]
    errors = {}
    for width, layers, pairs, count in PREDICTED:
        measured = least(step_run(width, layers, pairs)) if count == 1 else next(of_two)
        seconds = seconds_of(step_of(width, layers, pairs, count), machine)["step"]
        name = f"width {width}, {layers} layers, {pairs} pairs, {count} rank{'s' * (count > 1)}"
        errors[name] = seconds / measured - 1
        rows.append(
            (name, f"predicted {1e3 * seconds:8.1f} ms, measured {1e3 * measured:8.1f} ms, {errors[name]:+.1%}")
        )
    worst = max(errors.values(), key=abs)
    rows.append(("largest error", f"{worst:+.1%}"))
    report("plan", rows, {"errors": errors, "largest_error": worst})
    return 0


if __name__ == "__main__":
    sys.exit(main())
