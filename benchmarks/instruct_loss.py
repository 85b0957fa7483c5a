"""Memory and CPU time of a language model's loss, forward and backward, against transformers' over all positions.

Of 8,192 positions 2,048 are supervised, at a vocabulary of 49,152 and a width of 576 (SmolLM2-135M's), in float32. All
variants give the same loss and gradients (asserted first). Memory is what the process's resident peak rises above its
inputs in a fresh process: the kernel's own count (VmHWM), which sees every allocation, torch's or not, and
unlike ru_maxrss does not start from the parent's peak. It agrees with arithmetic: full logits are three tensors at the
peak (log-probabilities, their gradient, the logits' gradient), 4,608 MiB. The weight's gradient, 108 MiB, is in every figure.
The C library keeps some freed chunks, more or fewer from run to run: hence the median of several processes.

It does not show a GPU: its allocator and kernels differ, its products in float32 cost more than the bfloat16 ones that
autocast would choose for full logits, and those logits would weigh half before the loss makes them float32. Nor does it
show the language model around the loss, whose activations stand beside it.
"""

import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.measure import interleaved, report
from medvlp.losses.token_cross_entropy import linear_cross_entropy

SEQUENCES, LENGTH, VOCABULARY, WIDTH, ROUNDS = 4, 2048, 49_152, 576, 3
MIB = 2**20


def inputs(vocabulary: int = VOCABULARY) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, projection and labels; the last quarter of every 512 positions is an answer, the rest is -100."""
    generator = torch.Generator().manual_seed(0)
    hidden_BSD = torch.empty(SEQUENCES, LENGTH, WIDTH).normal_(generator=generator).requires_grad_()
    weight_VD = torch.empty(vocabulary, WIDTH).normal_(0, 0.05, generator=generator).requires_grad_()
    labels_BS = torch.randint(vocabulary, (SEQUENCES, LENGTH), generator=generator)
    labels_BS[:, torch.arange(LENGTH) % 512 < 384] = -100
    return hidden_BSD, weight_VD, labels_BS


def full(hidden_BSD: Tensor, weight_VD: Tensor, labels_BS: Tensor) -> Tensor:
    from transformers.loss.loss_utils import ForCausalLMLoss  # slow to import, and the other processes do without

    return ForCausalLMLoss(hidden_BSD @ weight_VD.T, labels_BS, len(weight_VD))


def supervised(hidden_BSD: Tensor, weight_VD: Tensor, labels_BS: Tensor) -> Tensor:
    hidden_TD, target_T = at_answers(hidden_BSD, labels_BS)
    return functional.cross_entropy((hidden_TD @ weight_VD.T).float(), target_T)


def chunked(hidden_BSD: Tensor, weight_VD: Tensor, labels_BS: Tensor) -> Tensor:
    hidden_TD, target_T = at_answers(hidden_BSD, labels_BS)
    return linear_cross_entropy(hidden_TD, weight_VD, target_T, torch.full((len(target_T),), 1 / len(target_T)))


def torchs(hidden_BSD: Tensor, weight_VD: Tensor, labels_BS: Tensor) -> Tensor:
    """torch's chunks of positions, at the size that was fastest here; only recent versions have it."""
    hidden_TD, target_T = at_answers(hidden_BSD, labels_BS)
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=256)
    loss_T = functional.linear_cross_entropy(hidden_TD, weight_VD, target_T, reduction="none", options=options)
    return loss_T.mean()


def at_answers(hidden_BSD: Tensor, labels_BS: Tensor) -> tuple[Tensor, Tensor]:
    """The states that predict a labelled token, and these tokens."""
    answers_BS = labels_BS[:, 1:] != -100
    return hidden_BSD[:, :-1][answers_BS], labels_BS[:, 1:][answers_BS]


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "full": full,
    "supervised": supervised,
    "chunked": chunked,
}
if hasattr(functional, "linear_cross_entropy"):
    LOSSES["torch"] = torchs

LABELS = {
    "full": "logits at all positions (transformers)",
    "supervised": "logits at supervised positions",
    "chunked": "medvlp, chunks of the vocabulary",
    "torch": "torch, chunks of positions",
}


def peak_mib(name: str) -> float:
    """How far the resident peak of one forward and backward rises above the process with its inputs."""
    torch.set_num_threads(1)
    small = inputs(vocabulary=64)
    LOSSES[name](*small).backward()  # whatever libraries set up on first use is not the loss's
    arguments = inputs()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    peak_before = resident_peak()
    LOSSES[name](*arguments).backward()
    return (resident_peak() - peak_before) / MIB


def in_a_fresh_process(name: str) -> float:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(peak_mib, name).result()


def resident_peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def assert_same(arguments: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    """Relative distance of each variant's gradients from transformers', the largest of the two."""

    def results(name: str) -> list[Tensor]:
        loss = LOSSES[name](*arguments)
        return [loss.detach(), *torch.autograd.grad(loss, arguments[:2])]

    reference, distances = results("full"), {}
    for name in [name for name in LOSSES if name != "full"]:
        away = [float((a - b).norm() / b.norm()) for a, b in zip(results(name), reference, strict=True)]
        assert away[0] < 1e-6, f"the loss of {name} is {away[0]:.1e} away"
        assert max(away[1:]) < 1e-5, f"the gradients of {name} are {away[1:]} away"
        distances[name] = max(away[1:])
    return distances


def main() -> int:
    if not Path("/proc/self/clear_refs").exists():
        print("needs Linux: the peak is read from /proc/self/status", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    memory = {name: median(in_a_fresh_process(name) for _ in range(ROUNDS)) for name in LOSSES}
    arguments = inputs()
    distances = assert_same(arguments)

    def step(name: str) -> Callable[[], object]:
        return lambda: torch.autograd.grad(LOSSES[name](*arguments), arguments[:2])

    seconds = interleaved({name: step(name) for name in LOSSES}, ROUNDS)
    ratios = {
        "memory_ratio_full_vs_chunked": memory["full"] / memory["chunked"],
        "memory_ratio_supervised_vs_chunked": memory["supervised"] / memory["chunked"],
        "cpu_ratio_full_vs_chunked": seconds["full"] / seconds["chunked"],
        "cpu_ratio_supervised_vs_chunked": seconds["supervised"] / seconds["chunked"],
    }
    rows = [(LABELS[name], f"{memory[name]:7.0f} MiB  {seconds[name]:6.2f} CPU-s") for name in LOSSES]
    rows.append(("memory", "{:.1f} times less than full, {:.1f} than supervised".format(*list(ratios.values())[:2])))
    rows.append(("CPU time", "{:.2f} times less than full, {:.2f} than supervised".format(*list(ratios.values())[2:])))
    rows.append(("gradients", f"within {max(distances.values()):.0e} of transformers'"))
    values: dict[str, object] = {name: round(value, 3) for name, value in ratios.items()}
    values["memory_mib"] = {name: round(value, 1) for name, value in memory.items()}
    values["cpu_seconds"] = {name: round(value, 3) for name, value in seconds.items()}
    report("instruct_loss", rows, values)
    return 0


if __name__ == "__main__":
    sys.exit(main())
