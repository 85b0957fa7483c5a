"""Losses over the global batch. They take tensors and know nothing of configuration or models.

A contrastive loss is one file here and one line in LOSSES: a dataclass whose fields are its options. They are read before
torch is imported, so that a slip in one is answered at once: its file imports torch inside its functions.
"""

import dataclasses
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints

from medvlp.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = {
    "info_nce": "medvlp.losses.info_nce:InfoNCE",
}
"""objective.loss → the loss's class. Its options are objective.options.<name>."""


class LossError(UserError):
    """A loss that does not exist, or an option that it does not have or cannot take."""


class ContrastiveLoss(Protocol):
    """A contrastive loss: a dataclass of its options. B: a rank's pairs; D: width."""

    __dataclass_fields__: dict[str, Any]

    def check(self) -> None:
        """The rules of its options. Raises LossError."""

    def __call__(
        self,
        image_BD: "Tensor",
        text_BD: "Tensor",
        logit_scale: "Tensor",
        text_ids_B: "Tensor | None" = None,
        same_text: str = "negative",
        class_ids_B: "Tensor | None" = None,
    ) -> "Tensor":
        """The loss of this rank's pairs against all ranks' pairs; its mean over ranks is the global batch's.

        Args:
            image_BD, text_BD: unit vectors; row i of each is a pair. Every rank brings the same B.
            logit_scale: scalar, the inverse temperature.
            text_ids_B: equal for equal texts.
            same_text: what another pair with the same text is: see `objective.same_text`.
            class_ids_B: equal for pairs that are right for each other although their texts differ.
        Returns: scalar.
        """


def contrastive_loss(name: str, options: Mapping[str, Any]) -> ContrastiveLoss:
    """The loss of a name, with its options.

    Raises:
        LossError: an unknown name, an option that it does not have, or a value that the option cannot take.
    """
    if name not in LOSSES:
        raise LossError(f"objective.loss={name!r} is not a choice{_nearest(name, LOSSES)} Choices: {', '.join(LOSSES)}")
    module, _, attribute = LOSSES[name].partition(":")
    loss_class = getattr(import_module(module), attribute)
    hints = get_type_hints(loss_class)
    types = {field.name: hints[field.name] for field in dataclasses.fields(loss_class)}
    for key, value in options.items():
        if key not in types:
            hint = f"its options: {', '.join(types)}" if types else "it has no options"
            raise LossError(
                f"objective.options.{key}: objective.loss={name} has none of this name{_nearest(key, types)} {hint}"
            )
        accepted = (int, float) if types[key] is float else types[key]
        if not isinstance(value, accepted) or (isinstance(value, bool) and types[key] is not bool):
            raise LossError(f"objective.options.{key}={value!r} is no {types[key].__name__}")
    loss: ContrastiveLoss = loss_class(**options)
    loss.check()
    return loss


def _nearest(name: str, names: Mapping[str, Any]) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."
