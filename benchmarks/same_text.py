"""What equal and templated texts cost a contrastive loss, and what helps: BreastMNIST and PneumoniaMNIST together, as captions.

Every class has five templates, of which a pair gets one at random each time: texts differ, labels agree. A small convolutional
network and a bag of words learn with each way, with the same batches, steps and seeds; the learning rate is the better of two on
valid. Measured on test: zero-shot AUROC and balanced accuracy, with the mean of a class's prompts, averaged over both sets. For
each way the mean over seeds with its 95% interval, and that of the difference to InfoNCE with the same seeds (Student's t).

`apart` has no equal labels in what is contrasted: a step's 128 pairs are 32 groups of four, one of each class. So it sees the
classes equally often; `balanced` is InfoNCE on the same pairs, all 128 of which are contrasted.

    MEDVLP_DATA=<prepared data, with breastmnist and pneumoniamnist> python -m benchmarks.same_text
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.measure import cpu_seconds, report
from medvlp.data.images.decode import decode_image
from medvlp.losses import Pairs, contrastive_loss
from medvlp.shards import ShardDataset

STEPS = int(os.environ.get("MEDVLP_BENCHMARK_STEPS", "200"))
SEEDS = range(int(os.environ.get("MEDVLP_BENCHMARK_SEEDS", "5")))
BATCH, WIDTH, RATES = 128, 64, (1e-3, 3e-3)
TEMPLATES = (
    "{view} showing {finding}",
    "{finding} on a {view}",
    "{view} , {finding}",
    "image of {finding}",
    "a case of {finding} in {view}",
)
CLASSES = (
    ("breast ultrasound", "malignant tumour"),
    ("breast ultrasound", "normal or benign tissue"),
    ("chest radiograph", "normal lungs"),
    ("chest radiograph", "pneumonia"),
)
SETS = {"breastmnist": ("malignant", "normal, benign"), "pneumoniamnist": ("normal", "pneumonia")}
TEXTS = [[template.format(view=view, finding=finding) for template in TEMPLATES] for view, finding in CLASSES]


@dataclass(frozen=True)
class Way:
    """A loss, and what equal texts and labels are to it.

    grouped: pairs are drawn four at a time, one of each class.
    groups: each four are contrasted alone.
    start_bias: of the sigmoid loss, which has -10 from its paper; the share of right pairs is another here.
    """

    loss: str = "info_nce"
    same_text: str = "negative"
    positives_as: str = ""
    grouped: bool = False
    groups: bool = False
    start_bias: float = -10.0


WAYS = {
    "info_nce": Way(),
    "masked texts": Way(same_text="masked"),
    "masked labels": Way(positives_as="mask"),
    "texts inside log": Way(same_text="mil_nce"),
    "labels outside log": Way(positives_as="target"),
    "labels inside log": Way(positives_as="inside"),
    "sigmoid": Way("sigmoid"),
    "sigmoid from -5": Way("sigmoid", start_bias=-5.0),
    "sigmoid, labels": Way("sigmoid", positives_as="target"),
    "sigmoid, labels, from 0": Way("sigmoid", positives_as="target", start_bias=0.0),
    "apart": Way(grouped=True, groups=True),
    "balanced": Way(grouped=True),
}


@dataclass(frozen=True)
class Split:
    """Images float32 (N, 1, 28, 28) and their classes (N,)."""

    images_N: Tensor
    class_N: NDArray[np.int64]


def read_split(root: Path, split: str) -> Split:
    """Both sets' images of a split, with the numbers of their classes."""
    images, classes = [], []
    for offset, (name, labels) in enumerate(SETS.items()):
        dataset = ShardDataset(root / name / split)
        for row in range(len(dataset)):
            sample = dataset.read(row)
            pixels = np.asarray(decode_image(next(iter(sample.images.values())), 10_000).convert("L"), np.float32)
            images.append(torch.from_numpy((pixels / 255 - 0.5) / 0.25)[None])
            classes.append(2 * offset + labels.index(sample.labels["label_name"]))
    return Split(torch.stack(images), np.array(classes))


class Towers(nn.Module):
    """A small CLIP: three convolutions, and a bag of words."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GELU()]
        self.image = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, WIDTH))
        words = sorted({word for texts in TEXTS for text in texts for word in text.split()})
        self.number = {word: number for number, word in enumerate(words)}
        self.words, self.text = nn.EmbeddingBag(len(words), 64), nn.Sequential(nn.GELU(), nn.Linear(64, WIDTH))
        start = (10.0, way.start_bias) if way.loss == "sigmoid" else (1 / 0.07, 0.0)
        self.logit_scale, self.logit_bias = (
            nn.Parameter(torch.tensor(start[0]).log()),
            nn.Parameter(torch.tensor(start[1])),
        )

    def encode_texts(self, texts: list[str]) -> Tensor:
        """(B, D), unit vectors."""
        bags = [[self.number[word] for word in text.split()] for text in texts]
        offsets = torch.tensor([0, *np.cumsum([len(bag) for bag in bags])[:-1]])
        return normalize(self.text(self.words(torch.tensor([word for bag in bags for word in bag]), offsets)), dim=-1)

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, D), unit vectors."""
        return normalize(self.image(images), dim=-1)


def rows_of_step(class_N: NDArray[np.int64], grouped: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of a step's pairs; grouped: four at a time, one of each class."""
    if not grouped:
        return rng.choice(len(class_N), BATCH, replace=False)
    columns = [rng.choice(np.flatnonzero(class_N == number), BATCH // 4) for number in range(4)]
    return np.stack(columns, axis=1).ravel()


def train(way: Way, data: Split, seed: int, rate: float) -> Towers:
    """Towers after the budget."""
    torch.manual_seed(seed)
    towers, rng = Towers(way), np.random.default_rng(seed)
    loss_function = contrastive_loss(way.loss, {})
    optimizer = torch.optim.AdamW(towers.parameters(), rate, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        rows = rows_of_step(data.class_N, way.grouped, rng)
        labels, templates = data.class_N[rows], rng.integers(len(TEMPLATES), size=len(rows))
        texts = [TEXTS[label][template] for label, template in zip(labels, templates, strict=True)]
        image_BD, text_BD = towers.encode_images(data.images_N[rows]), towers.encode_texts(texts)
        text_ids_B, class_ids_B = torch.from_numpy(labels * len(TEMPLATES) + templates), torch.from_numpy(labels)
        slices = [slice(first, first + 4) for first in range(0, len(rows), 4)] if way.groups else [slice(None)]
        losses = [
            loss_function(
                Pairs(
                    image_BD=image_BD[part],
                    text_BD=text_BD[part],
                    logit_scale=towers.logit_scale.exp(),
                    logit_bias=towers.logit_bias,
                    text_ids_B=text_ids_B[part],
                    same_text=way.same_text,
                    class_ids_B=class_ids_B[part] if way.positives_as else None,
                    positives_as=way.positives_as or "target",
                )
            )
            for part in slices
        ]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            towers.logit_scale.clamp_(max=np.log(100))
    return towers


@torch.no_grad()
def scores(towers: Towers, data: Split) -> tuple[float, float]:
    """(AUROC, balanced accuracy) of zero-shot classification, the mean over both sets."""
    prompts_CD = torch.stack([normalize(towers.encode_texts(texts).mean(dim=0), dim=0) for texts in TEXTS])
    similarity_NC = (towers.encode_images(data.images_N) @ prompts_CD.T).double().numpy()
    areas, accuracies = [], []
    for first in (0, 2):
        is_set_N = (data.class_N == first) | (data.class_N == first + 1)
        margin = similarity_NC[is_set_N, first + 1] - similarity_NC[is_set_N, first]
        target = data.class_N[is_set_N] - first
        areas.append(roc_auc_score(target, margin))
        accuracies.append(balanced_accuracy_score(target, margin > 0))
    return float(np.mean(areas)), float(np.mean(accuracies))


def interval(values: list[float]) -> dict[str, float]:
    """Mean, and half the width of its 95% interval (Student's t)."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": round(float(np.mean(values)), 4), "half": round(float(half), 4)}


def main() -> None:
    root = Path(os.environ["MEDVLP_DATA"])
    data = {split: read_split(root, split) for split in ("train", "valid", "test")}
    results: dict[str, dict[str, Any]] = {}
    start = cpu_seconds()
    for name, way in WAYS.items():
        runs = {rate: [train(way, data["train"], seed, rate) for seed in SEEDS] for rate in RATES}
        rate = max(RATES, key=lambda rate: np.mean([scores(towers, data["valid"])[0] for towers in runs[rate]]))
        areas, accuracies = zip(*(scores(towers, data["test"]) for towers in runs[rate]), strict=True)
        results[name] = {"rate": rate, "auroc": areas, "balanced_accuracy": accuracies}
    rows, values = [], {}
    for name, result in results.items():
        measured = {key: interval(list(result[key])) for key in ("auroc", "balanced_accuracy")}
        difference = {
            key: interval([a - b for a, b in zip(result[key], results["info_nce"][key], strict=True)])
            for key in measured
        }
        values[name] = {"rate": result["rate"], **measured, "difference": difference}
        text = "  ".join(
            f"{key} {100 * measured[key]['mean']:.1f} ± {100 * measured[key]['half']:.1f} "
            f"({100 * difference[key]['mean']:+.1f} ± {100 * difference[key]['half']:.1f})"
            for key in measured
        )
        rows.append((name, f"{text}  lr {result['rate']}"))
    rows.append(("CPU seconds", f"{cpu_seconds() - start:.0f}"))
    report("same_text", rows, {"ways": values, "steps": STEPS, "batch": BATCH, "seeds": len(SEEDS)})


if __name__ == "__main__":
    main()
