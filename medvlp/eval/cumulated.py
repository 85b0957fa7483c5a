"""Cumulated sums of whole numbers, such as how often items occur in resamples.

Legend: N items, R resamples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT_IN_FLOAT32 = 2**24
"""Whole numbers below it, and their sums that stay below it, are exact in float32."""

_CHUNK = 32
"""Rows that one product with a triangle cumulates."""


def cumulate(values_NR: NDArray[Any], out_NR: NDArray[Any]) -> None:
    """Cumulated sums over the first axis of whole numbers, exact as `np.cumsum` gives them and several times as fast.

    Chunks are cumulated by a product with a triangle, and what is before a chunk is added to it.
    """
    end = len(values_NR) // _CHUNK * _CHUNK
    if end:
        shape = end // _CHUNK, _CHUNK, values_NR.shape[1]
        out = out_NR[:end].reshape(shape)
        np.matmul(np.tri(_CHUNK, dtype=values_NR.dtype), values_NR[:end].reshape(shape), out=out)
        sum_CR = np.cumsum(out[:-1, -1], axis=0)
        out[1:] += sum_CR[:, None]
    if end < len(values_NR):
        np.cumsum(values_NR[end:], axis=0, out=out_NR[end:])
        if end:
            out_NR[end:] += out_NR[end - 1]
