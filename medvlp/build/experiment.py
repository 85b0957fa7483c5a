"""What an objective brings, and how its parts learn and start."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from medvlp.config import OptimConfig
from medvlp.data.loader import Collate
from medvlp.data.order import Order
from medvlp.data.plan import Plan, SamplePlan
from medvlp.data.units import Dataset, Prepare
from medvlp.eval.embeddings import Encoder
from medvlp.eval.questions import Respondent
from medvlp.models.parts import Parts, part_of
from medvlp.shards import ShardDataset
from medvlp.training.checkpoints import CheckpointError, load_checkpoint
from medvlp.training.service import Optimisation, Training

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
    encoder, respondent: identity → the present weights as tasks use them, where such tasks can be run during training.
    view: a source's shards as what is drawn from them.
    plan: how what is drawn becomes batches.
    replace: put another sample in a bad one's place.
    left_out: what `view` found that is not trained on, for the run's ledger.
    """

    module: Training
    prepare: Prepare
    collate: Collate
    card: dict[str, Any] = field(default_factory=dict)
    encoder: Callable[[str], Encoder] | None = None
    respondent: Callable[[str], Respondent] | None = None
    view: View = plain
    plan: MakePlan = sample_by_sample
    replace: bool = True
    left_out: list[dict[str, str]] = field(default_factory=list)


def init_from(model: nn.Module, parts: Parts, path: str, chosen: Iterable[str]) -> None:
    """Load the chosen parts (all, if none is named) from another checkpoint; every tensor of them must match.

    Raises:
        CheckpointError: names tensors that are missing or have another shape.
    """
    tensors = load_checkpoint(path)["state_dict"]
    wanted = set(chosen) or set(parts) | {""}
    own = {name: value for name, value in model.state_dict().items() if part_of(name, parts) in wanted}
    missing = [name for name in own if name not in tensors]
    shapes = [name for name in own if name in tensors and tensors[name].shape != own[name].shape]
    if missing or shapes:
        raise CheckpointError(f"init_from={path} does not fit: missing {missing[:3]}, other shape {shapes[:3]}")
    model.load_state_dict({name: tensors[name] for name in own}, strict=False)


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
