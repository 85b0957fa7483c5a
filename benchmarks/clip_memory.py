"""Live bytes of a contrastive step, as the batch grows from 256 to 8,192 pairs on one process.

Counted are the bytes that torch's allocator holds at the step's highest point, beyond what is there before it (weights and
the batch itself). Ours runs the towers in parts (GradCache) and the loss in chunks; next to it stand one graph of the whole
batch, open_clip's `--accum-freq` with its own `train_one_epoch`, and a sigmoid loss over blocks that all stay under autograd, as
open_clip's does. Gradients are compared with one graph of the same parts from the same random states: patches and values are
dropped at random. The model is small, so that the towers' graphs are as small beside the loss as they can be.
"""

import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from open_clip.loss import SigLipLoss
from torch import Tensor, nn
from torch.autograd.profiler import profile

from benchmarks.measure import report
from medvlp.data.batch import StepBatch
from medvlp.data.pairs import PairBatch
from medvlp.losses import LOSSES, contrastive_loss
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.contrastive import Contrastive
from medvlp.training.steps.grad_cache import cached_loss

PART, BATCHES, GRAPH_LIMIT, COMPARED = 64, (256, 1024, 8192), 1024, 512
"""Pairs of a part, of steps, of the largest step of the other ways, and of the step whose gradients are compared."""
WIDTH, SIDE, CONTEXT, VOCABULARY = 64, 32, 32, 512
VISION = {"image_size": SIDE, "layers": 2, "width": WIDTH, "head_width": 32, "patch_size": 8, "patch_dropout": 0.25}
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 2, "layers": 2}


def clip(dropout: bool = True, bias: float | None = None) -> nn.Module:
    """A small CLIP, the same every time; with dropout in both towers."""
    torch.manual_seed(0)
    vision = VISION if dropout else {**VISION, "patch_dropout": 0.0}
    model = open_clip.CLIP(WIDTH, vision, TEXT, init_logit_bias=bias, output_dict=True)
    if dropout:
        model.ln_final.register_forward_hook(lambda layer, args, output: nn.functional.dropout(output, 0.1))
    return model


def training(model: nn.Module, loss: str = "info_nce") -> Contrastive:
    """The contrastive objective of a model."""
    settings = OptimizerSettings(1e-3, 0.1, (0.9, 0.98), 1e-6, "constant", 0, 0.0)
    return Contrastive(model, contrastive_loss(loss, {}), settings, 0, [0.5] * 3, [0.25] * 3, 100.0, "negative")


def batch_of(pairs: int, part: int = PART) -> StepBatch:
    """Random images and texts, in parts."""
    generator = torch.Generator().manual_seed(pairs)
    images = torch.randint(0, 256, (pairs, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    tokens = torch.randint(1, VOCABULARY, (pairs, CONTEXT), generator=generator)
    keys = list(map(str, range(pairs)))
    return StepBatch.of(
        [
            PairBatch(
                keys=keys[start : start + part],
                positions=list(range(start, start + part)),
                bad=[],
                images_BCHW=images[start : start + part],
                tokens_BL=tokens[start : start + part],
                text_ids_B=torch.arange(start, start + part),
            )
            for start in range(0, pairs, part)
        ]
    )


def in_parts(module: Contrastive, batch: StepBatch) -> None:
    torch.manual_seed(1)
    cached_loss(module, batch)[0].backward()


def in_one_graph(module: Contrastive, batch: StepBatch) -> None:
    """The parts' features, all with their graphs."""
    torch.manual_seed(1)
    encoded = [module.encode(part) for part in batch.parts]
    features = {name: torch.cat([part[name] for part in encoded]) for name in encoded[0]}
    module.loss_of(features, PairBatch.joined(batch.parts))[0].backward()


def accum_freq(module: Contrastive, batch: StepBatch) -> None:
    """open_clip's own epoch of one step, whose optimizer leaves the gradients as they are."""
    from open_clip_train.train import train_one_epoch

    model, parts = module.model, batch.parts
    torch.manual_seed(1)
    pairs = [((part.images_BCHW / 255 - module.mean) / module.std, part.tokens_BL) for part in parts]
    loader = Loader(pairs, len(batch.keys))
    optimizer = SimpleNamespace(zero_grad=model.zero_grad, step=lambda: None, param_groups=[{"lr": 0.0}])
    options = Namespace(
        device="cpu",
        precision="fp32",
        distill=False,
        accum_freq=len(parts),
        skip_scheduler=True,
        grad_clip_norm=None,
        horovod=False,
        log_every_n_steps=10**9,
        batch_size=PART,
        world_size=1,
        rank=0,
        wandb=False,
    )
    data = {"train": SimpleNamespace(set_epoch=lambda epoch: None, dataloader=loader)}
    train_one_epoch(model, data, open_clip.ClipLoss(), 0, optimizer, None, None, None, options)


class Loader:
    """Batches as open_clip's loop counts them."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]], samples: int) -> None:
        self.pairs, self.num_batches, self.num_samples = pairs, len(pairs), samples

    def __iter__(self) -> Any:
        return iter(self.pairs)


def sigmoid_blocks(image_BD: Tensor, text_BD: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """open_clip's sigmoid loss of every pair of parts, all of them under autograd."""
    loss, total = SigLipLoss(), image_BD.new_zeros(())
    for row, image_PD in enumerate(image_BD.split(PART)):
        for column, text_PD in enumerate(text_BD.split(PART)):
            total = total + loss._loss(image_PD, text_PD, scale, bias, negative_only=row != column)
    return total * PART / len(image_BD)


def highest(run: Callable[[], object]) -> int:
    """Bytes that the allocator holds at a run's highest point, beyond those before it."""
    with profile(profile_memory=True, use_kineto=True) as profiler:
        run()
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def peaks_of(
    run: Callable[[Contrastive, StepBatch], None], module: Contrastive, sizes: Sequence[int]
) -> dict[int, int]:
    """Pairs of a step → its highest point."""
    run(module, batch_of(2 * PART))  # what a first step allocates for good
    peaks = {}
    for pairs in sizes:
        module.zero_grad()
        batch = batch_of(pairs)
        peaks[pairs] = highest(partial(run, module, batch))
    return peaks


def sigmoid_peak(pairs: int) -> int:
    """Of a sigmoid loss over blocks that all stay under autograd."""
    image_BD, text_BD = (nn.functional.normalize(torch.randn(pairs, WIDTH), dim=-1).requires_grad_() for _ in "it")
    scale, bias = (torch.tensor(value, requires_grad=True) for value in (10.0, -10.0))
    return highest(lambda: sigmoid_blocks(image_BD, text_BD, scale, bias).backward())


def feature_bytes(pairs: int) -> int:
    """Of both towers' features and of their gradients."""
    return 2 * 2 * 4 * WIDTH * pairs


def errors(module: Contrastive, reference: Contrastive) -> tuple[float, float]:
    """Relative errors of the gradients: of all weights together, and of the logit scale."""
    gradients, expected = (
        {name: parameter.grad for name, parameter in trained.model.named_parameters() if parameter.grad is not None}
        for trained in (module, reference)
    )
    assert gradients.keys() == expected.keys()
    scale_error = abs(gradients["logit_scale"] / expected["logit_scale"] - 1)
    names = [name for name in gradients if name != "logit_scale"]
    difference = torch.stack([(gradients[name] - expected[name]).norm() for name in names]).norm()
    return float(difference / torch.stack([expected[name].norm() for name in names]).norm()), float(scale_error)


def gradient_errors(dropout: bool) -> dict[str, tuple[float, float]]:
    """Way of a step → its errors against one graph."""
    batch, results = batch_of(COMPARED), {}
    reference = training(clip(dropout))
    in_one_graph(reference, batch)
    for name, run in (("ours", in_parts), ("accum_freq", accum_freq)):
        module = training(clip(dropout))
        run(module, batch)
        results[name] = errors(module, reference)
    return results


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    gradients, plain = gradient_errors(dropout=True), gradient_errors(dropout=False)
    grad_error = max(gradients["ours"])
    assert grad_error < 1e-5, f"gradients differ from one graph's by {grad_error}"
    assert max(plain["ours"]) < 1e-5
    peaks: dict[str, dict[int, int]] = {}
    ways = {"parts": in_parts, "one graph": in_one_graph, "open_clip --accum-freq": accum_freq}
    for name, run in ways.items():
        sizes = [pairs for pairs in BATCHES if name == "parts" or pairs <= GRAPH_LIMIT]
        peaks[f"{name}, info_nce"] = peaks_of(run, training(clip()), sizes)
    if "sigmoid" in LOSSES:
        peaks["parts, sigmoid"] = peaks_of(in_parts, training(clip(bias=-10.0), "sigmoid"), BATCHES)
    peaks["loss alone: open_clip's sigmoid in blocks"] = {pairs: sigmoid_peak(pairs) for pairs in BATCHES[:-1]}
    peak_of = peaks["parts, info_nce"]
    net = {pairs: peak - feature_bytes(pairs) for pairs, peak in peak_of.items()}
    growth, raw_growth = net[BATCHES[-1]] / net[BATCHES[0]], peak_of[BATCHES[-1]] / peak_of[BATCHES[0]]
    rows = [
        (name, "  ".join(f"{pairs:>5}: {peak / 2**20:7.1f} MiB" for pairs, peak in sizes.items()))
        for name, sizes in peaks.items()
    ]
    rows += [
        (
            "growth without features",
            f"{growth:.3f} ({BATCHES[0]} to {BATCHES[-1]} pairs; with features {raw_growth:.3f})",
        ),
        ("gradient error, dropout", f"weights {gradients['ours'][0]:.1e}, logit scale {gradients['ours'][1]:.1e}"),
        (
            "  open_clip --accum-freq",
            f"weights {gradients['accum_freq'][0]:.1e}, logit scale {gradients['accum_freq'][1]:.1e}",
        ),
        ("gradient error, none", f"weights {plain['ours'][0]:.1e}, logit scale {plain['ours'][1]:.1e}"),
        ("  open_clip --accum-freq", f"weights {plain['accum_freq'][0]:.1e}, logit scale {plain['accum_freq'][1]:.1e}"),
    ]
    values: dict[str, object] = {"growth": growth, "growth_with_features": raw_growth, "grad_error": grad_error}
    values |= {
        "accum_freq_grad_error": gradients["accum_freq"][0],
        "accum_freq_scale_error": plain["accum_freq"][1],
        "peaks": {name: {str(pairs): peak for pairs, peak in sizes.items()} for name, sizes in peaks.items()},
    }
    report("clip_memory", rows, values)
    return 0


if __name__ == "__main__":
    sys.exit(main())
