"""Live bytes of a contrastive step, as the batch grows from 256 to 8,192 pairs on one process.

Counted are the bytes that torch's allocator holds at the step's highest point, beyond what is there before it (weights and
the batch itself). Ours runs the towers in parts (GradCache) and the loss in chunks; next to it stand one graph of the whole
batch, open_clip's `--accum-freq` with its own `train_one_epoch`, and a sigmoid loss over blocks that all stay under autograd, as
open_clip's does. At every size the gradients are compared with one graph of the same parts from the same random states: patches
and values are dropped at random. The model is small, so that the towers' graphs are as small beside the loss as they can be.
"""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import open_clip
import torch
from open_clip.loss import SigLipLoss
from torch import Tensor, nn
from torch.autograd.profiler import profile

from benchmarks.measure import report
from benchmarks.open_clip_epoch import train_epoch
from medvlp.data.batch import StepBatch
from medvlp.data.pairs import PairBatch
from medvlp.losses import contrastive_loss
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.contrastive import Contrastive
from medvlp.training.steps.grad_cache import cached_loss

PART, BATCHES, COMPARED = 64, (256, 1024, 8192), 512
"""Pairs of a part, of steps, and of the step without dropout whose gradients are compared."""
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
    model, parts = module.model, batch.parts
    torch.manual_seed(1)
    pairs = [((part.images_BCHW / 255 - module.mean) / module.std, part.tokens_BL) for part in parts]
    optimizer = SimpleNamespace(zero_grad=model.zero_grad, step=lambda: None, param_groups=[{"lr": 0.0}])
    train_epoch(model, pairs, open_clip.ClipLoss(), optimizer, accum_freq=len(parts))


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


@dataclass(frozen=True)
class Step:
    """What a step takes and gives: bytes at its highest point, and the gradients by weight."""

    peak: int
    gradients: dict[str, Tensor]


def steps_of(
    run: Callable[[Contrastive, StepBatch], None], module: Contrastive, sizes: Sequence[int]
) -> dict[int, Step]:
    """Pairs of a step → the step."""
    run(module, batch_of(2 * PART))  # what a first step allocates for good
    steps = {}
    for pairs in sizes:
        module.zero_grad()
        batch = batch_of(pairs)
        peak = highest(partial(run, module, batch))
        steps[pairs] = Step(peak, gradients_of(module))
    return steps


def gradients_of(module: Contrastive) -> dict[str, Tensor]:
    """By weight, copied."""
    weights = module.model.named_parameters()
    return {name: weight.grad.clone() for name, weight in weights if weight.grad is not None}


def sigmoid_peak(pairs: int) -> int:
    """Of a sigmoid loss over blocks that all stay under autograd."""
    image_BD, text_BD = (nn.functional.normalize(torch.randn(pairs, WIDTH), dim=-1).requires_grad_() for _ in "it")
    scale, bias = (torch.tensor(value, requires_grad=True) for value in (10.0, -10.0))
    return highest(lambda: sigmoid_blocks(image_BD, text_BD, scale, bias).backward())


def sigmoid_blocks_error(pairs: int) -> float:
    """Relative, of the features' gradients, against open_clip's sigmoid loss of all pairs at once."""
    gradients = []
    for loss in (sigmoid_blocks, SigLipLoss()):
        torch.manual_seed(0)
        features = [nn.functional.normalize(torch.randn(pairs, WIDTH), dim=-1).requires_grad_() for _ in "it"]
        loss(*features, torch.tensor(10.0), torch.tensor(-10.0)).backward()
        gradients.append(torch.cat([feature.grad for feature in features]))
    return float((gradients[0] - gradients[1]).norm() / gradients[1].norm())


def feature_bytes(pairs: int) -> int:
    """Of both towers' features and of their gradients."""
    return 2 * 2 * 4 * WIDTH * pairs


def errors(gradients: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[float, float]:
    """Relative errors of the gradients: of all weights together, and of the logit scale."""
    assert gradients.keys() == expected.keys()
    scale_error = abs(gradients["logit_scale"] / expected["logit_scale"] - 1)
    names = [name for name in gradients if name != "logit_scale"]
    difference = torch.stack([(gradients[name] - expected[name]).norm() for name in names]).norm()
    return float(difference / torch.stack([expected[name].norm() for name in names]).norm()), float(scale_error)


def errors_without_dropout() -> dict[str, tuple[float, float]]:
    """Way of a step → its errors against one graph."""
    batch, gradients = batch_of(COMPARED), {}
    for name, run in WAYS.items():
        module = training(clip(dropout=False))
        run(module, batch)
        gradients[name] = gradients_of(module)
    return {name: errors(values, gradients[GRAPH]) for name, values in gradients.items() if name != GRAPH}


GRAPH, PARTS, PEER = "one graph", "parts", "open_clip --accum-freq"
WAYS = {PARTS: in_parts, GRAPH: in_one_graph, PEER: accum_freq}


def main() -> int:
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    plain = errors_without_dropout()
    assert max(plain[PARTS]) < 1e-5, f"gradients differ from one graph's by {max(plain[PARTS])}"
    steps = {name: steps_of(run, training(clip()), BATCHES) for name, run in WAYS.items()}
    dropout_errors = {
        name: {pairs: errors(steps[name][pairs].gradients, steps[GRAPH][pairs].gradients) for pairs in BATCHES}
        for name in (PARTS, PEER)
    }
    grad_error = max(max(values) for values in dropout_errors[PARTS].values())
    assert grad_error < 1e-5, f"gradients differ from one graph's by {grad_error}"
    peaks = {
        f"{name}, info_nce": {pairs: step.peak for pairs, step in by_size.items()} for name, by_size in steps.items()
    }
    sigmoid = steps_of(in_parts, training(clip(bias=-10.0), "sigmoid"), BATCHES)
    peaks["parts, sigmoid"] = {pairs: step.peak for pairs, step in sigmoid.items()}
    peaks["loss alone: open_clip's sigmoid in blocks"] = {pairs: sigmoid_peak(pairs) for pairs in BATCHES}
    sigmoid_error = sigmoid_blocks_error(BATCHES[1])
    peak_of = peaks[f"{PARTS}, info_nce"]
    net = {pairs: peak - feature_bytes(pairs) for pairs, peak in peak_of.items()}
    growth, raw_growth = net[BATCHES[-1]] / net[BATCHES[0]], peak_of[BATCHES[-1]] / peak_of[BATCHES[0]]
    rows = [
        (name, "  ".join(f"{pairs:>5}: {peak / 2**20:7.1f} MiB" for pairs, peak in sizes.items()))
        for name, sizes in peaks.items()
    ]
    words = f"{growth:.3f} ({BATCHES[0]} to {BATCHES[-1]} pairs; with features {raw_growth:.3f})"
    rows.append(("growth without features", words))
    rows += [(f"gradient error, dropout, {name}", shown(by_size)) for name, by_size in dropout_errors.items()]
    rows += [(f"gradient error, none, {name}", shown({COMPARED: pair})) for name, pair in plain.items()]
    rows.append(("gradient error of open_clip's sigmoid in blocks", f"{sigmoid_error:.1e} ({BATCHES[1]} pairs)"))
    values: dict[str, object] = {"growth": growth, "growth_with_features": raw_growth, "grad_error": grad_error}
    values |= {
        "accum_freq_grad_error": {str(pairs): weights for pairs, (weights, _) in dropout_errors[PEER].items()},
        "accum_freq_scale_error": {str(pairs): scale for pairs, (_, scale) in dropout_errors[PEER].items()},
        "peaks": {name: {str(pairs): peak for pairs, peak in sizes.items()} for name, sizes in peaks.items()},
    }
    report("clip_memory", rows, values)
    return 0


def shown(by_size: Mapping[int, tuple[float, float]]) -> str:
    """Errors of weights and logit scale, by pairs of the step."""
    return "; ".join(
        f"{pairs}: weights {weights:.1e}, logit scale {scale:.1e}" for pairs, (weights, scale) in by_size.items()
    )


if __name__ == "__main__":
    sys.exit(main())
