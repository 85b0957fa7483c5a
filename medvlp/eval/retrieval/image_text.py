"""Retrieval between images and their texts, both ways.

Legend: I images, T unique texts, P matching (image, text) pairs, Q queries, G gallery items,
D embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from medvlp.config import RetrievalConfig
from medvlp.eval import metrics
from medvlp.eval.bootstrap import Bootstrap
from medvlp.eval.embeddings import CachedEncoder
from medvlp.eval.errors import TaskError
from medvlp.eval.exclusions import exclusion_lines
from medvlp.eval.items import Item
from medvlp.eval.metrics import Indices
from medvlp.eval.statistics.measures import measures
from medvlp.eval.task import TaskResult, TaskSettings, task_protocol
from medvlp.eval.trained import Trained, marked
from medvlp.shards import ShardDataset


@dataclass(frozen=True)
class Retrieval:
    """Recall@k of an image's texts among all texts, and of a text's images among all images.

    A query is a hit if any match is among the k best. An image has as many texts as `text` names fields; texts that are
    equal strings are one candidate, and one query, which matches all of their images. Samples without any text are
    excluded and counted. Intervals resample queries by cluster; the gallery stays as it is.
    """

    kind: ClassVar[str] = "retrieval"
    version: ClassVar[int] = 1

    name: str
    dataset: ShardDataset
    text: str | list[str] = "caption"
    """The text field, or fields."""
    recall_at: Sequence[int] = (1, 5, 10)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    trained: Trained | None = None
    """What of the split the model was trained on, where that was looked for. A text was if the first sample with it was."""

    @classmethod
    def needs(cls, config: RetrievalConfig) -> tuple[str, ...]:
        """Embeddings of images and texts."""
        return "encode_image", "encode_text"

    @classmethod
    def uses(cls, config: RetrievalConfig) -> dict[str, tuple[str, ...]]:
        """Nothing else."""
        return {}

    @classmethod
    def from_config(cls, config: RetrievalConfig, dataset: ShardDataset, settings: TaskSettings) -> "Retrieval":
        """The task of a configuration."""
        return cls(config.name, dataset, config.text, tuple(config.recall_at), settings.bootstrap)

    def run(self, model: CachedEncoder) -> TaskResult:
        """Measure one model.

        Raises:
            TaskError: no sample has any of the text fields.
        """
        images = model.images(self.dataset)
        fields = [self.text] if isinstance(self.text, str) else list(self.text)
        fields_I = [[item.texts.get(name, "").strip() for name in fields] for item in images.items]
        texts_I = [[text for text in texts if text] for texts in fields_I]
        rows = [row for row, texts in enumerate(texts_I) if texts]
        if not rows:
            names = sorted({name for item in images.items for name in item.texts})
            raise TaskError(f"task {self.name}: no sample of {self.dataset.folder} has text {fields}; fields: {names}")
        items = [images.items[row] for row in rows]
        excluded = {"(no text)": len(texts_I) - len(rows)} if len(rows) < len(texts_I) else {}

        unique: dict[str, int] = {}
        pairs = {(i, unique.setdefault(text, len(unique))): None for i, row in enumerate(rows) for text in texts_I[row]}
        image_P, text_P = np.array(list(pairs)).T
        image_ID, text_TD = images.embeddings_ND[rows], model.texts(list(unique))
        first_item_T = [items[i] for i in image_P[np.unique(text_P, return_index=True)[1]]]

        protocol = task_protocol(self, model, images, items, excluded)
        protocol["bootstrap"]["resampled"] = (
            "queries, a text in the cluster of the first sample that has it; the gallery stays as it is"
        )
        protocol |= {
            "text": fields,
            "recall_at": list(self.recall_at),
            "unique_n": len(unique),
            "pairs": len(pairs),
            "texts": "equal strings are one candidate and one query, matching all of their images",
            "exclusions": exclusion_lines(
                {f"no text {' or '.join(fields)}": count for count in excluded.values()},
                images.bad_counts(),
                "sample",
                len(items),
            ),
        }
        records = self._records("image_to_text", image_ID, text_TD, image_P, text_P, items, first_item_T)
        records += self._records("text_to_image", text_TD, image_ID, text_P, image_P, first_item_T, items)
        records = marked(records, [record["id"] for record in records], self.trained)
        return TaskResult(self.name, self.kind, self.bootstrap.measure(measures(records, protocol)), records, protocol)

    def _records(
        self,
        name: str,
        query_QD: Tensor,
        gallery_GD: Tensor,
        query_P: Indices,
        item_P: Indices,
        queries: list[Item],
        gallery_items: list[Item],
    ) -> list[dict[str, Any]]:
        """Records of one direction. A unique text goes by the first sample that has it."""
        rank_Q, top_Q, score_Q = metrics.retrieval_ranks(query_QD.numpy(), gallery_GD.numpy(), query_P, item_P)
        targets: list[list[str]] = [[] for _ in queries]
        for query, item in zip(query_P, item_P, strict=True):
            targets[query].append(gallery_items[item].key)
        return [
            {
                "id": query.key,
                "group": query.group,
                "prediction": gallery_items[top].key,
                "target": target,
                "score": float(score),
                "direction": name,
                "rank": int(rank),
                "fields": query.fields,
            }
            for query, top, score, rank, target in zip(queries, top_Q, score_Q, rank_Q, targets, strict=True)
        ]
