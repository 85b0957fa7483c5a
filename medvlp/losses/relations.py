"""What the pairs of a batch are to each other, block by block: right for each other, wrong, or ignored.

B: a rank's pairs; N: all ranks' pairs; R: rows of a block; C: columns of a block; K: most ids of a pair; V: distinct ids.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
import torch.distributed as dist
from torch import Tensor

from medvlp.distributed import rank, world_size
from medvlp.losses import POSITIVES_AS, SAME_TEXT, Pairs
from medvlp.losses.gather import gather

BLOCK_LOGITS = 2**20
"""Logits held at a time on a CPU: 4 MiB in float32; with fewer, products are slower, with more nothing is won."""
GPU_BLOCK_LOGITS = 2**24
"""On a GPU, where small products leave it idle: 64 MiB. Not run on one."""
LEAST_ROWS = 32
"""Rows of a block however many columns there are: a thinner product is slow, and 32 × N logits are no more than the features
of N pairs are in any model."""
NO_ID = -1
"""Fills the row of a pair that has fewer ids than others."""


class Ids:
    """Ids of all ranks' pairs: two pairs agree where they have an id in common.

    ids: of this rank's pairs, int64 (B,), or (B, K) filled with NO_ID; ranks may have different K.
    """

    def __init__(self, ids: Tensor) -> None:
        width = torch.tensor(ids.shape[1] if ids.ndim == 2 else 1, device=ids.device)
        if world_size() > 1 and ids.ndim == 2:
            dist.all_reduce(width, dist.ReduceOp.MAX)
        self.is_multiple = int(width) > 1
        if not self.is_multiple:
            self.ids_N = gather(ids.flatten())
            return
        ids_NK = gather(torch.nn.functional.pad(ids, (0, int(width) - ids.shape[1]), value=NO_ID))
        pair_M, column_M = (ids_NK != NO_ID).nonzero().unbind(dim=1)
        vocabulary_V, id_M = ids_NK[pair_M, column_M].unique(return_inverse=True)
        self.members_NV = torch.sparse_coo_tensor(
            torch.stack([pair_M, id_M]),
            torch.ones(len(id_M), device=ids.device),
            (len(ids_NK), len(vocabulary_V)),
            check_invariants=False,
        ).coalesce()

    def agree(self, rows: slice, columns: slice) -> Tensor:
        """(R, C) whether these pairs agree, by their numbers over all ranks."""
        if not self.is_multiple:
            return self.ids_N[rows, None] == self.ids_N[None, columns]
        members_RV = self.members_NV.index_select(0, numbers(rows, self.members_NV.device)).to_dense()
        return torch.sparse.mm(self.members_NV, members_RV.T).T[:, columns] > 0


def numbers(rows: slice, device: torch.device) -> Tensor:
    """The numbers of a slice."""
    return torch.arange(rows.start, rows.stop, device=device)


class Block:
    """Some rows of some columns: what its pairs are to each other.

    Args:
        rows: of this rank's pairs.
        numbers: of these rows among all ranks' pairs.
        columns: numbers of the columns among all ranks' pairs.
    """

    def __init__(self, relations: "Relations", rows: slice, columns: slice) -> None:
        self.rows, self.columns, self.relations = rows, columns, relations
        self.numbers = slice(rows.start + relations.first, rows.stop + relations.first)
        diagonal_R = numbers(self.numbers, relations.device) - columns.start
        is_inside_R = (diagonal_R >= 0) & (diagonal_R < columns.stop - columns.start)
        self.pair_rows, self.pair_columns = is_inside_R.nonzero()[:, 0], diagonal_R[is_inside_R]
        """Where the block has pairs themselves."""

    @cached_property
    def positive_RC(self) -> Tensor | None:
        """Pairs that are right for each other, the pair itself among them; None: only the pair itself."""
        positive_RC = self._any(self.relations.positives)
        if positive_RC is not None:
            positive_RC[self.pair_rows, self.pair_columns] = True
        return positive_RC

    @cached_property
    def ignored_RC(self) -> Tensor | None:
        """Pairs that do not count; None: all count."""
        ignored_RC = self._any(self.relations.ignored)
        if ignored_RC is not None:
            if self.positive_RC is not None:
                ignored_RC &= ~self.positive_RC
            ignored_RC[self.pair_rows, self.pair_columns] = False
        return ignored_RC

    @cached_property
    def right_RC(self) -> Tensor:
        """As `positive_RC`, but a matrix in any case."""
        if self.positive_RC is not None:
            return self.positive_RC
        shape = (self.rows.stop - self.rows.start, self.columns.stop - self.columns.start)
        right_RC = torch.zeros(shape, dtype=torch.bool, device=self.relations.device)
        right_RC[self.pair_rows, self.pair_columns] = True
        return right_RC

    @cached_property
    def not_negative_RC(self) -> Tensor:
        """Pairs that are right for each other, or do not count."""
        return self.right_RC if self.ignored_RC is None else self.right_RC | self.ignored_RC

    def _any(self, ids: Sequence[Ids]) -> Tensor | None:
        agree = None
        for item in ids:
            matrix_RC = item.agree(self.numbers, self.columns)
            agree = matrix_RC if agree is None else agree | matrix_RC
        return agree


class Relations:
    """What all ranks' pairs are to this rank's.

    Args:
        pairs: their ids, and what equal ids mean.
        rows: of a block; 0: as many as BLOCK_LOGITS allows.
    Raises:
        ValueError: a meaning that there is not, or one without the ids that it is about.
    """

    def __init__(self, pairs: Pairs, rows: int = 0) -> None:
        if pairs.same_text not in SAME_TEXT or pairs.positives_as not in POSITIVES_AS:
            raise ValueError(
                f"objective.same_text={pairs.same_text!r}, objective.positives_as={pairs.positives_as!r}: unknown"
            )
        if pairs.same_text != "negative" and pairs.text_ids_B is None:
            raise ValueError(f"objective.same_text={pairs.same_text} needs text_ids_B")
        self.size, self.device, self.rows = len(pairs.image_BD), pairs.image_BD.device, rows
        self.first = rank() * self.size
        self.total = world_size() * self.size
        self.positives: list[Ids] = []
        self.ignored: list[Ids] = []
        for ids, meaning in ((pairs.text_ids_B, pairs.same_text), (pairs.class_ids_B, pairs.positives_as)):
            if ids is not None and meaning != "negative":
                (self.ignored if meaning in ("masked", "mask") else self.positives).append(Ids(ids))

    def blocks(self, columns: slice | None = None) -> Iterator[Block]:
        """All of this rank's rows, some at a time, of all columns or some."""
        columns = columns or slice(0, self.total)
        logits = BLOCK_LOGITS if self.device.type == "cpu" else GPU_BLOCK_LOGITS
        rows = self.rows or max(LEAST_ROWS, logits // (columns.stop - columns.start))
        for first in range(0, self.size, rows):
            yield Block(self, slice(first, min(first + rows, self.size)), columns)

    @cached_property
    def count_N(self) -> Tensor | None:
        """How many pairs are right for each of all ranks' pairs, itself among them; None: only itself."""
        if not self.positives:
            return None
        count_N = torch.zeros(self.total, dtype=torch.int64, device=self.device)
        for block in self.blocks():
            assert block.positive_RC is not None
            count_N += block.positive_RC.sum(dim=0)
        if world_size() > 1:
            dist.all_reduce(count_N)
        return count_N
