"""Image–text pairs. B: this rank's pairs; L: the longest text of the batch, in tokens; S: the image's side."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medvlp.data.batch import Batch, sample_fields
from medvlp.data.dataset import Dataset, TextsOnly
from medvlp.data.extras import PairExtra, padded_rows
from medvlp.data.extras.labels import PairLabels
from medvlp.data.extras.teacher import StoredTeacher
from medvlp.data.images.crop import RandomView, stacked
from medvlp.data.images.feature_cache import CachedFeatures, FeatureCache
from medvlp.data.images.of_samples import images_of, sampled_images
from medvlp.data.order import Order
from medvlp.data.pipeline import BatchPipeline, OpenedSources, Sources
from medvlp.data.plan import ApartPlan, BatchPlan, SamplePlan
from medvlp.data.texts import SourceTexts, choose_text, class_ids, class_values, components, text_id
from medvlp.data.tokens.encoders import encoder_of
from medvlp.distributed import launched_rank
from medvlp.errors import UserError
from medvlp.shards import BadSample, Sample, ShardDataset


@dataclass(kw_only=True)
class PairBatch(Batch):
    """Images with their texts; row i of each is a pair."""

    inputs = (
        "images_BCHW",
        "image_counts_B",
        "tokens_BL",
        "features_BF",
        "masked_tokens_BL",
        "is_selected_BL",
        "teacher_tokens_BL",
        "teacher_image_BD",
        "teacher_text_BD",
    )
    images_BCHW: Tensor
    """uint8 (B, 3, S, S), or float32 from 0 to 255 with deep views; of several images a sample, one after the other; (B, 3, 0, 0)
    with features."""
    tokens_BL: Tensor
    """int64, padded to the longest text."""
    text_ids_B: Tensor
    """int64, equal for equal texts."""
    class_ids: list[list[int]] | None = None
    """Of each sample, numbers of which it has one in common with those that `objective.positives` joins it with."""
    features_BF: Tensor | None = None
    """float32, of a frozen image tower, where they are cached, likewise."""
    image_counts_B: Tensor | None = None
    """int64, images of each sample, where samples have several."""
    masked_tokens_BL: Tensor | None = None
    """int64: the tokens with some of their words masked."""
    is_selected_BL: Tensor | None = None
    """bool: tokens that a model is to tell from masked_tokens_BL."""
    teacher_tokens_BL: Tensor | None = None
    """int64: the texts in a teacher's tokens."""
    teacher_image_BD: Tensor | None = None
    teacher_text_BD: Tensor | None = None
    """float32, a teacher's unit vectors, where they are stored."""
    targets: dict[str, Tensor] | None = None
    """By head: int64 (B,), the class or -1; of several labels float32 (B, C): 1, 0, or NaN where one is missing."""


class Tokenize:
    """One text → token ids, by open_clip's tokenizer (picklable, for loader workers).

    Args:
        tokenizer: list of texts → int64 (B, L).
        pad_id: what fills its rows.
        length: of every row; None: texts keep their own.
    """

    def __init__(self, tokenizer: Callable[..., Tensor], pad_id: int, length: int | None) -> None:
        self.tokenizer, self.pad_id, self.length = tokenizer, pad_id, length
        self.encode = encoder_of(tokenizer)

    def __call__(self, text: str) -> list[int]:
        ids = self.encode(text)
        if self.length is None:
            return without_padding(ids, self.pad_id)
        return ids + [self.pad_id] * (self.length - len(ids))


def without_padding(row: list[int], pad_id: int) -> list[int]:
    """Token ids up to the last that is no padding; at least one."""
    end = len(row)
    while end > 1 and row[end - 1] == pad_id:
        end -= 1
    return row[:end]


@dataclass
class PreparePairs:
    """Sample → image and tokens, for contrastive objectives.

    Args:
        texts: for every source, the texts to choose from.
        tokenize: text → token ids, cut to the context, without padding.
        view: image file → what is trained on.
        positives: what joins pairs whose texts differ, see `class_ids`; "": nothing.
        features: of a frozen image tower, which stand for the image.
        extras: what losses ask for besides.
        most_images: for every source, how many images of a sample make one example, at most; 0: a sample has one.
    """

    texts: Sequence[SourceTexts]
    tokenize: Tokenize
    view: RandomView
    positives: str = ""
    features: CachedFeatures | None = None
    extras: Sequence[PairExtra] = ()
    most_images: Sequence[int] = ()

    def __call__(self, sample: Sample, source: int, rng: np.random.Generator) -> dict[str, Any]:
        """images: list of uint8 (3, S, S), or features: float32 (n, F); tokens: list of ids; text_id: int; missing:
        fields that the text lacks; class_ids: list of int, with positives."""
        most = self.most_images[source] if self.most_images else 0
        if self.features is None:
            images = images_of(sample, most, rng)
        candidate = choose_text(sample, self.texts[source], rng)
        text = candidate.text
        item: dict[str, Any] = {"tokens": self.tokenize(text), "text_id": text_id(text), "missing": candidate.missing}
        if self.features is None:
            item["images"] = [self.view(data, rng) for data in images]
        else:
            features_NF = self.features(sample)[:, 0]
            item["features"] = features_NF[sampled_images(len(features_NF), most, rng)]
        if self.positives:
            item["class_ids"] = class_ids(sample, self.positives)
        for extra in self.extras:
            item |= extra.prepare(sample, text, item["tokens"], rng)
        return item


@dataclass
class CollatePairs:
    """Units → a batch of pairs.

    Texts are padded to the batch's longest, not to the context: captions are short (ROCO's: about 37 tokens of 77 to
    512), and a text tower that masks padding gives the same embedding for any amount of it. For a tower that does not,
    `tokenize` returns the whole context already.

    counts_images: samples may have several images.
    """

    pad_id: int
    extras: Sequence[PairExtra] = ()
    counts_images: bool = False

    def __call__(self, units: list[dict[str, Any]]) -> PairBatch:
        items = [item for unit in units for item in unit["items"]]
        images = [image for item in items for image in item.get("images", ())]
        features = [item["features"] for item in items if "features" in item]
        counts = [len(item["features"] if "features" in item else item["images"]) for item in items]
        class_ids_of_items = [item["class_ids"] for item in items if "class_ids" in item]
        return PairBatch(
            **sample_fields(units),
            images_BCHW=stacked(images) if images else torch.empty(len(items), 3, 0, 0, dtype=torch.uint8),
            image_counts_B=torch.tensor(counts) if self.counts_images else None,
            tokens_BL=padded_rows([item["tokens"] for item in items], self.pad_id),
            text_ids_B=torch.tensor([item["text_id"] for item in items]),
            class_ids=class_ids_of_items or None,
            features_BF=torch.cat(features) if features else None,
            **{name: value for extra in self.extras for name, value in extra.collate(items).items()},
        )


TEXT_BYTES = 2**15
"""Of a pair in a batch at most, besides its image: four rows of 1,024 ids."""

PROBED = 200
"""Samples of a source in which a label is looked for before a run starts."""


class PairPipeline(BatchPipeline):
    """Shards → batches of image–text pairs.

    Args:
        prepare, collate: sample → pair → batch.
        longest_1L: the token ids of a text that fills the context.
        batch_size: pairs in one optimizer step.
        keeps_apart: keep equal texts out of each other's batches, as far as an epoch has batches.
        features: of a frozen image tower, computed once and read instead of images.
        teacher: a teacher's features of images and of texts, computed once.
        views: by source, its samples of several images as others; sources that are not named stay as they are.
    """

    whole_steps = True
    prepare: PreparePairs
    collate: CollatePairs

    def __init__(
        self,
        prepare: PreparePairs,
        collate: CollatePairs,
        longest_1L: Tensor,
        batch_size: int,
        keeps_apart: bool,
        features: FeatureCache | None = None,
        teacher: tuple[FeatureCache, FeatureCache] | None = None,
        views: Mapping[str, Callable[[ShardDataset], Dataset]] | None = None,
    ) -> None:
        self.prepare, self.collate, self.longest_1L, self.teacher = prepare, collate, longest_1L, teacher
        self.batch_size, self.keeps_apart, self.features = batch_size, keeps_apart, features
        self.caches_features = features is not None
        images = max(1, *prepare.most_images, 0)
        self.sample_bytes = images * prepare.view.image_bytes + TEXT_BYTES
        self.views = dict(views or {})

    def write_caches(self, sources: Sources) -> None:
        if self.features:
            self.features.write(sources)
        for cache in self.teacher or ():
            cache.write(sources)

    def open(self, sources: Sources) -> OpenedSources:
        if self.teacher:
            images, captions = (cache.open(sources) for cache in self.teacher)
            extras = [
                replace(extra, images=images, captions=captions) if isinstance(extra, StoredTeacher) else extra
                for extra in self.prepare.extras
            ]
            self.prepare = replace(self.prepare, extras=extras)
        if not self.features:
            return OpenedSources({n: self.views[n](data) if n in self.views else data for n, data in sources.items()})
        self.prepare = replace(self.prepare, features=self.features.open(sources))
        return OpenedSources({name: TextsOnly(dataset) for name, dataset in sources.items()})

    def plan(self, order: Order, datasets: Sequence[Dataset]) -> BatchPlan:
        """Sample by sample; with `keeps_apart`, equal texts in different batches.

        Raises:
            UserError: objective.positives joins none of the first samples.
        """
        prepare = self.prepare
        for source, texts, dataset in zip(order.sources, prepare.texts, datasets, strict=True):
            check_texts(source.name, texts, dataset)
        if prepare.positives:
            check_positives(prepare.positives, datasets)
        for extra in prepare.extras:
            if isinstance(extra, PairLabels):
                extra.check(datasets)
        if not self.keeps_apart:
            return SamplePlan(order)
        plan = ApartPlan(order, components(datasets, prepare.texts), self.batch_size)
        repeats = plan.repeats() if len(order) >= self.batch_size else 0
        if repeats and launched_rank() == 0:
            print(
                f"note: objective.same_text=apart: {repeats} of {len(order)} samples of an epoch meet another of their text in "
                f"their batch, since more share a text than an epoch has batches ({len(order) // self.batch_size}); they are "
                f"masked there",
                flush=True,
            )
        return plan

    def stretch(self, batch: PairBatch) -> PairBatch:
        """The batch with texts that fill the context, and samples that have as many images as they may."""
        if batch.image_counts_B is not None:
            most = max(self.prepare.most_images)
            counts_B = torch.full_like(batch.image_counts_B, most)
            rows = torch.arange(int(counts_B.sum())) % int(batch.image_counts_B.sum())
            features_BF = None if batch.features_BF is None else batch.features_BF[rows]
            images_BCHW = batch.images_BCHW if features_BF is not None else batch.images_BCHW[rows]
            batch = replace(batch, image_counts_B=counts_B, images_BCHW=images_BCHW, features_BF=features_BF)
        tokens_BL = self.longest_1L.repeat(len(batch.tokens_BL), 1)
        fields = {name: value for extra in self.prepare.extras for name, value in extra.stretch(tokens_BL).items()}
        return replace(batch, tokens_BL=tokens_BL, **fields)


def check_texts(name: str, texts: SourceTexts, dataset: Dataset) -> None:
    """Compare what a source's texts are made of with samples from all over it.

    Raises UserError: a field or label that none of them has, by its name.
    """
    read = getattr(dataset, "read_text", dataset.read)

    def probe() -> list[Sample]:
        samples = []
        for row in np.unique(np.linspace(0, len(dataset) - 1, PROBED).astype(int)).tolist():
            with suppress(BadSample):
                samples.append(read(row))
        return samples

    texts.check(f"data.sources.{name}", probe, str(getattr(dataset, "folder", name)))


def check_positives(positives: str, datasets: Sequence[Dataset]) -> None:
    """Raises UserError unless some of the first samples have what joins pairs."""
    names: set[str] = set()
    field = "metadata" if positives.startswith("metadata.") else "labels"
    for dataset in datasets:
        for row in range(min(len(dataset), PROBED)):
            with suppress(BadSample):
                sample = dataset.read(row)
                if class_values(sample, positives):
                    return
                names |= set(getattr(sample, field))
    hint = f"its {field} are {', '.join(sorted(names))}" if names else f"it has no {field}"
    raise UserError(f"objective.positives={positives}: none of the first samples of the data has it; {hint}")
