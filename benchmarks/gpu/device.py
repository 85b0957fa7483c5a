"""The device itself: what a product and a copy reach, and the path through a process group of one rank."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.utilities import move_data_to_device
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu.scale import Scale, clip_model, distance, pair_batch, training
from benchmarks.gpu.timing import peak_bytes, seconds_of
from medvlp.costs.devices import GPUS
from medvlp.losses.gather import _Gather


def reached(scale: Scale, device: torch.device) -> dict[str, Any]:
    """TFLOP/s of products of random numbers by precision, and GB/s of a copy, read and written bytes together."""
    results: dict[str, Any] = {"torch": torch.__version__, "device": name_of(device)}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a, b = (torch.randn(scale.matrix, scale.matrix, device=device, dtype=dtype) for _ in "ab")
        results[f"{name}_tflops"] = (
            2 * scale.matrix**3 / seconds_of(lambda a=a, b=b: a @ b, device, scale.rounds) / 1e12
        )
    source = torch.zeros(scale.copied, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    results["copy_gb_per_s"] = 2 * scale.copied / seconds_of(lambda: target.copy_(source), device, scale.rounds) / 1e9
    gpu = GPUS.get(planned_name(name_of(device)))
    if gpu:
        results["bf16_share_of_peak"] = 1e12 * results["bf16_tflops"] / gpu.half
        results["copy_share_of_peak"] = 1e9 * results["copy_gb_per_s"] / gpu.bandwidth
    return results


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


UNLISTED_VARIANTS = {"pcie", "nvl", "mig", "laptop", "d", "v100"}
"""Words of names whose devices have other peaks than the table, or, of a V100, none in bfloat16."""


def planned_name(name: str) -> str:
    """A device's name in the table of `medvlp plan`; empty where it is not in it."""
    words = set(re.findall("[a-z0-9]+", name.lower().replace("rtx ", "rtx")))
    if words & UNLISTED_VARIANTS:
        return ""
    return "a100-40" if {"a100", "40gb"} <= words else next((key for key in GPUS if key in words), "")


@contextmanager
def process_group(device: torch.device) -> Iterator[str]:
    """Of one rank; its backend."""
    with tempfile.TemporaryDirectory() as folder:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{Path(folder) / 'address'}", rank=0, world_size=1)
        try:
            yield backend
        finally:
            dist.destroy_process_group()


def one_rank(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Features gathered over a process group of one rank with their gradient, and a step under DDP, against neither."""
    with process_group(device) as backend:
        rows_BD = torch.randn(scale.part, scale.width, device=device, requires_grad=True)
        weights_BD = torch.randn_like(rows_BD)
        (_Gather.apply(rows_BD) * weights_BD).sum().backward()
        assert rows_BD.grad is not None
        gather_error = float((rows_BD.grad - weights_BD).abs().max())
        assert gather_error == 0.0, f"a gathered row's gradient is {gather_error} away"
        context = scale.contexts[0]
        batch = move_data_to_device(pair_batch(scale, scale.part, context), device)
        gradients = []
        for is_wrapped in (False, True):
            module = training(clip_model(scale, context)).to(device)
            module.forward = module.loss  # type: ignore[method-assign]
            wrapped = DistributedDataParallel(module) if is_wrapped else module
            wrapped(batch)[0].backward()
            gradients.append([parameter.grad for parameter in module.parameters() if parameter.grad is not None])
        ddp_error = distance(gradients[1], gradients[0])
        assert ddp_error < 1e-5, f"gradients under DDP are {ddp_error:.1e} away"
    return {"backend": backend, "gather_error": gather_error, "ddp_gradient_error": ddp_error}


def fsdp2(scale: Scale, device: torch.device) -> dict[str, Any]:
    """Towers divided among one rank: gradients against whole ones; milliseconds and peak memory of steps in half precision."""
    from medvlp.training.sharding import shard_towers, whole

    context = scale.contexts[0]
    batch = move_data_to_device(pair_batch(scale, scale.part, context), device)
    gradients: list[list[Any]] = []
    results: dict[str, Any] = {}
    with process_group(device):
        for name in ("whole", "divided"):
            module = training(clip_model(scale, context)).to(device)
            if name == "divided":
                shard_towers(module.model, module.parts, init_device_mesh(device.type, (1,)))
            module.loss(batch)[0].backward()
            learned = [parameter.grad for parameter in module.model.parameters() if parameter.grad is not None]
            gradients.append([whole(gradient).to("cpu", copy=True) for gradient in learned])

            def run(module: Any = module) -> None:
                module.zero_grad()
                with torch.autocast(device.type, dtype=torch.bfloat16):
                    loss = module.loss(batch)[0]
                loss.backward()

            results[f"{name}_ms"] = 1e3 * seconds_of(run, device, scale.rounds)
            bytes_held = peak_bytes(run, device)
            results[f"{name}_gib"] = None if bytes_held is None else bytes_held / 2**30
            del module, learned, run
    results["gradient_error"] = distance(gradients[1], gradients[0])
    assert results["gradient_error"] < 1e-4, results
    return results
