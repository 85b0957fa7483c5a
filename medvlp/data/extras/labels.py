"""Labels of pairs, for heads next to a contrastive loss; a pair may lack them. B: pairs; C: classes of a head."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.dataset import Dataset
from medvlp.data.labels import MISSING, ClassLabels, UnknownLabel
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample

PROBED = 200
"""Samples of a source in which labels are looked for before a run starts."""


@dataclass
class PairLabels:
    """Targets of heads. heads: how each reads its labels."""

    heads: Mapping[str, ClassLabels]

    def prepare(self, sample: Sample, text: str, tokens: list[int], rng: np.random.Generator) -> dict[str, Any]:
        """targets: of each head, the class or -1; of several labels (C,) with NaN where one is missing."""
        return {"targets": {name: self.target(head, sample) for name, head in self.heads.items()}}

    def target(self, head: ClassLabels, sample: Sample) -> Any:
        """Of a head. Raises BadSample: a label that is neither a class nor excluded."""
        try:
            return (head.states if head.multi_label else head.class_index)(sample.labels, sample.metadata)
        except UnknownLabel as error:
            raise BadSample("unknown_label", key=sample.key, detail=str(error)) from None

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """targets: of each head int64 (B,), or float32 (B, C)."""
        return {
            "targets": {
                name: torch.as_tensor(np.stack([item["targets"][name] for item in items])) for name in self.heads
            }
        }

    def stretch(self, tokens_BL: Tensor) -> dict[str, Any]:
        """Labels do not change with the text."""
        return {}

    def check(self, datasets: Sequence[Dataset]) -> None:
        """Raises UserError: none of the first samples has a label of a head, or they have unknown ones."""
        missing = set(self.heads)
        for dataset in datasets:
            for row in range(min(len(dataset), PROBED)):
                with suppress(BadSample):
                    sample = dataset.read(row)
                    missing -= {name for name in missing if self.has_label(name, sample)}
        if missing:
            name = min(missing)
            raise UserError(
                f"objective.heads.{name}: none of the first samples of the data has a label of it "
                f"(label {self.heads[name].field!r}); `medvlp check` lists the labels that there are"
            )

    def has_label(self, name: str, sample: Sample) -> bool:
        """Whether a sample has a label of a head. Raises UserError: an unknown one."""
        head = self.heads[name]
        try:
            target = self.target(head, sample)
        except BadSample as error:
            raise UserError(
                f"objective.heads.{name}: {sample.key} has the label {error.detail!r}, which is no class of it; its classes are "
                f"{list(head.classes)}. Add it there, or to its exclude (`*`: all others)"
            ) from None
        return bool(not np.isnan(target).all() if head.multi_label else target != MISSING)
