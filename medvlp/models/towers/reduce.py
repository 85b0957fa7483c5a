"""Fewer tokens an image. B: batch; N: tokens of an image; D: width."""

from typing import Literal

from torch import Tensor, nn

from medvlp.models.weights import WeightsError


class Reduce(nn.Module):
    """Fewer tokens: each square of k × k neighbours on the tokens' square grid becomes one.

    `average_pool` takes their mean: (B, N, D) → (B, N/k², D). `pixel_shuffle` lays them behind each other, row by row:
    (B, N, D) → (B, N/k², D·k²), as Idefics3 and InternVL do (Shi 2016).

    Raises:
        ValueError: an unknown kind.
        WeightsError: at the call, tokens that are no square grid, or a grid that k does not divide.
    """

    def __init__(self, kind: Literal["average_pool", "pixel_shuffle"], factor: int) -> None:
        super().__init__()
        if kind not in ("average_pool", "pixel_shuffle") or factor < 1:
            raise ValueError(f"Reduce({kind!r}, {factor}): expected average_pool or pixel_shuffle, and a factor >= 1")
        self.kind, self.factor = kind, factor

    def width(self, width: int) -> int:
        """The width of a token that leaves."""
        return width if self.kind == "average_pool" else width * self.factor**2

    def tokens(self, tokens: int) -> int:
        """How many tokens leave."""
        side = round(tokens**0.5)
        if side * side != tokens or side % self.factor:
            raise WeightsError(f"{tokens} tokens do not form squares of {self.factor} x {self.factor} on a square grid")
        return (side // self.factor) ** 2

    def forward(self, tokens_BND: Tensor) -> Tensor:
        """(B, N, D) → (B, N/k², D or D·k²)."""
        batch, tokens, width = tokens_BND.shape
        side, factor = round(self.tokens(tokens) ** 0.5), self.factor
        squares = tokens_BND.reshape(batch, side, factor, side, factor, width)
        if self.kind == "average_pool":
            return squares.mean(dim=(2, 4)).flatten(1, 2)
        return squares.transpose(2, 3).reshape(batch, side * side, factor * factor * width)

    def extra_repr(self) -> str:
        """For printing the model."""
        return f"{self.kind}, factor={self.factor}"
