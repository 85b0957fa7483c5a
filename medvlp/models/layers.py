"""Depth of a tower's weights: the block that each is in, for unfreezing the last ones and for rates that fall with depth."""

import re
from collections.abc import Iterable, Mapping

from torch import nn

from medvlp.errors import UserError
from medvlp.models.parts import Parts, part_of

BLOCK = re.compile(r"\.(?:resblocks|blocks|stages|layers|layer|block)\.(\d+)(?:\.|$)|\.layer([1-9])(?:\.|$)")
"""How open_clip, timm and transformers number a tower's blocks, a ResNet's stages included; the outermost number counts."""


def block_of(name: str) -> int | None:
    """The block that a parameter or module is in, counted from 0; None outside blocks."""
    match = BLOCK.search(name)
    if match is None:
        return None
    return int(match[1]) if match[1] else int(match[2]) - 1


def ends_in_block(name: str) -> bool:
    """Whether a module is a block, and not a part of one."""
    match = BLOCK.search(name)
    return match is not None and match.end() == len(name)


def depths(names: Iterable[str]) -> dict[str, int]:
    """Depth of a tower's parameters: 0 before the blocks (stem, embeddings), i + 1 in block i, the last block's after them.

    As timm's layer decay and open_clip's lock group them (Bao 2021; Zhai 2021). names: in the order of registration.
    """
    names = list(names)
    blocks = {name: block_of(name) for name in names}
    last = max((block for block in blocks.values() if block is not None), default=-1) + 1
    result, has_begun = {}, False
    for name, block in blocks.items():
        has_begun |= block is not None
        outside = last if has_begun and "emb" not in name else 0
        result[name] = outside if block is None else block + 1
    return result


def part_depths(model: nn.Module, parts: Parts, part: str, key: str) -> dict[str, int]:
    """`depths` of a part's parameters.

    key: that asks for them, for the message.

    Raises:
        UserError: the part has no blocks.
    """
    result = depths(name for name, _ in model.named_parameters() if part_of(name, parts) == part)
    if max(result.values(), default=0) == 0:
        raise UserError(f"{key}: the part {part!r} has no numbered blocks; it can be frozen or trained as a whole only")
    return result


def freeze_but_last(model: nn.Module, parts: Parts, last_blocks: Mapping[str, int]) -> dict[str, int]:
    """Stop gradients of all but the last blocks of parts, and what follows them.

    Returns: part → its greatest frozen depth.

    Raises:
        UserError: a part without blocks, or with fewer.
    """
    boundaries = {}
    for part, count in last_blocks.items():
        key = f"optim.parts.{part}.last_blocks={count}"
        depth_of = part_depths(model, parts, part, key)
        boundaries[part] = max(depth_of.values()) - count
        if boundaries[part] < 0:
            raise UserError(f"{key}: the part has {max(depth_of.values())} blocks")
        for name, parameter in model.named_parameters():
            if name in depth_of and depth_of[name] <= boundaries[part]:
                parameter.requires_grad_(False)
    return boundaries


def is_below(name: str, module: nn.Module, boundary: int) -> bool:
    """Whether a module of a part lies at or below its greatest frozen depth."""
    block = block_of(name)
    if block is not None:
        return block + 1 <= boundary
    return not any(parameter.requires_grad for parameter in module.parameters())
