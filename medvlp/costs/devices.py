"""GPUs and links: what their makers state. What a training reaches of it is a share that the configuration gives."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    half, single: dense FLOP/s of bfloat16 on its tensor cores, and of float32 outside of them. memory: bytes. bandwidth: of
    its memory, bytes/s. link: the name of the link to others of its node. source: where the figures stand.
    """

    half: float
    single: float
    memory: int
    bandwidth: float
    link: str
    source: str


GPUS = {
    "v100": Gpu(
        125e12,
        15.7e12,
        32 * GIB,
        0.9e12,
        "nvlink2",
        "NVIDIA V100 data sheet, SXM2 (float16, it has no bfloat16; its NVLink was not compared)",
    ),
    "a100-40": Gpu(312e12, 19.5e12, 40 * GIB, 1.555e12, "nvlink3", "NVIDIA A100 data sheet, SXM4, 40 GB"),
    "a100": Gpu(312e12, 19.5e12, 80 * GIB, 2.039e12, "nvlink3", "NVIDIA A100 data sheet, SXM4, 80 GB"),
    "h100": Gpu(989.4e12, 66.9e12, 80 * GIB, 3.35e12, "nvlink4", "NVIDIA H100 data sheet, SXM5, without sparsity"),
    "h200": Gpu(989.4e12, 66.9e12, 141 * 10**9, 4.8e12, "nvlink4", "NVIDIA H200 data sheet, SXM5, without sparsity"),
    "l40s": Gpu(362.05e12, 91.6e12, 48 * GIB, 0.864e12, "pcie4", "NVIDIA L40S data sheet, without sparsity"),
    "rtx4090": Gpu(
        165.2e12,
        82.6e12,
        24 * GIB,
        1.008e12,
        "pcie4",
        "NVIDIA Ada architecture white paper, without sparsity (not compared with any page)",
    ),
}
"""The sheets themselves were out of reach; figures were compared with pages that quote them, but for what is marked."""
LINKS = {
    "nvlink2": 150e9,
    "nvlink3": 300e9,
    "nvlink4": 450e9,
    "pcie4": 32e9,
    "pcie5": 64e9,
    "ib-hdr": 25e9,
    "ib-ndr": 50e9,
    "ethernet-100g": 12.5e9,
    "ethernet-25g": 3.125e9,
    "ethernet-10g": 1.25e9,
}
"""Link → bytes/s of a GPU in one direction, as its makers state: half of NVLink's total (600 GB/s of an A100, 900 of an H100, of
which both were compared), x16 of PCIe, and a port of a network by its name: HDR 200 Gbit/s, NDR 400."""


@dataclass(frozen=True)
class Machine:
    """What a training reaches on each of its ranks.

    compute: FLOP/s of the towers. loss: FLOP/s of the loss, in float32. activations: bytes/s of what towers keep for
    backward, where their element-wise work is not in `compute` already; None where it is. memory: bytes/s of the optimizer.
    link: bytes/s between ranks. images: a second, of one loader process. overlaps: gradients are exchanged while the backward
    pass goes on; not so where the processor that computes also sends them.
    """

    compute: float
    loss: float
    activations: float | None
    memory: float
    link: float
    images: float
    overlaps: bool = True
