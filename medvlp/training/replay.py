"""A captured step computed again, in one graph and one process: where numbers stop being finite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from medvlp.data.batch import Batch, StepBatch
from medvlp.training.module import TrainingModule
from medvlp.training.steps.capture import batch_from
from medvlp.training.trainer import precision_plugin


@dataclass
class Replay:
    """What a step gives when it is computed again.

    loss: of the step.
    module: the first whose output is not finite while its inputs are; "" where there is none.
    keys: samples with features that are not finite, where the objective has features.
    gradients: parameters whose gradient is not finite.
    """

    loss: float
    module: str = ""
    keys: list[str] = field(default_factory=list)
    gradients: list[str] = field(default_factory=list)

    @property
    def is_finite(self) -> bool:
        """Whether nothing is wrong this time."""
        return bool(torch.isfinite(torch.tensor(self.loss))) and not self.gradients


def replay(
    module: TrainingModule, card: Mapping[str, Any], ranks: Sequence[Mapping[str, Any]], accelerator: str = "auto"
) -> Replay:
    """Compute a captured step: all ranks' features under one loss where the objective has features, otherwise the mean of
    the ranks' losses.

    module: of the run's configuration. card, ranks: as `read_capture` gives them.
    """
    module.load_state_dict(card["state_dict"])
    module.auxiliary.load_state_dict(card["auxiliary"])
    plugin, name = precision_plugin(card["precision"]), card["precision"]
    accumulated = len(ranks[0]["batches"])
    trainer = pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=None if plugin else name,
        plugins=[plugin] if plugin else None,
        accumulate_grad_batches=accumulated,
        logger=False,
        barebones=True,
    )
    module.trainer = trainer
    precision, device = trainer.precision_plugin, trainer.strategy.root_device
    precision.convert_module(module)
    module.to(device).train()
    watch = _Watch(module.model)
    with precision.train_step_context():
        if hasattr(module, "loss_of"):
            loss, keys = _loss_of_features(module, precision, device, ranks)
        else:
            loss, keys = _mean_loss(module, precision, device, ranks), []
        if loss.requires_grad:
            loss.backward()
    watch.end()
    parameters = module.model.named_parameters()
    broken = [name for name, p in parameters if p.grad is not None and not torch.isfinite(p.grad).all()]
    return Replay(float(loss.detach()), watch.first, keys, broken)


def _batches(rank: Mapping[str, Any], precision: Any, device: torch.device) -> list[tuple[int, Batch]]:
    """(seed, batch) of a rank, on the device."""
    return [
        (seed, move_data_to_device(precision.convert_input(batch_from(batch)), device))
        for seed, batch in zip(rank["seeds"], rank["batches"], strict=True)
    ]


def _loss_of_features(
    module: Any, precision: Any, device: torch.device, ranks: Sequence[Mapping[str, Any]]
) -> tuple[Tensor, list[str]]:
    encoded, parts = [], []
    for rank in ranks:
        for seed, batch in _batches(rank, precision, device):
            torch.manual_seed(seed)
            for part in batch.parts if isinstance(batch, StepBatch) else [batch]:
                encoded.append(module.encode(part))
                parts.append(part)
    features = {name: torch.cat([part[name] for part in encoded]) for name in encoded[0]}
    samples: Any = type(parts[0]).joined(parts)
    is_broken_B = torch.stack([~torch.isfinite(value).flatten(1).all(dim=1) for value in features.values()]).any(dim=0)
    keys = [key for key, is_broken in zip(samples.keys, is_broken_B.tolist(), strict=True) if is_broken]
    return module.loss_of(features, samples)[0], keys


def _mean_loss(
    module: TrainingModule, precision: Any, device: torch.device, ranks: Sequence[Mapping[str, Any]]
) -> Tensor:
    losses = []
    for rank in ranks:
        for seed, batch in _batches(rank, precision, device):
            torch.manual_seed(seed)
            losses.append(module.loss(batch)[0])
    return torch.stack(losses).mean()


class _Watch:
    """The first module whose output is not finite while its inputs are."""

    def __init__(self, model: nn.Module) -> None:
        self.first = ""
        self.hooks = [module.register_forward_hook(self._hook(name)) for name, module in model.named_modules() if name]

    def _hook(self, name: str) -> Any:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            if not self.first and not _is_finite(output) and _is_finite(args):
                self.first = name

        return look

    def end(self) -> None:
        for hook in self.hooks:
            hook.remove()


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    if isinstance(value, list | tuple):
        return all(_is_finite(item) for item in value)
    return all(_is_finite(item) for item in value.values()) if isinstance(value, dict) else True
