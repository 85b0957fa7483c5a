"""Seconds of a contrastive step and bytes of a rank, from counts and from what a machine reaches.

B: a rank's pairs; N: all ranks' pairs; P: pairs of a part, B without parts; D: shared width.
"""

from dataclasses import dataclass

from medvlp.costs.counts import ACTIVATIONS, GRADIENTS, WORKING, ModelBytes, PassCounts
from medvlp.costs.devices import Machine

SINGLE = 4
"""Bytes of a float32."""
MOMENT_TRAFFIC = 7
"""Tensors that AdamW reads or writes for each one that learns: reads weight, gradient and both moments, writes three."""
LOSS_PRODUCTS = 4
"""B × N × D products of a loss in blocks: logits, the same again in backward, and one for each tower's gradient."""
BLOCKS = 4
"""Blocks of logits that a loss holds at its highest point: logits, their gradient, and two of shares."""
FEATURES = 3
"""Copies of both towers' features then: as gathered, their gradients, and products with logits."""


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    counts: of a part's pass. pairs: of all ranks. ranks, parts (trainer.accumulate), width: of the shared space. size: side of
    an image. chunk: rows of logits at once. workers: loader processes a rank. ema: whether an average of the weights is kept.
    fused: whether the optimizer is one kernel; where it is not, it holds a temporary tensor for each that learns.
    """

    counts: PassCounts
    model: ModelBytes
    pairs: int
    ranks: int
    parts: int
    width: int
    size: int
    chunk: int
    workers: int
    ema: bool = False
    fused: bool = False

    @property
    def rank_pairs(self) -> int:
        """B."""
        return self.pairs // self.ranks

    @property
    def part_pairs(self) -> int:
        """P."""
        return self.rank_pairs // self.parts

    @property
    def tower_flops(self) -> float:
        """Of a rank. In parts, a tower that learns runs forward twice (GradCache)."""
        return self.rank_pairs * sum(
            tower.forward * (2 if self.parts > 1 and tower.backward else 1) + tower.backward
            for tower in self.counts.towers
        )

    @property
    def activations(self) -> float:
        """Bytes that a rank's graphs keep in a step, one part after the other."""
        return self.rank_pairs * sum(tower.activations for tower in self.counts.towers)

    @property
    def loss_flops(self) -> int:
        """Of a rank."""
        return 2 * LOSS_PRODUCTS * self.rank_pairs * self.pairs * self.width


def seconds_of(step: Step, machine: Machine) -> dict[str, float]:
    """Part → seconds. data is what the loader needs, which runs while the rest does; gradients, what of their exchange does not
    run behind the backward pass; step, the whole."""
    towers = step.tower_flops / machine.compute + (
        step.activations / machine.activations if machine.activations else 0.0
    )
    other_share = (step.ranks - 1) / step.ranks
    feature_bytes = 2 * SINGLE * step.pairs * step.width
    exchange = 2 * other_share * step.model.gradients / machine.link
    last_part = step.part_pairs * sum(tower.backward for tower in step.counts.towers) / machine.compute
    parts = {
        "data": step.rank_pairs / (machine.images * max(step.workers, 1)),
        "towers": towers,
        "loss": step.loss_flops / machine.loss,
        "all-gather": 2 * other_share * feature_bytes / machine.link,
        "gradients": max(exchange - last_part, 0.0) if machine.overlaps else exchange,
        "optimizer": MOMENT_TRAFFIC * step.model.gradients / machine.memory,
    }
    work = sum(seconds for name, seconds in parts.items() if name != "data")
    parts["step"] = max(parts["data"], work) if step.workers else parts["data"] + work
    return parts


def memory_of(step: Step) -> dict[str, int]:
    """Part → bytes of a rank at the step's highest point; total, their sum.

    That point is in the towers' passes, in the loss, or in the optimizer, whichever needs most. Without parts, all graphs are
    there when the loss runs; with parts, those of one part at a time, and all features.
    """
    model = step.model
    always = {
        "weights": model.weights,
        "optimizer": model.optimizer,
        "average": model.weights if step.ema else 0,
        "gradients in exchange": model.gradients if step.ranks > 1 else 0,
        "images": step.part_pairs * 3 * step.size**2,
    }
    features = SINGLE * (step.pairs + step.rank_pairs) * step.width
    rows = min(step.chunk, step.rank_pairs)
    highest = step.counts.highest
    moments = {
        "towers": {name: highest.get(name, 0) for name in (ACTIVATIONS, GRADIENTS, WORKING)}
        | {"features and logits": 2 * features},
        "loss": {
            ACTIVATIONS: step.counts.graphs if step.parts == 1 else 0,
            "features and logits": FEATURES * features + SINGLE * BLOCKS * rows * step.pairs,
        },
        "optimizer": {GRADIENTS: model.gradients, WORKING: 0 if step.fused else model.gradients},
    }
    largest = max(moments, key=lambda name: sum(moments[name].values()))
    parts = always | dict.fromkeys((ACTIVATIONS, GRADIENTS, WORKING), 0) | moments[largest]
    return parts | {"total": sum(parts.values())}
