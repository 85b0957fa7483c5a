"""Contrastive steps: how far half precision and compiled towers are from single precision, pairs a second, and memory."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.device import name_of, planned_name
from benchmarks.gpu.scale import Scale, clip_model, distance, pair_batch, training
from benchmarks.gpu.timing import peak_bytes, seconds_of
from medvlp.costs.devices import GPUS
from medvlp.data.batch import StepBatch
from medvlp.data.pairs import PairBatch
from medvlp.losses import Pairs, contrastive_loss
from medvlp.training.objectives.contrastive import Contrastive
from medvlp.training.steps.grad_cache import cached_loss

GIB = 2**30


def gradients_of(module: Contrastive) -> list[Tensor]:
    return [parameter.grad for parameter in module.model.parameters() if parameter.grad is not None]


def backward(module: Contrastive, batch: PairBatch, dtype: torch.dtype | None) -> float:
    """Gradients of one graph; the loss. dtype: of automatic mixed precision."""
    module.zero_grad()
    with torch.autocast(module.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        loss = module.loss(batch)[0]
    loss.backward()
    return float(loss.detach())


def parity(scale: Scale, device: torch.device) -> dict[str, Any]:
    """bfloat16 (mixed) and compiled towers against eager single precision: loss, features and gradients of one batch."""
    context = scale.contexts[0]
    module = training(clip_model(scale, context)).to(device)
    batch = move_data_to_device(pair_batch(scale, scale.part // 4, context, shortest=context // 3), device)
    loss = backward(module, batch, None)
    expected = [gradient.clone() for gradient in gradients_of(module)]
    with torch.no_grad():
        features = module.encode(batch)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            half_features = module.encode(batch)
    half_loss = backward(module, batch, torch.bfloat16)
    results = {
        "loss": loss,
        "bf16_loss_error": abs(half_loss / loss - 1),
        "bf16_feature_error": distance(list(half_features.values()), list(features.values())),
        "bf16_gradient_error": distance(gradients_of(module), expected),
    }
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    for tower in module.model.children():
        tower.compile(backend=backend)
    results["compiled_loss_error"] = abs(backward(module, batch, None) / loss - 1)
    results["compiled_gradient_error"] = distance(gradients_of(module), expected)
    assert results["compiled_gradient_error"] < 1e-3, results
    assert results["bf16_gradient_error"] < 0.1, results
    return results


def step_of(module: Contrastive, run: Callable[[], object]) -> Callable[[], None]:
    """A whole step: gradients by `run`, then AdamW, fused on a GPU."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=module.device.type == "cuda")

    def step() -> None:
        optimizer.zero_grad()
        run()
        optimizer.step()
        module.constrain()

    return step


def pace(scale: Scale, device: torch.device, context: int, is_compiled: bool = False) -> dict[str, Any]:
    """Pairs a second, the share of the device's peak, and peak memory of steps in mixed precision, all texts of the whole
    context; and the same pace with texts of a quarter of the context to all of it."""
    module = training(clip_model(scale, context)).to(device)
    batch = move_data_to_device(pair_batch(scale, scale.pairs, context), device)
    with FlopCounterMode(display=False) as counter:  # compiled towers show no operations
        backward(module, batch, torch.bfloat16)
    flops = counter.get_total_flops()
    if is_compiled:
        for tower in module.model.children():
            tower.compile(backend="inductor" if device.type == "cuda" else "aot_eager")
    step = step_of(module, lambda: backward(module, batch, torch.bfloat16))
    seconds = seconds_of(step, device, scale.rounds)
    bytes_held = peak_bytes(step, device)
    results: dict[str, Any] = {
        "context": context,
        "pairs": scale.pairs,
        "flops_of_a_pair": flops / scale.pairs,
        "step_ms": 1e3 * seconds,
        "pairs_per_s": scale.pairs / seconds,
        "tflops": flops / seconds / 1e12,
        "peak_gib": None if bytes_held is None else bytes_held / GIB,
    }
    if gpu := GPUS.get(planned_name(name_of(device))):
        results["mfu"] = flops / seconds / gpu.half
    if not is_compiled:
        short = move_data_to_device(pair_batch(scale, scale.pairs, context, shortest=context // 4), device)
        step = step_of(module, lambda: backward(module, short, torch.bfloat16))
        results["pairs_per_s_of_shorter_texts"] = scale.pairs / seconds_of(step, device, scale.rounds)
    return results


def pace_77(scale: Scale, device: torch.device) -> dict[str, Any]:
    return pace(scale, device, scale.contexts[0])


def pace_256(scale: Scale, device: torch.device) -> dict[str, Any]:
    return pace(scale, device, scale.contexts[1])


def pace_77_compiled(scale: Scale, device: torch.device) -> dict[str, Any]:
    return pace(scale, device, scale.contexts[0], is_compiled=True)


def parts_of(scale: Scale, pairs: int, context: int) -> StepBatch:
    """A step of random pairs in parts, all on the CPU."""
    parts = [pair_batch(scale, scale.part, context, seed=seed) for seed in range(pairs // scale.part)]
    return StepBatch.of(parts)


def in_parts(scale: Scale, device: torch.device) -> dict[str, Any]:
    """GradCache: gradients against one graph of the same parts, with dropout; pace and memory of a step of many."""
    context = scale.contexts[0]
    module = training(clip_model(scale, context, dropout=0.1)).to(device)
    small = parts_of(scale, 2 * scale.part, context)
    torch.manual_seed(1)
    module.zero_grad()
    cached_loss(module, small)[0].backward()
    cached = [gradient.clone() for gradient in gradients_of(module)]
    torch.manual_seed(1)
    module.zero_grad()
    encoded = [module.encode(move_data_to_device(part, device)) for part in small.parts]
    features = {name: torch.cat([part[name] for part in encoded]) for name in encoded[0]}
    del encoded
    module.loss_of(features, move_data_to_device(PairBatch.joined(small.parts), device))[0].backward()
    error = distance(cached, gradients_of(module))
    assert error < 1e-4, f"gradients in parts are {error:.1e} away from one graph's"
    del features, cached
    large = parts_of(scale, scale.cached_pairs, context)

    def run() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = cached_loss(module, large)[0]
        loss.backward()

    step = step_of(module, run)
    seconds, bytes_held = seconds_of(step, device, 2, warm=1), peak_bytes(step, device)
    return {
        "gradient_error": error,
        "pairs": scale.cached_pairs,
        "pairs_of_a_part": scale.part,
        "pairs_per_s": scale.cached_pairs / seconds,
        "peak_gib": None if bytes_held is None else bytes_held / GIB,
    }


def losses(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Blocks of logits at large batches: milliseconds and memory of a loss with its gradients, and the error of the
    smaller batch against all logits at once in double precision."""
    results: dict[str, Any] = {}
    for name in ("info_nce", "sigmoid"):
        loss = contrastive_loss(name, {})
        for pairs in scale.loss_pairs:
            features = [
                normalize(torch.randn(pairs, scale.width, device=device), dim=-1).requires_grad_() for _ in "it"
            ]
            scalars = [torch.tensor(value, device=device, requires_grad=True) for value in (14.0, -10.0)]

            def run(loss: Any = loss, features: Any = features, scalars: Any = scalars) -> list[Tensor]:
                value = loss(
                    Pairs(image_BD=features[0], text_BD=features[1], logit_scale=scalars[0], logit_bias=scalars[1])
                )
                return list(torch.autograd.grad(value, features))

            if pairs == scale.loss_pairs[0]:
                error = distance(run(), whole(name, features, scalars))
                assert error < 1e-4, f"{name}: gradients are {error:.1e} away from those of all logits"
                results[f"{name}_error"] = error
            results[f"{name}_{pairs}_ms"] = 1e3 * seconds_of(run, device, 3, warm=1)
            bytes_held = peak_bytes(run, device)
            results[f"{name}_{pairs}_gib"] = None if bytes_held is None else bytes_held / GIB
    return results


def whole(name: str, features: list[Tensor], scalars: list[Tensor]) -> list[Tensor]:
    """Gradients of a loss of all logits, by the formula, in double precision."""
    image_BD, text_BD = (value.detach().double().requires_grad_() for value in features)
    logits_BB = float(scalars[0]) * image_BD @ text_BD.T
    if name == "sigmoid":
        signs_BB = 2 * torch.eye(len(logits_BB), device=logits_BB.device, dtype=logits_BB.dtype) - 1
        loss = -nn.functional.logsigmoid(signs_BB * (logits_BB + float(scalars[1]))).sum() / len(logits_BB)
    else:
        pair_B = logits_BB.diagonal()
        loss = (logits_BB.logsumexp(0) + logits_BB.logsumexp(1) - 2 * pair_B).mean() / 2
    return list(torch.autograd.grad(loss, [image_BD, text_BD]))
