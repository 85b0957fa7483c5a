"""What an objective brings, and how its parts learn and start."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from medvlp.config import OptimConfig
from medvlp.data.dataset import Dataset, Prepare
from medvlp.data.loader import Collate
from medvlp.data.order import Order
from medvlp.data.plan import Plan, SamplePlan
from medvlp.eval.task import EvaluatedModel
from medvlp.models.parts import Parts, part_of
from medvlp.shards import ShardDataset
from medvlp.training.checkpoints import CheckpointError, load_checkpoint
from medvlp.training.module import Optimisation, Training

View = Callable[[str, ShardDataset], Dataset]
"""(a source's name, its shards) → what the order draws from."""
MakePlan = Callable[[Order, Sequence[Dataset]], Plan]


def plain(name: str, dataset: ShardDataset) -> Dataset:
    """Samples as they are."""
    return dataset


def sample_by_sample(order: Order, sources: Sequence[Dataset]) -> Plan:
    """Every sample fills a place."""
    return SamplePlan(order)


@dataclass
class Experiment:
    """What an objective brings to the training service.

    module: the objective with its model.
    prepare, collate: from sample to batch.
    card: what a checkpoint says of the model beside its weights; plain values.
    evaluated: identity → the present weights as tasks use them, where tasks can be run during training.
    view: a source's shards as what is drawn from them.
    plan: how what is drawn becomes batches.
    replace: put another sample in a bad one's place.
    left_out: what `view` found that is not trained on, for the run's ledger.
    stretch: a batch → as long a one as there may be, for the trial before the first step.
    """

    module: Training
    prepare: Prepare
    collate: Collate
    card: dict[str, Any] = field(default_factory=dict)
    evaluated: Callable[[str], EvaluatedModel] | None = None
    view: View = plain
    plan: MakePlan = sample_by_sample
    replace: bool = True
    left_out: list[dict[str, str]] = field(default_factory=list)
    stretch: Callable[[dict[str, Any]], dict[str, Any]] = lambda batch: batch


BASE_LAYER = ".base_layer."
"""How peft names a layer inside the adapted one that took its place."""


def init_from(module: nn.Module, parts: Parts, path: str, chosen: Iterable[str], card: Mapping[str, Any]) -> None:
    """Load the chosen parts (all, if none is named) from another checkpoint; every tensor of them must match.

    Adapters of a model that had none begin afresh, around the layers of the checkpoint.

    Args:
        module: a training's; its state dict is its model's, as checkpoints hold it.
        card: the model's own, as `Experiment.card`.
    Raises:
        CheckpointError: names tensors that are missing or have another shape, or adapters that are scaled otherwise.
    """
    content = load_checkpoint(path)
    tensors = content["state_dict"]
    adapted = any(part_of(name, parts) == "adapter" for name in tensors)
    wanted = set(chosen) or {part for part in (*parts, "") if adapted or part != "adapter"}
    own = {name: value for name, value in module.state_dict().items() if part_of(name, parts) in wanted}
    source = {name: name if name in tensors else name.replace(BASE_LAYER, ".") for name in own}
    missing = [name for name in own if source[name] not in tensors]
    shapes = [name for name in own if name not in missing and tensors[source[name]].shape != own[name].shape]
    if missing or shapes:
        unmerged = any(BASE_LAYER in name for name in tensors) and not any(BASE_LAYER in name for name in own)
        hint = "; it has adapters: set model.lora as it was there" if unmerged else ""
        raise CheckpointError(f"init_from={path} does not fit: missing {missing[:3]}, other shape {shapes[:3]}{hint}")
    before, now = (one.get("assistant", {}).get("lora", {}).get("alpha") for one in (content["medvlp"], card))
    if adapted and "adapter" in wanted and before != now:
        raise CheckpointError(
            f"init_from={path}: its adapters were trained with model.lora.alpha={before}, so with {now} they would weigh "
            f"otherwise; set model.lora.alpha={before}, or leave adapter out of init_parts"
        )
    module.load_state_dict({name: tensors[source[name]] for name in own}, strict=False)


def build_optimisation(config: OptimConfig) -> Optimisation:
    """How the parts learn."""
    return Optimisation(
        config.lr,
        config.weight_decay,
        (config.beta1, config.beta2),
        config.eps,
        config.schedule,
        config.warmup_steps,
        config.final_lr_fraction,
        {name: part.lr for name, part in config.parts.items() if part.lr is not None},
        tuple(name for name, part in config.parts.items() if part.freeze),
    )
