"""Live bytes at the peak, and CPU time, of a contrastive loss and its backward, against open_clip's, by batch.

Bytes are counted as torch allocates and frees them, features and their gradients among them; width 512. Before anything is
measured, loss and gradients are asserted equal (2e-5 relative, single precision). `growth` is by how much more the bytes grow
from the smallest batch to the largest than the features do. open_clip's chunked loss of a later version is not in 3.3.

    python -m benchmarks.loss_memory
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from open_clip.loss import ClipLoss, SigLipLoss
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.measure import interleaved, report
from medvlp.costs.live import LiveBytes
from medvlp.losses import Pairs, contrastive_loss

BATCHES = [int(size) for size in os.environ.get("MEDVLP_BENCHMARK_BATCHES", "256,1024,4096").split(",")]
ROUNDS = int(os.environ.get("MEDVLP_BENCHMARK_ROUNDS", "3"))
WIDTH, TOLERANCE = 512, 2e-5
Leaves = tuple[Tensor, Tensor, Tensor, Tensor]


def leaves_of(batch: int) -> Leaves:
    """Features, scale and bias."""
    generator = torch.Generator().manual_seed(batch)
    image_BD, text_BD = (
        normalize(torch.randn(batch, WIDTH, generator=generator), dim=-1).requires_grad_() for _ in range(2)
    )
    return image_BD, text_BD, torch.tensor(14.0, requires_grad=True), torch.tensor(-5.0, requires_grad=True)


def ours(name: str) -> Callable[[Leaves], Tensor]:
    """A loss of this repository."""
    loss = contrastive_loss(name, {})
    return lambda leaves: loss(
        Pairs(image_BD=leaves[0], text_BD=leaves[1], logit_scale=leaves[2], logit_bias=leaves[3])
    )


LOSSES: dict[str, tuple[Callable[[Leaves], Tensor], Callable[[Leaves], Tensor]]] = {
    "info_nce": (ours("info_nce"), lambda leaves: ClipLoss()(*leaves[:3])),
    "sigmoid": (ours("sigmoid"), lambda leaves: SigLipLoss()(*leaves)),
}
"""Loss → ours, open_clip's."""


def step(function: Callable[[Leaves], Tensor], leaves: Leaves) -> list[Tensor]:
    """The loss and its gradients."""
    loss = function(leaves)
    count = 4 if loss.grad_fn is not None and leaves[3].requires_grad else 3
    gradients = torch.autograd.grad(loss, leaves[:count], allow_unused=True)
    return [loss.detach(), *(gradient for gradient in gradients if gradient is not None)]


def peak(function: Callable[[Leaves], Tensor], batch: int) -> int:
    """Live bytes at the peak of a step, its features among them."""
    leaves = leaves_of(batch)
    with LiveBytes() as live:
        for leaf in leaves:
            live.add(leaf)
        results = step(function, leaves)
        del results
    return live.peak


def assert_equal(name: str, batch: int) -> float:
    """The largest relative difference of loss and gradients; raises AssertionError above TOLERANCE."""
    rows = [step(function, leaves_of(batch)) for function in LOSSES[name]]
    differences = [float((a - b).norm() / b.norm()) for a, b in zip(*rows, strict=True)]
    assert max(differences) < TOLERANCE, (name, batch, differences)
    return max(differences)


def main() -> None:
    torch.set_num_threads(1)
    rows: list[tuple[str, str]] = []
    values: dict[str, dict[str, Any]] = {}
    for name, (our, their) in LOSSES.items():
        peaks: dict[str, list[int]] = {"ours": [], "open_clip": []}
        for batch in BATCHES:
            difference = assert_equal(name, batch)
            leaves = leaves_of(batch)
            seconds = interleaved(
                {"ours": lambda: step(our, leaves), "open_clip": lambda: step(their, leaves)},  # noqa: B023  called here
                ROUNDS,
            )
            for side, function in (("ours", our), ("open_clip", their)):
                peaks[side].append(peak(function, batch))
            sizes = {side: peaks[side][-1] / 2**20 for side in peaks}
            rows.append(
                (
                    f"{name} at {batch}",
                    f"{sizes['ours']:.1f} MiB, open_clip's {sizes['open_clip']:.1f}; CPU {seconds['ours']:.3f} s, open_clip's "
                    f"{seconds['open_clip']:.3f}; equal to {difference:.0e}",
                )
            )
            values[f"{name}_{batch}"] = {"mib": sizes, "cpu_seconds": seconds, "difference": difference}
        values[name] = {
            "growth": {side: sizes[-1] / sizes[0] / (BATCHES[-1] / BATCHES[0]) for side, sizes in peaks.items()}
        }
        growth = values[name]["growth"]
        rows.append(
            (f"{name}: growth over the features'", f"{growth['ours']:.2f}, open_clip's {growth['open_clip']:.2f}")
        )
    report("loss_memory", rows, {**values})


if __name__ == "__main__":
    main()
