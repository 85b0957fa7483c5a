"""Options of contrastive training."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from medvlp.config.base import ObjectiveConfig
from medvlp.config.objectives.classification import HeadConfig
from medvlp.config.objectives.feature_cache import check_feature_cache
from medvlp.config.rules import ConfigError, not_negative, one_of
from medvlp.losses import auxiliary_losses, contrastive_loss

if TYPE_CHECKING:
    from medvlp.config.train import TrainConfig


@dataclass(kw_only=True)
class ContrastiveConfig(ObjectiveConfig):
    """A contrastive loss over the global batch."""

    kind: str = "contrastive"
    """Which objective this is; the option chosen for `objective` sets it."""
    trains_pairs: ClassVar[bool] = True
    trains_towers: ClassVar[bool] = True
    loss: str = "info_nce"
    """The loss: info_nce (CLIP), sigmoid (SigLIP), or hard_negatives (docs/objectives.md)."""
    options: dict[str, Any] = field(default_factory=dict)
    """What a loss has of its own, e.g. objective.options.chunk=256; docs/objectives.md lists them."""
    weight: float = 1.0
    """Of the contrastive loss in the sum with auxiliary losses and heads."""
    auxiliary: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Losses that are added, by name, with their weight and options, e.g. objective.auxiliary.captioning.weight=2: distillation,
    captioning (CoCa) or masked_language (PMC-CLIP); docs/objectives.md lists them."""
    heads: dict[str, HeadConfig] = field(default_factory=dict)
    """Heads of labels on the image's embedding, by name, as of objective=classify; samples without a label count nothing."""
    max_logit_scale: float = 100.0
    """The learned logit scale is held at or below this, as in CLIP."""
    same_text: str = "negative"
    """Pairs of one batch whose texts are identical: negative (CLIP); masked, ignored in each other's loss; mil_nce, any of
    their images may be found for the text; positive, right for each other (sigmoid only); or apart, dealt out to different
    batches, as far as an epoch has batches, and masked where they meet all the same."""
    positives: str = ""
    """What joins pairs although their texts differ: empty (nothing), sample (other images of the same one), group (one article,
    patient or study), label.<name>, or metadata.<name>. Of lists, one element in common joins. Unknown values join nothing."""
    positives_as: str = "target"
    """What pairs that are joined are to each other: target, right, with a target uniform over all that is right; inside, right,
    their probabilities summed inside the logarithm; or mask, ignored."""
    feature_cache: str = ""
    """Folder for the frozen image tower's features, computed once, of images as evaluation sees them (LiT); empty runs the tower
    at every step."""

    def check(self, training: "TrainConfig") -> None:
        """The loss and its options."""
        loss = contrastive_loss(self.loss, self.options)
        auxiliary_losses(self.auxiliary)
        not_negative("objective.weight", self.weight)
        for name, head in self.heads.items():
            head.check(name)
            if head.balanced:
                raise ConfigError(
                    f"objective.heads.{name}.balanced counts labels before training, which objective=contrastive does not do; "
                    f"give class_weights"
                )
        if self.same_text == "positive" and "positive" not in loss.same_text:
            raise ConfigError(
                "objective.same_text=positive would change nothing but rounding (and what a text tower's dropout makes of one "
                "text): equal texts have equal embeddings, so a target spread over them gives InfoNCE itself, in both "
                "directions. What acts: masked, mil_nce, apart, or objective.positives=label.<name> where texts differ "
                "(docs/training.md)"
            )
        choices = (*loss.same_text, *(("apart",) if "masked" in loss.same_text else ()))
        one_of(f"with objective.loss={self.loss}, objective.same_text", self.same_text, choices)
        self._check_images(training)
        if self.positives not in ("", "sample", "group") and not self.positives.startswith(("label.", "metadata.")):
            raise ConfigError(
                f"objective.positives={self.positives!r}: expected sample, group, label.<name> or metadata.<name>"
            )
        if self.positives and not loss.positives_as:
            raise ConfigError(f"objective.loss={self.loss} knows no objective.positives; leave it out")
        if self.positives or self.positives_as != "target":
            one_of(f"with objective.loss={self.loss}, objective.positives_as", self.positives_as, loss.positives_as)
        if self.positives_as != "target" and not self.positives:
            raise ConfigError(f"objective.positives_as={self.positives_as} has no effect without objective.positives")
        check_feature_cache(self.feature_cache, training)
        if self.feature_cache and training.data.augment != type(training.data.augment)():
            raise ConfigError(
                "objective.feature_cache computes every image once, as evaluation sees it, so data.augment has no effect; leave "
                "one of them out"
            )
        live = {"distillation"} if not self.auxiliary.get("distillation", {}).get("feature_cache") else set()
        if self.feature_cache and (readers := (live | {"captioning"}) & set(self.auxiliary)):
            raise ConfigError(
                f"objective.feature_cache keeps no images, which objective.auxiliary.{min(readers)} reads; leave one of them out"
            )
        if self.same_text == "apart" and training.data.shuffle_block:
            raise ConfigError(
                f"objective.same_text=apart deals out a whole epoch, which data.shuffle_block={training.data.shuffle_block} "
                f"keeps in blocks; leave one of them out"
            )
        if self.max_logit_scale < 1:
            raise ConfigError(f"objective.max_logit_scale={self.max_logit_scale} must be at least 1")
        if training.data.global_batch_size < 2:
            raise ConfigError("data.global_batch_size=1 leaves a pair without negatives; use 2 or more")

    def _check_images(self, training: "TrainConfig") -> None:
        """What samples of several images ask of the rest."""
        ways = {name: source.several_images for name, source in training.data.sources.items() if source.several_images}
        names = {way: name for name, way in ways.items()}
        if "each" in names and self.same_text == "negative" and not self.positives:
            raise ConfigError(
                f"data.sources.{names['each']}.several_images=each gives pairs of one text, which objective.same_text=negative "
                f"makes negatives of each other; set objective.positives=sample with objective.positives_as=inside or mask, or "
                f"objective.same_text=mil_nce, masked or apart"
            )
        pool = getattr(training.model, "image_pool", "mean")
        if "all" not in names and pool != "mean":
            raise ConfigError(f"model.image_pool={pool} has no effect without data.sources.<name>.several_images=all")
        if "all" in names and (readers := {"distillation", "captioning"} & set(self.auxiliary)):
            raise ConfigError(
                f"objective.auxiliary.{min(readers)} reads one image of a sample; leave it or "
                f"data.sources.{names['all']}.several_images=all out"
            )
        if pool == "attention" and training.optim.ema_decay:
            raise ConfigError(
                "optim.ema_decay averages the model's weights, and model.image_pool=attention is learned next to them; leave one "
                "of them out"
            )
        key = "objective.feature_cache" if self.feature_cache else "objective.auxiliary.distillation.feature_cache"
        is_stored = self.feature_cache or self.auxiliary.get("distillation", {}).get("feature_cache")
        if is_stored and (unread := set(names) - {"all"}):
            way = min(unread)
            raise ConfigError(
                f"{key} keeps features by sample, not by image: data.sources.{names[way]}.several_images={way} "
                f"cannot be read from it; leave one of them out"
            )
