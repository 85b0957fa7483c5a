"""Low-rank adapters (LoRA, Hu 2021) in a CLIP's towers, and the plain weights that they amount to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from medvlp.models.parts import CLIP_PARTS, part_of
from medvlp.models.weights import WeightsError

BASE, ADAPTER = ".base_layer.", ".lora_"
"""How peft names, inside the layer that took its place, the former layer and what was added."""


@dataclass(frozen=True)
class TowerAdapters:
    """Adapters in a model: a layer's output gains `alpha / rank` · B A x."""

    rank: int
    alpha: int

    def merged(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with plain names, the adapters added into the layers' weights."""
        plain = {}
        for name, tensor in state.items():
            if ADAPTER in name:
                continue
            if name.endswith(f"{BASE}weight"):
                stem = name.removesuffix(f"{BASE}weight")
                low, high = (state[f"{stem}.lora_{matrix}.default.weight"] for matrix in "AB")
                change = (high.float() @ low.float() if high.dtype.itemsize < 4 else high @ low) * (
                    self.alpha / self.rank
                )
                tensor = (tensor + change).to(tensor.dtype)
            plain[name.replace(BASE, ".")] = tensor
        return plain


def add_adapters(model: nn.Module, towers: Sequence[str], rank: int, alpha: int, dropout: float) -> TowerAdapters:
    """Put adapters around every linear layer of the towers, in place; the towers' own weights are frozen, heads are not.

    The layers inside torch's MultiheadAttention, as open_clip's own towers have it, read their weights directly and get none:
    there the MLPs are adapted.

    Raises:
        WeightsError: a tower has no such layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    attention = tuple(f"{n}." for n, module in model.named_modules() if isinstance(module, nn.MultiheadAttention))
    names: list[str] = []
    for tower in towers:
        layers = [
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and part_of(name, CLIP_PARTS) == tower and not name.startswith(attention)
        ]
        if not layers:
            raise WeightsError(f"model.lora.towers: the tower {tower!r} has no linear layer to adapt")
        names += layers
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    settings: Any = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names)
    inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():  # peft freezes all that is no adapter
        is_outside = part_of(name, CLIP_PARTS) not in towers
        parameter.requires_grad_(ADAPTER in name or (is_outside and name in learning))
    return TowerAdapters(rank, alpha)
