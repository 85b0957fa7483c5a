"""The base of every objective's LightningModule: parts, optimizer, random states, and a checkpoint that others can open."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import lightning.pytorch as pl
import torch
import torch._inductor.config as inductor
from torch import Tensor, nn

from medvlp.data.batch import StepBatch
from medvlp.data.pipeline import BatchPipeline
from medvlp.models.layers import freeze_but_last, is_below
from medvlp.models.parts import Parts, freeze, part_of, set_mode
from medvlp.models.weights import weights_hash
from medvlp.training.checkpoints import FORMAT
from medvlp.training.optim import LearningRate, adamw, add_modules
from medvlp.training.sharding import clip, gathered_towers, one_by_one_where_mixed, shard_towers, whole_state
from medvlp.training.steps.averaging import WeightAverage
from medvlp.training.steps.grad_cache import PartedLoss, cached_loss

LOSSES_B = "losses_B"
"""Among values to log: (B,) the loss of each sample, of objectives whose loss is a mean over samples."""


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings of AdamW and its schedule.

    lrs: peaks of parts that have their own. frozen: parts that do not learn. last_blocks: of parts of which only these do.
    layer_decays: of parts, from block to block. ema_decay: of the average of the weights; 0 keeps none.
    """

    lr: float
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    schedule: str
    warmup_steps: int
    final_lr_fraction: float
    lrs: Mapping[str, float] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    last_blocks: Mapping[str, int] = field(default_factory=dict)
    layer_decays: Mapping[str, float] = field(default_factory=dict)
    fused: bool = False
    ema_decay: float = 0.0


class TrainingModule(pl.LightningModule):
    """Base of the objectives. A subclass gives `loss`; everything else is shared.

    The state dict is the model's own, without a prefix, so that its library opens the checkpoint as it is.

    Args:
        model: what is trained and saved.
        parts: its parts by parameter prefix.
        settings: how the parts learn.
        seed: keys the random state of every step.
        total_steps: set by the run before fitting; the schedule's horizon.
    """

    def __init__(self, model: nn.Module, parts: Parts, settings: OptimizerSettings, seed: int) -> None:
        super().__init__()
        self.model, self.parts, self.settings, self.seed = model, parts, settings, seed
        self.total_steps = 1
        self.has_gradients = False
        """Of the parts of the present step, before its backward."""
        self.metadata: dict[str, Any] = {}
        self.auxiliary = nn.ModuleDict()
        """The loss's own modules: trained and saved with the run, no part of the model."""
        freeze(model, parts, settings.frozen)
        self.boundaries = freeze_but_last(model, parts, settings.last_blocks)
        """Part → its greatest frozen depth."""
        self.plain_state: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None
        """From the model's state to one without adapters, which its library opens."""
        self.average: WeightAverage | None = None
        self.saved_average: Mapping[str, Tensor] = {}
        self.last_loss: Tensor | None = None
        self.is_skipped = False
        """The present step leaves the weights as they are."""
        self.train()

    def loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        """(scalar, values to log). The scalar's mean over ranks and over a step's batches is the step's loss."""
        raise TypeError(f"{type(self).__name__} is a training objective without a loss")

    def described(self) -> dict[str, Any]:
        """What a checkpoint says of the auxiliary modules that evaluation needs; plain values."""
        return {}

    def trial_loss(self, batch: Any, parts: int) -> Tensor:
        """The loss of a trial step. parts: batches of this size whose features one loss takes."""
        return self.loss(batch)[0]

    def sample_count(self, batch: Any) -> int:
        """This rank's samples in a batch, for the speed."""
        return len(batch.keys)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        loss, values = self.step_loss(batch) if isinstance(batch, StepBatch) else self.loss(batch)
        self.last_loss = loss.detach()
        return {"loss": loss, "values": values}

    def step_loss(self, batch: StepBatch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """(scalar, values to log) of a whole step in parts, for objectives whose pipeline hands out whole steps."""
        self.zero_grad(set_to_none=True)
        self.has_gradients = True
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        factor = 1.0 if scaler is None else scaler.scale(torch.ones((), device=self.device))
        return cached_loss(cast(PartedLoss, self), batch, factor)

    def optimizer_zero_grad(self, *args: Any, **kwargs: Any) -> None:
        # Lightning calls it between training_step and backward: a step in parts has gradients by then.
        if not self.has_gradients:
            super().optimizer_zero_grad(*args, **kwargs)
        self.has_gradients = False

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # Parts of a step go to the device one by one, as they are needed.
        return (
            batch if isinstance(batch, StepBatch) else super().transfer_batch_to_device(batch, device, dataloader_idx)
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Lightning saves no random states; a state that is a function of (seed, batch, rank) needs no saving.
        torch.manual_seed(self.batch_seed(batch_idx))

    def batch_seed(self, batch_idx: int) -> int:
        """Of this rank's random state before a batch."""
        return (self.seed * 1_000_003 + batch_idx) * 4099 + self.global_rank

    def train(self, mode: bool = True) -> "TrainingModule":
        super().train(mode)
        set_mode(self.model, self.parts, self.settings.frozen, mode)
        for name, module in self.model.named_modules():
            part = part_of(name, self.parts)
            if part in self.boundaries and is_below(name, module, self.boundaries[part]):
                module.training = False
        return self

    @property
    def is_sharded(self) -> bool:
        """Whether ranks have parts of the towers."""
        return self.device_mesh is not None

    def configure_model(self) -> None:
        # Lightning calls it when there are ranks, and before there are optimizers.
        if self.device_mesh is not None:
            shard_towers(self.model, self.parts, self.device_mesh["data_parallel"])

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if self.is_sharded and gradient_clip_val:
            clip(self.parameters(), gradient_clip_val)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        settings = self.settings
        optimizer = adamw(
            self.model,
            self.parts,
            settings.lr,
            settings.lrs,
            settings.weight_decay,
            settings.betas,
            settings.eps,
            settings.layer_decays,
            settings.fused,
        )
        add_modules(optimizer, self.auxiliary, settings.lr, settings.weight_decay)
        one_by_one_where_mixed(optimizer)
        schedule = LearningRate(settings.schedule, settings.warmup_steps, self.total_steps, settings.final_lr_fraction)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.__call__),
                "interval": "step",
            },
        }

    def on_fit_start(self) -> None:
        # Callbacks have not evaluated the weights yet. Of a run that goes on they are the checkpoint's by now, or will be
        # loaded next, which depends on the strategy.
        self.begin_average()

    def begin_average(self) -> None:
        """The average of weights, from the present ones or as it was saved."""
        if self.settings.ema_decay:
            self.average = WeightAverage(self.model, self.settings.ema_decay)
            if self.saved_average:
                self.average.load_state_dict(self.saved_average)
                self.saved_average = {}

    def on_train_start(self) -> None:
        # A checkpoint brings back the rates of its own run's schedule; horizon, warm-up and shape may have changed since.
        scheduler: Any = self.lr_schedulers()
        if scheduler is None:
            return
        restored = [group["lr"] for group in scheduler.optimizer.param_groups]
        rates = [peak * scheduler.lr_lambdas[0](self.global_step) for peak in scheduler.base_lrs]
        scheduler.last_epoch, scheduler._last_lr = self.global_step, list(rates)
        for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        if rates != restored and self.global_rank == 0:
            print(
                f"learning rate after step {self.global_step}: {max(rates):.4g}, by the schedule as it is configured now "
                f"(optim.schedule, optim.warmup_steps, optim.final_lr_fraction, {self.total_steps} steps); "
                f"the checkpoint had {max(restored):.4g}",
                flush=True,
            )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.is_skipped = False
        super().optimizer_step(*args, **kwargs)
        self.constrain()
        if self.average and not self.is_skipped:
            self.average.update(self.global_step + 1)

    @contextmanager
    def as_evaluated(self) -> Iterator[None]:
        """While it lasts, the weights are their averages, where there are any, and whole on every rank."""
        with self.average.in_place() if self.average else nullcontext(), gathered_towers(self.model):
            yield

    def compile_towers(self) -> None:
        """torch.compile the model's parts in place, which keeps their names; the step around them stays eager.

        Random numbers are eager's: a step in parts computes each part twice, in two graphs that must drop the same.
        """
        inductor.fallback_random = True
        for tower in self.model.children():
            tower.compile()

    def constrain(self) -> None:
        """Project the weights back into their allowed range after a step. Nothing by default."""

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        result = self.model.load_state_dict(state_dict, *args, **kwargs)
        if self.average:
            self.begin_average()
        return result

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.average or self.plain_state:
            # Others open, evaluate and export the average, its adapters merged; a run goes on from the weights themselves.
            state = checkpoint["training_weights"] = checkpoint["state_dict"]
            if self.average:
                average = checkpoint["average"] = whole_state(self.average.state_dict())
                state = {name: average.get(name, value).to(value.dtype) for name, value in state.items()}
            checkpoint["state_dict"] = self.plain_state(state) if self.plain_state else state
        checkpoint["medvlp"] = {
            "format": FORMAT,
            **self.metadata,
            **self.described(),
            "weights_sha256": weights_hash(checkpoint["state_dict"]),
        }
        if auxiliary := self.auxiliary.state_dict():
            checkpoint["auxiliary"] = auxiliary

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.auxiliary.load_state_dict(checkpoint.get("auxiliary", {}))
        if "training_weights" in checkpoint:
            self.saved_average = checkpoint.get("average", {})
            checkpoint["state_dict"] = checkpoint["training_weights"]
        # Saved at the end of its horizon, a run that is resumed with a longer one is not at its last batch any more.
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        progress["is_last_batch"] = checkpoint["global_step"] >= self.total_steps


@dataclass
class Objective:
    """What is learned, and from which batches.

    module: the loss with its model.
    pipeline: from shards to batches.
    metadata: what a checkpoint says of the model next to its weights; plain values.
    evaluated: identity → the present weights as tasks use them; None where no task can be run during training.
    """

    module: TrainingModule
    pipeline: BatchPipeline
    metadata: dict[str, Any] = field(default_factory=dict)
    evaluated: Callable[[str], Any] | None = None
