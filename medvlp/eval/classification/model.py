"""A classifier as tasks use it: the scores of its heads, and its tower's features as embeddings.

Legend: B batch, C channels or classes, H height, W width, D width of the tower, K outputs of all heads, N items.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medvlp.data.labels import ClassLabels
from medvlp.eval.embeddings import CachedEncoder, Encoder, ImageEmbeddings
from medvlp.eval.store.embeddings import EmbeddingStore
from medvlp.models.batch_norm import fold_batch_norms
from medvlp.models.classifier.model import Classifier
from medvlp.models.clip.model import execution_on
from medvlp.models.towers.processors import ImageTransform
from medvlp.shards import ShardDataset


class ClassifierEncoder:
    """An `Encoder` whose embeddings of images are unit features of the tower, followed by the logits of all heads: (B, D + K).

    Args:
        classifier: the model with its processor.
        device: where it runs.
        identity: hash of all that decides what it gives.
    """

    def __init__(self, classifier: Classifier, device: torch.device | str, identity: str) -> None:
        self.classifier, self.device, self.identity = classifier, torch.device(device), identity
        self.transform = ImageTransform(classifier.processor)
        self.transform_identity = json.dumps(json.loads(classifier.processor.to_json_string()), sort_keys=True)
        self.execution = execution_on(self.device, next(classifier.model.parameters()).dtype)

    def folded(self) -> "ClassifierEncoder":
        """This encoder, its batch norms folded into convolutions; the model is for nothing else from now on."""
        fold_batch_norms(self.classifier.model, self.encode_image, self.classifier.size)
        return self

    @torch.no_grad()
    def encode_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels → (B, D + K)."""
        model = self.classifier.model
        parameter = next(model.parameters())
        pixels_BCHW = pixels_BCHW.to(self.device, parameter.dtype, memory_format=torch.channels_last)
        features_BD = model.features(pixels_BCHW)
        logits_BK = model.head(features_BD)
        return torch.cat([normalize(features_BD.float(), dim=-1), logits_BK.float()], dim=1).cpu()

    def encode_text(self, texts: list[str]) -> Tensor:
        """A classifier reads no texts: no task asks for them, since it does not offer `encode_text`."""
        raise TypeError("a classifier does not encode texts")


class ClassifierModel(CachedEncoder):
    """A classifier, images encoded once for its scores and its embeddings.

    Args:
        encoder: a `ClassifierEncoder`, or what loads one.
        heads: head → how its labels are read.
        batch_size, workers, max_pixels, store: as of `CachedEncoder`.
    """

    offers: ClassVar[tuple[str, ...]] = ("encode_image", "classify")

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, ClassLabels],
        batch_size: int,
        workers: int,
        max_pixels: int,
        store: EmbeddingStore | None = None,
    ) -> None:
        super().__init__(encoder, batch_size, workers, max_pixels, store)
        self.heads = dict(heads)

    @property
    def outputs(self) -> int:
        """K."""
        return sum(len(head.classes) for head in self.heads.values())

    def images(self, dataset: ShardDataset) -> ImageEmbeddings:
        """Unit features of the tower, (N, D), of every readable image. Raises TaskError: no image could be read."""
        images = super().images(dataset)
        return replace(images, embeddings_ND=images.embeddings_ND[:, : -self.outputs])

    def logits(self, dataset: ShardDataset, head: str) -> ImageEmbeddings:
        """Logits of a head's classes, (N, C), of every readable image. Raises TaskError: no image could be read."""
        images = super().images(dataset)
        start = images.embeddings_ND.shape[1] - self.outputs
        for name, labels in self.heads.items():
            if name == head:
                return replace(images, embeddings_ND=images.embeddings_ND[:, start : start + len(labels.classes)])
            start += len(labels.classes)
        raise KeyError(head)
