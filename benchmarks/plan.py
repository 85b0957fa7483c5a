"""Predicted against measured steps on this CPU: time, and bytes by part, of shapes that were not calibrated on.

Shapes differ in model, pairs, context, parts (GradCache), frozen towers, checkpointing and ranks. Two constants of the towers
(FLOP/s, and bytes/s of what they keep for backward) come from small models, the loss's FLOP/s from one loss, the optimizer's
bytes/s from one update, and the link's from one exchange of two processes. Measured is the CPU time of a rank's whole step: the
least of several, in turn with the others, because other work on the machine only adds. Bytes are those of torch's allocator, by
its profiler. Nothing is fitted to what it predicts.
"""

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import open_clip
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from benchmarks.clip_memory import highest
from benchmarks.measure import report
from medvlp.costs.counts import PassCounts, bytes_of, count_pass
from medvlp.costs.devices import Machine
from medvlp.costs.imitation import Imitation
from medvlp.costs.step import Step, memory_of, seconds_of
from medvlp.data.batch import StepBatch
from medvlp.data.pairs import PairBatch
from medvlp.losses import Pairs, contrastive_loss
from medvlp.losses.relations import BLOCK_LOGITS, LEAST_ROWS
from medvlp.models.clip.fusion import unit_vectors
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.contrastive import Contrastive
from medvlp.training.steps.grad_cache import cached_loss

SIDE, VOCABULARY, ROUNDS = 64, 1000, 4


@dataclass(frozen=True)
class Case:
    """A step: width and layers of both towers, all ranks' pairs, tokens of a text, parts of a rank's pairs, frozen parts."""

    width: int
    layers: int
    pairs: int
    context: int = 32
    parts: int = 1
    frozen: tuple[str, ...] = ()
    is_checkpointed: bool = False
    ranks: int = 1

    def __str__(self) -> str:
        notes = [f"{self.parts} parts"] * (self.parts > 1) + [f"{part} frozen" for part in self.frozen[:1]]
        notes += ["checkpointed"] * self.is_checkpointed + ["2 ranks"] * (self.ranks == 2)
        return ", ".join([f"{self.layers} × {self.width}, {self.pairs} pairs of {self.context} tokens", *notes])

    @property
    def part_pairs(self) -> int:
        return self.pairs // (self.parts * self.ranks)


CALIBRATED = (Case(64, 2, 32), Case(256, 3, 32), Case(128, 2, 64, context=64))
PREDICTED = (
    Case(128, 4, 16),
    Case(128, 4, 96),
    Case(128, 4, 64, context=128),
    Case(320, 4, 8),
    Case(320, 4, 32),
    Case(320, 4, 32, parts=4),
    Case(128, 4, 128, context=64, parts=4),
    Case(320, 4, 32, frozen=("vision", "vision_head")),
    Case(320, 4, 32, frozen=("text", "text_head")),
    Case(320, 4, 32, is_checkpointed=True),
    Case(128, 4, 64, ranks=2),
    Case(320, 4, 32, ranks=2),
    Case(320, 4, 32, parts=2, ranks=2),
)


class Steps(nn.Module):
    """The contrastive objective of a case as one module for DDP: a whole step's loss."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        torch.manual_seed(0)
        vision = {"image_size": SIDE, "layers": case.layers, "width": case.width, "head_width": 32, "patch_size": 8}
        text = {
            "context_length": case.context,
            "vocab_size": VOCABULARY,
            "width": case.width,
            "heads": case.width // 32,
            "layers": case.layers,
        }
        model = open_clip.CLIP(case.width, vision, text)
        model.set_grad_checkpointing(case.is_checkpointed)
        settings = OptimizerSettings(1e-4, 0.1, (0.9, 0.98), 1e-6, "constant", 0, 1.0, frozen=case.frozen)
        self.objective = Contrastive(
            model, contrastive_loss("info_nce", {}), settings, 0, [0.5] * 3, [0.25] * 3, 100.0, "negative"
        )

    def forward(self, batch: StepBatch) -> Tensor:
        if len(batch.parts) > 1:
            return cached_loss(self.objective, batch)[0]
        part = batch.parts[0]
        assert isinstance(part, PairBatch)
        return self.objective.loss(part)[0]


def batch_of(case: Case) -> StepBatch:
    """A rank's pairs; texts of the whole context, whose last token is the largest, as open_clip pools."""
    parts = []
    for _ in range(case.parts):
        tokens = torch.randint(1, VOCABULARY - 1, (case.part_pairs, case.context))
        tokens[:, -1] = VOCABULARY - 1
        images = torch.randint(0, 256, (case.part_pairs, 3, SIDE, SIDE), dtype=torch.uint8)
        keys = [""] * case.part_pairs
        ids = torch.arange(case.part_pairs)
        parts.append(PairBatch(keys=keys, positions=[], bad=[], images_BCHW=images, tokens_BL=tokens, text_ids_B=ids))
    return StepBatch.of(parts)


def step_run(case: Case) -> tuple[Callable[[], None], Steps, torch.optim.Optimizer]:
    """A step of a rank: forward, backward, optimizer."""
    steps = Steps(case)
    optimizer = torch.optim.AdamW([parameter for parameter in steps.parameters() if parameter.requires_grad], lr=1e-4)
    module = DistributedDataParallel(steps) if dist.is_initialized() else steps
    batch = batch_of(case)

    def run() -> None:
        optimizer.zero_grad()
        module(batch).backward()
        optimizer.step()

    return run, steps, optimizer


def least(runs: list[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """CPU seconds of this process of each, the least of several after one that is not counted; they take turns."""
    seconds = [float("inf")] * len(runs)
    for number in range(rounds + 1):
        for index, run in enumerate(runs):
            start = time.process_time()
            run()
            if number:
                seconds[index] = min(seconds[index], time.process_time() - start)
    return seconds


@cache
def step_of(case: Case) -> Step:
    """The step as `medvlp plan` counts it, by a CPU's kernels."""
    with torch.device("meta"):
        steps = Steps(case)
    model_bytes = bytes_of([steps.objective.model])
    rows = max(LEAST_ROWS, BLOCK_LOGITS // case.pairs)
    counts = counts_of(case, steps.objective)
    return Step(counts, model_bytes, case.pairs, case.ranks, case.parts, case.width, SIDE, rows, 0, fused=True)


def counts_of(case: Case, objective: Contrastive) -> PassCounts:
    imitation = Imitation("cpu")
    imitation.take(objective)
    with imitation.here():
        batch = batch_of(case).parts[0]
        assert isinstance(batch, PairBatch)
        return count_pass(
            [
                lambda: objective.image_features(batch)[0],
                lambda: unit_vectors(objective.model.encode_text(batch.tokens_BL)),  # type: ignore[operator]
            ],
            [objective],
            case.part_pairs,
            imitation,
            case.parts > 1,
            [batch.images_BCHW, batch.tokens_BL],
        )


def calibrated(link: float) -> Machine:
    """What this machine reaches."""
    width, rows = 128, 512
    features = [normalize(torch.randn(rows, width), dim=-1).requires_grad_() for _ in range(2)]
    scale = torch.tensor(14.0, requires_grad=True)
    loss = contrastive_loss("info_nce", {})
    pairs = Pairs(image_BD=features[0], text_BD=features[1], logit_scale=scale, logit_bias=None)
    parameter = nn.Parameter(torch.randn(4_000_000))
    parameter.grad = torch.randn_like(parameter)
    optimizer = torch.optim.AdamW([parameter])
    runs = [step_run(case)[0] for case in CALIBRATED]
    loss_seconds, update_seconds, *seconds = least([lambda: loss(pairs).backward(), optimizer.step, *runs])
    machine = Machine(
        1e30, 8 * rows * rows * width / loss_seconds, None, 7 * parameter.nbytes / update_seconds, link, 1e30
    )
    steps = [step_of(case) for case in CALIBRATED]
    towers = [value - seconds_of(step, machine)["step"] for step, value in zip(steps, seconds, strict=True)]
    shares = np.array([[step.tower_flops, step.activations] for step in steps]) / np.array(towers)[:, None]
    scales = shares.max(axis=0)
    compute, traffic = (1 / max(value, 1e-30) for value in nnls(shares / scales, np.ones(len(steps)))[0] / scales)
    return Machine(compute, machine.loss, traffic, machine.memory, link, 1e30, overlaps=False)


def measured_bytes(case: Case) -> dict[str, int]:
    """Part → bytes: exact ones of the tensors that are there, and the allocator's highest point beyond them."""
    run, steps, optimizer = step_run(case)
    run()
    states = [value for state in optimizer.state.values() for value in state.values()]
    optimizer.zero_grad()
    sizes = {
        "weights": sum(
            tensor.nbytes for tensor in [*steps.objective.model.parameters(), *steps.objective.model.buffers()]
        ),
        "optimizer": sum(value.nbytes for value in states),
        "step": highest(run),
    }
    optimizer.zero_grad()
    if case.parts == 1:
        part = batch_of(case).parts[0]
        features: list[object] = []
        sizes["kept"] = at_the_end(lambda: features.append(steps.objective.encode(part)))
    return sizes


def at_the_end(run: Callable[[], object]) -> int:
    """Bytes that the allocator holds when a run has ended, beyond those before it."""
    from torch.autograd.profiler import profile

    with profile(profile_memory=True, use_kineto=True) as profiler:
        run()
    events = profiler.kineto_results.events()
    return sum(event.nbytes() for event in events if event.name() == "[memory]")


def predicted_bytes(case: Case) -> dict[str, int]:
    step = step_of(case)
    memory = memory_of(step)
    always = sum(memory[name] for name in ("weights", "optimizer", "average", "images", "gradients in exchange"))
    sizes = {"weights": memory["weights"], "optimizer": memory["optimizer"], "step": memory["total"] - always}
    return sizes | ({"kept": step.counts.graphs} if case.parts == 1 else {})


def rank_main(rank: int, address: str, results: str) -> None:
    """A rank of two: the link's bytes/s, then the steps that are predicted."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=2)
    values = torch.randn(4_000_000)
    runs = [step_run(case)[0] for case in PREDICTED if case.ranks == 2]
    exchange, *seconds = least([lambda: dist.all_reduce(values), *runs])
    torch.save(torch.tensor([values.nbytes / exchange, *seconds], dtype=torch.float64), f"{results}{rank}")
    dist.destroy_process_group()


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = os.path.join(folder, "rank")
        mp.spawn(rank_main, (os.path.join(folder, "address"), results), nprocs=2)
        ranks = torch.stack([torch.load(f"{results}{rank}", weights_only=True) for rank in range(2)])
    machine = calibrated(float(ranks[:, 0].mean()))
    single = [case for case in PREDICTED if case.ranks == 1]
    paired = [case for case in PREDICTED if case.ranks == 2]
    seconds = dict(zip(single, least([step_run(case)[0] for case in single]), strict=True))
    seconds |= dict(zip(paired, ranks[:, 1:].mean(0).tolist(), strict=True))
    rows = [
        (
            "towers",
            f"{machine.compute / 1e9:.1f} GFLOP/s, and {(machine.activations or 0) / 1e9:.2f} GB/s of what is kept",
        ),
        ("loss", f"{machine.loss / 1e9:.1f} GFLOP/s"),
        ("optimizer, link", f"{machine.memory / 1e9:.2f} GB/s, {machine.link / 1e9:.2f} GB/s"),
    ]
    time_errors: dict[str, float] = {}
    byte_errors: dict[str, dict[str, float]] = {}
    for case, measured in seconds.items():
        predicted = seconds_of(step_of(case), machine)["step"]
        time_errors[str(case)] = predicted / measured - 1
        text = f"predicted {1e3 * predicted:7.1f} ms, measured {1e3 * measured:7.1f} ms, {time_errors[str(case)]:+.1%}"
        if case.ranks == 1:
            sizes, expected = measured_bytes(case), predicted_bytes(case)
            byte_errors[str(case)] = {name: expected[name] / sizes[name] - 1 for name in sizes}
            text += "; bytes " + ", ".join(f"{name} {error:+.1%}" for name, error in byte_errors[str(case)].items())
        rows.append((str(case), text))
    worst_time = max(time_errors.values(), key=abs)
    worst_bytes = max((error for errors in byte_errors.values() for error in errors.values()), key=abs)
    rows.append(("largest errors", f"time {worst_time:+.1%}, bytes {worst_bytes:+.1%}"))
    values: dict[str, object] = {"time_errors": time_errors, "byte_errors": byte_errors}
    report("plan", rows, values | {"largest_time_error": worst_time, "largest_byte_error": worst_bytes})
    return 0


if __name__ == "__main__":
    sys.exit(main())
