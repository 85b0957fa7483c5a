"""What each rank does in the tests of losses; apart from them, so that a rank imports no more than torch and the losses."""

from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import embedding, normalize

from medvlp.losses import Pairs, contrastive_loss
from medvlp.losses.token_cross_entropy import linear_cross_entropy

IDS = [0, 1, 0, 1, 2, 2, 2, 3]
CLASSES = [0, 0, 1, 1, 2, 3, 3, 3]
SETS = [[0, 5], [0], [1, 6, 7], [1], [2, 5], [3], [3, 6], [4]]
"""Ids of pairs, of which a pair may have several."""
SOFTMAX = ("info_nce", "hard_negatives")
CASES = [
    *((loss, text, None, "target") for loss in SOFTMAX for text in ("negative", "masked", "mil_nce")),
    *(
        (loss, "negative", ids, way)
        for loss in SOFTMAX
        for ids in ("classes", "sets")
        for way in ("target", "inside", "mask")
    ),
    ("info_nce", "masked", "classes", "target"),
    ("info_nce", "mil_nce", "classes", "target"),
    *(("sigmoid", text, None, "target") for text in ("negative", "masked", "positive")),
    *(("sigmoid", "negative", ids, way) for ids in ("classes", "sets") for way in ("target", "mask")),
    ("sigmoid", "masked", "classes", "target"),
]
"""(loss, objective.same_text, which ids join pairs, objective.positives_as)."""
OVER_RANKS = [
    ("info_nce", "negative", None, "target"),
    ("info_nce", "masked", "sets", "target"),
    ("info_nce", "mil_nce", "classes", "target"),
    ("info_nce", "negative", "classes", "mask"),
    ("hard_negatives", "masked", "sets", "inside"),
    ("hard_negatives", "negative", "classes", "target"),
    ("sigmoid", "negative", None, "target"),
    ("sigmoid", "masked", "sets", "target"),
    ("sigmoid", "positive", "classes", "mask"),
]


def features(rows: int = 8, width: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randn(2, rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(values[0], dim=-1), normalize(values[1], dim=-1)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def class_ids(kind: str | None) -> torch.Tensor | None:
    """Of one width on every rank only if the widest sets are on each."""
    if kind != "sets":
        return None if kind is None else torch.tensor(CLASSES)
    return torch.tensor([ids + [-1] * (3 - len(ids)) for ids in SETS])


def pairs_of(text: str, ids: str | None, way: str, share: slice = slice(None), scale: float = 14.0) -> Pairs:
    """Pairs whose features, scale and bias are leaves."""
    image_BD, text_BD = (values[share].clone().requires_grad_() for values in features())
    classes = class_ids(ids)
    return Pairs(
        image_BD=image_BD,
        text_BD=text_BD,
        logit_scale=scalar(scale),
        logit_bias=scalar(-3.0),
        text_ids_B=torch.tensor(IDS)[share],
        same_text=text,
        class_ids_B=None if classes is None else classes[share],
        positives_as=way,
    )


def gradients(loss: torch.Tensor, pairs: Pairs) -> list[torch.Tensor]:
    """Of images, texts, scale and bias."""
    leaves = (pairs.image_BD, pairs.text_BD, pairs.logit_scale, pairs.logit_bias)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True)
    ]


def losses_of_a_rank(folder: str) -> None:
    """Saves by case: the mean loss, the gradients of this rank's rows, of the scale and of the bias, its pairs' losses."""
    torch.distributed.init_process_group("gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    share = slice(rank * 8 // ranks, (rank + 1) * 8 // ranks)
    results = {}
    for case in OVER_RANKS:
        for exchange in ("gather", "ring") if case[0] == "sigmoid" else ("",):
            pairs = pairs_of(*case[1:], share)
            if pairs.class_ids_B is not None and pairs.class_ids_B.ndim == 2:
                width = int((pairs.class_ids_B >= 0).sum(dim=1).max())  # ranks bring what they have
                pairs = replace(pairs, class_ids_B=pairs.class_ids_B[:, :width])
            losses_B = contrastive_loss(case[0], {"chunk": 3} | ({"exchange": exchange} if exchange else {})).of_pairs(
                pairs
            )
            loss = losses_B.mean()
            image, text, *direct = gradients(loss, pairs)
            values = [loss.detach(), *direct]
            for value in values:  # what DDP does: the mean over ranks of each rank's gradient
                torch.distributed.all_reduce(value)
            results[f"{case} {exchange}"] = [values[0], image, text, *values[1:], losses_B.detach() * ranks]
    torch.save({name: [value / ranks for value in values] for name, values in results.items()}, f"{folder}/{rank}.pt")
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
