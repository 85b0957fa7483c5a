"""open_clip's own training loop, `train_one_epoch`, over batches that are there already."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn


class Batches:
    """Batches of images and tokens, as open_clip's loop counts them."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.pairs, self.num_batches, self.num_samples = pairs, len(pairs), sum(len(tokens) for _, tokens in pairs)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.pairs)


def train_epoch(
    model: nn.Module,
    pairs: Sequence[tuple[Tensor, Tensor]],
    loss: nn.Module,
    optimizer: Any,
    accum_freq: int = 1,
    scheduler: Callable[[int], object] | None = None,
) -> None:
    """One epoch in fp32 on one process.

    Args:
        pairs: batches of images, normalised, and tokens.
        accum_freq: batches of a step.
        scheduler: step → None, sets the rates of the optimizer's groups; without one they stay.
    """
    from open_clip_train.train import train_one_epoch

    options = Namespace(
        device="cpu",
        precision="fp32",
        distill=False,
        accum_freq=accum_freq,
        skip_scheduler=scheduler is None,
        grad_clip_norm=None,
        horovod=False,
        log_every_n_steps=10**9,
        batch_size=len(pairs[0][1]),
        world_size=1,
        rank=0,
        wandb=False,
    )
    data = {"train": SimpleNamespace(set_epoch=lambda epoch: None, dataloader=Batches(pairs))}
    train_one_epoch(model, data, loss, 0, optimizer, None, scheduler, None, options)
