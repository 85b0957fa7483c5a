"""`medvlp plan` against a device: bytes and seconds of steps, by its counts and by what the device reaches."""

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device

from benchmarks.gpu.clip import GIB, backward, step_of
from benchmarks.gpu.device import reached
from benchmarks.gpu.scale import Scale, clip_model, pair_batch, training
from benchmarks.gpu.timing import peak_bytes, seconds_of
from medvlp.costs.counts import PassCounts, bytes_of, count_pass
from medvlp.costs.devices import Machine
from medvlp.costs.imitation import Imitation
from medvlp.costs.step import Step, memory_of
from medvlp.costs.step import seconds_of as predicted_seconds
from medvlp.losses.relations import GPU_BLOCK_LOGITS, LEAST_ROWS
from medvlp.models.clip.fusion import unit_vectors


def plan(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Predicted over measured, of steps in mixed precision and in float32 at both contexts: memory of the allocator, and time.

    Time is predicted from the share of a large product's pace that the first step reaches, so the first is exact by
    definition, and the others say whether that share holds.
    """
    products = reached(scale, device)
    share, results = 0.0, {}
    for context, dtype in (
        (scale.contexts[0], torch.bfloat16),
        (scale.contexts[1], torch.bfloat16),
        (scale.contexts[0], None),
    ):
        name = f"{context}_{'bf16' if dtype else 'fp32'}"
        module = training(clip_model(scale, context)).to(device)
        batch = move_data_to_device(pair_batch(scale, scale.pairs, context), device)
        run = step_of(module, lambda module=module, batch=batch, dtype=dtype: backward(module, batch, dtype))
        seconds, bytes_held = seconds_of(run, device, max(scale.rounds // 2, 1)), peak_bytes(run, device)
        step = counted(scale, context, dtype, device)
        pace = 1e12 * products["bf16_tflops" if dtype else "fp32_tflops"]
        share = share or step.tower_flops / seconds / pace
        machine = Machine(
            share * pace, share * 1e12 * products["fp32_tflops"], None, 1e9 * products["copy_gb_per_s"], 1e30, 1e30
        )
        memory = memory_of(step)
        results[f"{name}_predicted_gib"] = memory["total"] / GIB
        results[f"{name}_gib"] = None if bytes_held is None else bytes_held / GIB
        results[f"{name}_bytes_error"] = None if bytes_held is None else memory["total"] / bytes_held - 1
        results[f"{name}_seconds_error"] = predicted_seconds(step, machine)["step"] / seconds - 1
        del module, batch, run
    return {"share_of_product": share, **results}


def counted(scale: Scale, context: int, dtype: torch.dtype | None, device: torch.device) -> Step:
    """The step as `medvlp plan` counts it."""
    with torch.device("meta"):
        module = training(clip_model(scale, context))
    model_bytes = bytes_of([module.model])
    rows = max(LEAST_ROWS, GPU_BLOCK_LOGITS // scale.pairs)
    size = scale.vision["image_size"]
    counts = passes(scale, module, context, Imitation("cuda" if device.type == "cuda" else "cpu", dtype))
    return Step(counts, model_bytes, scale.pairs, 1, 1, scale.width, size, rows, 1, fused=device.type == "cuda")


def passes(scale: Scale, module: Any, context: int, imitation: Imitation) -> PassCounts:
    imitation.take(module)
    with imitation.here():
        batch = pair_batch(scale, scale.pairs, context)
        encoders = [
            lambda: module.image_features(batch)[0],
            lambda: unit_vectors(module.model.encode_text(batch.tokens_BL)),
        ]
        return count_pass(encoders, [module], scale.pairs, imitation, batch=[batch.images_BCHW, batch.tokens_BL])
