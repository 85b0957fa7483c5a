"""Losses over the global batch. They take tensors and know nothing of configuration or models.

A contrastive loss is one file here and one line in LOSSES: a dataclass whose fields are its options. They are read before
torch is imported, so that a slip in one is answered at once: its file imports torch inside its functions.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from medvlp.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

LOSSES = {
    "info_nce": "medvlp.losses.info_nce:InfoNCE",
    "sigmoid": "medvlp.losses.sigmoid:Sigmoid",
    "hard_negatives": "medvlp.losses.hard_negatives:HardNegatives",
}
"""objective.loss → the loss's class. Its options are objective.options.<name>."""


AUXILIARY = {
    "distillation": "medvlp.losses.distillation:Distillation",
    "captioning": "medvlp.losses.captioning:Captioning",
    "masked_language": "medvlp.losses.masked_language:MaskedLanguage",
}
"""objective.auxiliary.<name> → the class of a loss that is added to a contrastive one. Its options stand under its name."""

SAME_TEXT = ("negative", "masked", "mil_nce", "positive")
POSITIVES_AS = ("target", "inside", "mask")


class LossError(UserError):
    """A loss that does not exist, or an option that it does not have or cannot take."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What a contrastive loss is a function of. B: a rank's pairs, as many on every rank; D: width."""

    image_BD: "Tensor"
    """Unit vectors; row i of it and of text_BD is a pair."""
    text_BD: "Tensor"
    """Unit vectors."""
    logit_scale: "Tensor"
    """Scalar, the inverse temperature."""
    logit_bias: "Tensor | None" = None
    """Scalar, of models that have one; a softmax does not see it."""
    text_ids_B: "Tensor | None" = None
    """int64, equal for equal texts."""
    same_text: str = "negative"
    """What another pair with the same text is: see `objective.same_text`."""
    class_ids_B: "Tensor | None" = None
    """int64 (B,), equal for pairs that are right for each other although their texts differ; or (B, K), with an id in common,
    filled with -1."""
    positives_as: str = "target"
    """What pairs with such an id in common are: see `objective.positives_as`."""

    @property
    def inside(self) -> bool:
        """Whether the probabilities of all that is right are summed inside the logarithm."""
        return self.same_text == "mil_nce" or (self.class_ids_B is not None and self.positives_as == "inside")


@dataclass(frozen=True, kw_only=True)
class ContrastiveLoss:
    """Base of the contrastive losses: a dataclass of a loss's options."""

    same_text: ClassVar[tuple[str, ...]] = ("negative",)
    """Values of objective.same_text that the loss knows."""
    positives_as: ClassVar[tuple[str, ...]] = ()
    """Values of objective.positives_as that the loss knows; empty: it takes no objective.positives."""
    learns_bias: ClassVar[bool] = False
    """Whether it learns the model's logit bias."""

    def check(self) -> None:
        """The rules of its options. Raises LossError."""

    def __call__(self, pairs: Pairs) -> "Tensor":
        """The loss of this rank's pairs against all ranks' pairs, a scalar.

        The mean over ranks of the returned losses is the loss of one process with the whole batch, and so are the gradients
        that DDP averages, the logit scale's among them: gathering carries gradients back to the rank that a row came from.
        """
        return self.of_pairs(pairs).mean()

    def of_pairs(self, pairs: Pairs) -> "Tensor":
        """(B,) what each of this rank's pairs has of the loss, which is their mean."""
        raise TypeError(f"{type(self).__name__} is a loss without one of pairs")


@dataclass(frozen=True, kw_only=True)
class AuxiliaryLoss:
    """Base of the losses that are added to a contrastive one: a dataclass of a loss's options."""

    weight: float = 1.0
    """Of the loss in the sum."""

    def check(self) -> None:
        """The rules of its options. Raises LossError."""
        if not 0 < self.weight < float("inf"):
            name = next(name for name, target in AUXILIARY.items() if target.endswith(f":{type(self).__name__}"))
            raise LossError(f"objective.auxiliary.{name}.weight={self.weight} must be above 0")


def auxiliary_losses(options: Mapping[str, Mapping[str, Any]]) -> dict[str, AuxiliaryLoss]:
    """The losses of `objective.auxiliary`, by name.

    Raises:
        LossError: as in `contrastive_loss`.
    """
    key = "objective.auxiliary"
    return {name: from_options(AUXILIARY, key, name, f"{key}.{name}", values or {}) for name, values in options.items()}


def contrastive_loss(name: str, options: Mapping[str, Any]) -> ContrastiveLoss:
    """The loss of a name, with its options.

    Raises:
        LossError: an unknown name, an option that it does not have, or a value that the option cannot take.
    """
    loss: ContrastiveLoss = from_options(LOSSES, "objective.loss", name, "objective.options", options)
    return loss


def from_options(table: Mapping[str, str], key: str, name: str, prefix: str, options: Mapping[str, Any]) -> Any:
    """The object that a table's class makes of plain options.

    Args:
        table: name → "module:class".
        key: where the name was chosen, for messages; `prefix`: where the options are.
    Raises:
        LossError: as in `contrastive_loss`.
    """
    if name not in table:
        raise LossError(f"{key}={name!r} is not a choice{_nearest(name, table)} Choices: {', '.join(table)}")
    module, _, attribute = table[name].partition(":")
    loss_class = getattr(import_module(module), attribute)
    hints = get_type_hints(loss_class)
    types = {field.name: hints[field.name] for field in dataclasses.fields(loss_class)}
    for option, value in options.items():
        if option not in types:
            hint = f"its options: {', '.join(types)}" if types else "it has no options"
            raise LossError(f"{prefix}.{option}: {key}={name} has none of this name{_nearest(option, types)} {hint}")
        accepted = (int, float) if types[option] is float else types[option]
        if not isinstance(value, accepted) or (isinstance(value, bool) and types[option] is not bool):
            raise LossError(f"{prefix}.{option}={value!r} is no {types[option].__name__}")
    loss = loss_class(**options)
    loss.check()
    return loss


def _nearest(name: str, names: Mapping[str, Any]) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."
