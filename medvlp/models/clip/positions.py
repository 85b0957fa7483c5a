"""Learned positions of a text tower for contexts of another length than it was trained with.

L: positions of the longer context; N: those that there are; D: width.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from open_clip import factory
from torch import Tensor
from torch.nn.functional import interpolate

from medvlp.distributed import launched_rank

RULES = ("linear", "kept")
FIRST = 20
"""Positions that the rule `kept` leaves as they are (Long-CLIP, Zhang 2024: those that training saw most)."""
NAMES = ("positional_embedding", "text.positional_embedding")
"""Of CLIP and of CustomTextCLIP."""


def fitted(positions_ND: Tensor, length: int, rule: str, has_class: bool = False) -> Tensor:
    """(L, D): positions for a context of `length` tokens.

    A shorter context takes the first of them, so that what fits it has the embedding that it had. For a longer one:

    - linear: all are stretched evenly, by interpolation between neighbours, as open_clip does; a text has another embedding.
    - kept: the first FIRST stay, and the others are stretched over the rest, beyond the last one in its direction (Long-CLIP);
      a text of at most FIRST tokens has the embedding that it had, in a causal tower.

    Args:
        has_class: the last position is that of a class token, which stays.
    Raises:
        ValueError: another rule.
    """
    if has_class:
        return torch.cat([fitted(positions_ND[:-1], length - 1, rule), positions_ND[-1:]])
    count = len(positions_ND)
    if length <= count:
        return positions_ND[:length]
    if rule == "linear":
        stretched = interpolate(positions_ND.T[None].float(), size=length, mode="linear", align_corners=False)[0].T
        return stretched.to(positions_ND.dtype)
    if rule != "kept":
        raise ValueError(f"unknown rule {rule!r} of positions")
    first = min(FIRST, count - 2)
    offsets_M = torch.arange(length - first, device=positions_ND.device) * ((count - first) / (length - first)) + first
    low_M = offsets_M.floor().clamp(max=count - 2).long()
    wide_ND = positions_ND.float()
    share_M1 = (offsets_M - low_M)[:, None]
    stretched_MD = wide_ND[low_M] * (1 - share_M1) + wide_ND[low_M + 1] * share_M1
    return torch.cat([positions_ND[:first], stretched_MD.to(positions_ND.dtype)])


def fitted_state(tensors: Mapping[str, Tensor], targets: Mapping[str, Tensor], rule: str) -> dict[str, Tensor]:
    """A CLIP's weights with positions for the context of a model; others stay as they are.

    Args:
        targets: the model's tensors by name.
    """
    changes = {}
    for name in NAMES:
        if name in tensors and name in targets and tensors[name].shape[1:] == targets[name].shape[1:]:
            has_class = f"{name.removesuffix('positional_embedding')}cls_emb" in targets
            count, length = len(tensors[name]), len(targets[name])
            if count != length:
                changes[name] = fitted(tensors[name], length, rule, has_class)
                _tell(count, length, rule)
    return {**tensors, **changes}


@contextmanager
def fitting(rule: str) -> Iterator[None]:
    """While open_clip loads weights into a model of another context, positions are fitted by this rule."""
    original = factory.resize_text_pos_embed

    def fit(state_dict: dict[str, Tensor], model: Any, *_: Any, **__: Any) -> None:
        state_dict.update(fitted_state(state_dict, dict(model.named_parameters()), rule))

    factory.resize_text_pos_embed = fit
    try:
        yield
    finally:
        factory.resize_text_pos_embed = original


def _tell(count: int, length: int, rule: str) -> None:
    way = {
        "linear": "all interpolated linearly; every text has another embedding than before",
        "kept": f"the first {FIRST} as they were, the others interpolated linearly",
    }[rule]
    if launched_rank() == 0:
        words = "the first of them" if length < count else way
        print(f"note: the text tower has {count} positions, and the context {length}: {words}", flush=True)
