"""What each rank does in the tests of losses; apart from them, so that a rank imports no more than torch and the losses."""

import torch
from torch import nn
from torch.nn.functional import embedding, normalize

from medvlp.losses.info_nce import InfoNCE
from medvlp.losses.token_cross_entropy import linear_cross_entropy

IDS = [0, 1, 0, 1, 2, 2, 2, 3]
CLASSES = [0, 0, 1, 1, 2, 3, 3, 3]
KINDS = [(same_text, classes) for same_text in ("negative", "masked", "mil_nce") for classes in (None, CLASSES)]


def features(rows: int = 8, width: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(values[0], dim=-1), normalize(values[1], dim=-1)


def info_nce_of_a_rank(folder: str) -> None:
    """Saves by kind: the loss, the gradients of this rank's rows, and of the scale."""
    torch.distributed.init_process_group("gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    share = slice(rank * 8 // ranks, (rank + 1) * 8 // ranks)
    results = {}
    for kind, classes in KINDS:
        image, text = (f[share].clone().requires_grad_() for f in features())
        scale = torch.tensor(14.0, dtype=torch.float64, requires_grad=True)
        classes_of_rank = None if classes is None else torch.tensor(classes)[share]
        loss = InfoNCE()(image, text, scale, torch.tensor(IDS)[share], kind, classes_of_rank)
        grads = torch.autograd.grad(loss, (image, text, scale))
        # what DDP does: the mean over ranks of each rank's gradient
        sums = [loss.detach(), grads[2]]
        for value in sums:
            torch.distributed.all_reduce(value)
        results[f"{kind} {classes}"] = [sums[0] / ranks, grads[0] / ranks, grads[1] / ranks, sums[1] / ranks]
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


CUTS = {"both supervise": 5, "the second rank has no supervised position": 8}
"""Of 8 positions, those that the first rank has."""


def positions(count, vocabulary, width, dtype=torch.float64, seed=0):
    """Hidden, weight, target, weight of each position; logits spread over about ±10."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, width, generator=generator, dtype=torch.float64)
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64) * 3 / width**0.5
    target = torch.randint(0, vocabulary, (count,), generator=generator)
    each = torch.rand(count, generator=generator, dtype=torch.float64)
    return hidden.to(dtype), weight.to(dtype), target, each.to(dtype)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(positions(1, 11, 3)[1])
        self.layer = nn.Linear(3, 3, dtype=torch.float64)

    def forward(self, ids, target, each):
        return linear_cross_entropy(self.layer(embedding(ids, self.table)), self.table, target, each)


def tied_inputs(part):
    _, _, target, each = positions(8, 11, 3)
    return torch.arange(8)[part], target[part], each[part]


def cross_entropy_of_a_rank(folder: str) -> None:
    """Saves the gradients by cut."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    for name, cut in CUTS.items():
        torch.manual_seed(0)
        model = nn.parallel.DistributedDataParallel(Tied())
        for _ in range(2):  # the second step is where DDP complains of parameters that the first one left unused
            model.zero_grad()
            model(*tied_inputs(slice(cut) if rank == 0 else slice(cut, None))).backward()
        torch.save([parameter.grad for parameter in model.parameters()], f"{folder}/{name} {rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
