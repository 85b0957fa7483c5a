"""Exponential moving average of the weights (EMA): what is evaluated and exported instead of the last step's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medvlp.training.sharding import divided_as


class WeightAverage:
    """The average of a model's learning parameters and of its buffers, in single precision at least.

    After step t it moves towards the weights by 1 - min(decay, (1 + t) / (10 + t)), so that the first steps are soon
    forgotten (as in TensorFlow's). Every rank has the same weights, and so the same average.

    Args:
        model: whose weights are averaged; the average begins with the present ones.
        decay: the share of the average that a step keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.average = {name: self._wide(tensor) for name, tensor in self.sources.items()}

    @property
    def sources(self) -> dict[str, Tensor]:
        """The tensors that are averaged, by name."""
        learning = {name: p.data for name, p in self.model.named_parameters() if p.requires_grad}
        saved = self.model.state_dict(keep_vars=True)
        buffers = {name: b for name, b in self.model.named_buffers() if name in saved and b.is_floating_point()}
        return learning | buffers

    @staticmethod
    def _wide(tensor: Tensor) -> Tensor:
        return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimizer step `step`, counted from 1."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        sources = self.sources
        for name, average in self.average.items():
            average.lerp_(sources[name].to(average.dtype), weight)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name."""
        return dict(self.average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from saved averages, by name; all of them must be there."""
        for name, average in self.average.items():
            average.copy_(divided_as(state[name], average))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While it lasts, the model's weights are the averages."""
        weights = {name: tensor.clone() for name, tensor in self.sources.items()}
        with torch.no_grad():
            for name, tensor in self.sources.items():
                tensor.copy_(self.average[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self.sources.items():
                    tensor.copy_(weights[name])
