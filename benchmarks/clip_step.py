"""CPU time of a text tower without the work on padding, and of a whole training step against open_clip's own loop.

Texts are real captions of ROCOv2 (median: 30 tokens), in random order. Two comparisons:

- A text tower of BERT-base's shape at context 256, forward and backward: texts grouped by length, as every contrastive run
  executes them, against the same texts padded to the context and to the longest of the batch. Gradients are equal.
- The whole step (images to the towers' range, both towers, loss, backward, AdamW) at contexts 77 and 256: Lightning with medvlp's
  module, as `medvlp train` runs it, against `train_one_epoch` of open_clip 3.3. Model, start, images, texts, rates and groups of
  the optimizer are the same; losses are equal step by step. Two models: ViT-B/16 with BERT-base, which is BiomedCLIP's shape,
  and open_clip's ViT-B-32 with its own text tower; of each the first four of twelve blocks, in both towers.

Weights are random and dropout is off, so that losses can be compared; neither changes the work. open_clip pads all texts to the
context. Both have glibc's allocator set to keep freed memory, as medvlp sets it. Loading is not measured (benchmarks.loader).
All fits into 5 GB: hence few blocks, small batches, and the padded texts of the tower's comparison eight at a time, as the
groups by length are. Larger batches gain more: longest texts are longer, and groups more alike. Not measured: GPUs.
"""

import csv
import gc
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import open_clip
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.clip_towers import Scale, Towers, bert_towers, native_towers
from benchmarks.measure import interleaved, report
from benchmarks.open_clip_epoch import train_epoch
from medvlp.data.images.crop import resized
from medvlp.data.images.pixels import open_pixels
from medvlp.data.pairs import PairBatch
from medvlp.losses import contrastive_loss
from medvlp.models.clip.text_lengths import LEAST, encode_by_length, used_lengths
from medvlp.models.parts import CLIP_PARTS
from medvlp.training.module import OptimizerSettings
from medvlp.training.objectives.contrastive import Contrastive
from medvlp.training.optim import adamw

ROUNDS, CONTEXTS, TOLERANCE = int(os.environ.get("BENCHMARK_ROUNDS", "3")), (77, 256), 1e-5
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SETTINGS = OptimizerSettings(5e-4, 0.2, (0.9, 0.98), 1e-6, "constant", 0, 0.0)
BERT, NATIVE = "ViT-B/16 and BERT-base", "open_clip's ViT-B-32"


def relative_error(values: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Norm of the difference of all together, of the expected norm."""
    assert values.keys() == expected.keys()
    difference = torch.stack([(values[name] - expected[name]).norm() for name in expected]).norm()
    return float(difference / torch.stack([value.norm() for value in expected.values()]).norm())


class TextTower:
    """Forward and backward of a text tower over one batch, in three ways.

    tokens_BL: padded to the context.
    """

    def __init__(self, model: Any, tokens_BL: Tensor) -> None:
        self.model, self.tokens_BL = model.train(), tokens_BL
        lengths_B = used_lengths(model, tokens_BL)
        assert lengths_B is not None
        self.longest = int(lengths_B.max())
        width = self.model.encode_text(tokens_BL[:1, : self.longest]).shape[1]
        self.target_BD = torch.randn(len(tokens_BL), width, generator=torch.Generator().manual_seed(0))

    def runs(self) -> dict[str, Callable[[], None]]:
        longest = self.tokens_BL[:, : self.longest]
        return {
            "fixed": lambda: self.learn_eight_at_a_time(self.tokens_BL),
            "longest": lambda: self.learn_eight_at_a_time(longest),
            "by length": lambda: self.learn(encode_by_length(self.model, longest), self.target_BD),
        }

    def learn_eight_at_a_time(self, tokens_BL: Tensor) -> None:
        for tokens_KL, target_KD in zip(tokens_BL.split(LEAST), self.target_BD.split(LEAST), strict=True):
            self.learn(self.model.encode_text(tokens_KL), target_KD)

    def learn(self, features_BD: Tensor, target_BD: Tensor) -> None:
        (features_BD * target_BD).sum().backward()

    def compared(self) -> tuple[dict[str, Callable[[], None]], dict[str, float]]:
        """The runs, and by way the relative error of its gradients against those of fixed padding, once they have run."""
        errors: dict[str, float] = {}
        expected: dict[str, Tensor] = {}

        def first(name: str, run: Callable[[], None]) -> None:
            run()
            if name in errors:
                return
            if not expected:
                expected.update(self.gradients())
            errors[name] = relative_error(self.gradients(), expected)

        return {name: partial(first, name, run) for name, run in self.runs().items()}, errors

    def gradients(self) -> dict[str, Tensor]:
        """By weight, copied."""
        weights = self.model.named_parameters()
        return {name: weight.grad.clone() for name, weight in weights if weight.grad is not None}


class Steps:
    """Steps of a training from one start, by open_clip's loop and by medvlp's module under Lightning.

    images_NCHW: uint8, of all steps. texts: theirs.
    """

    def __init__(
        self, towers: Towers, images_NCHW: Tensor, texts: Sequence[str], context: int, pairs: int, folder: Path
    ) -> None:
        self.model, self.folder = towers.model, folder
        self.losses: dict[str, list[float]] = {}
        torch.save(self.model.state_dict(), folder / "start.pt")
        self.mean, self.std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        tokens_NL = towers.tokenize(texts, context)
        self.batches = list(zip(images_NCHW.split(pairs), tokens_NL.split(pairs), strict=True))
        self.pad_id = towers.pad_id

    def restart(self) -> None:
        """As it was before the first step; what a trainer left in cycles is freed."""
        gc.collect()
        self.model.load_state_dict(torch.load(self.folder / "start.pt", mmap=True))
        self.model.zero_grad(set_to_none=True)

    def open_clip(self) -> None:
        optimizer = adamw(self.model, CLIP_PARTS, SETTINGS.lr, {}, SETTINGS.weight_decay, SETTINGS.betas, SETTINGS.eps)
        pairs = [((images / 255 - self.mean) / self.std, tokens) for images, tokens in self.batches]
        loss = RecordedLoss()
        train_epoch(self.model, pairs, loss, optimizer)
        self.losses["open_clip"] = loss.values

    def medvlp(self) -> None:
        from medvlp.config import TrainConfig, compose
        from medvlp.training.trainer import build_trainer

        module = Contrastive(self.model, contrastive_loss("info_nce", {}), SETTINGS, 0, MEAN, STD, 100.0, "negative")
        module.total_steps = len(self.batches)
        words = ["recipes=clip_biomedclip", "trainer.accelerator=cpu", "trainer.precision=32-true"]
        config, losses = compose("train", words), Losses()
        assert isinstance(config, TrainConfig)
        trainer = build_trainer(config, self.folder, None, [losses], whole_steps=True)
        trainer.fit(module, DataLoader([self.pair_batch(*batch) for batch in self.batches], batch_size=None))  # type: ignore[arg-type]
        self.losses["medvlp"] = losses.values

    def pair_batch(self, images_BCHW: Tensor, tokens_BL: Tensor) -> PairBatch:
        """As the loader hands it out: padding that a tower masks reaches to the longest text."""
        if self.pad_id is not None:
            tokens_BL = tokens_BL[:, : int(used_lengths(self.model, tokens_BL).max())]  # type: ignore[union-attr]
        keys = [str(row) for row in range(len(tokens_BL))]
        rows = torch.arange(len(keys))
        return PairBatch(
            keys=keys, positions=rows.tolist(), bad=[], images_BCHW=images_BCHW, tokens_BL=tokens_BL, text_ids_B=rows
        )

    def measured(self, rounds: int) -> dict[str, float]:
        """Median CPU seconds of all steps; losses are compared in every round."""
        seconds = interleaved({"open_clip": self.open_clip, "medvlp": self.medvlp}, rounds, self.restart)
        assert self.difference() <= TOLERANCE, f"losses differ: {self.losses}"
        return seconds

    def difference(self) -> float:
        """Largest of a step's losses."""
        pairs = zip(self.losses["open_clip"], self.losses["medvlp"], strict=True)
        return max(abs(peer - loss) for peer, loss in pairs)


class RecordedLoss(open_clip.ClipLoss):
    """open_clip's loss, which remembers its values."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[float] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        losses = super().forward(*args, **kwargs)
        self.values.append(float(losses["contrastive_loss"].detach()))
        return losses


class Losses(pl.Callback):
    """The loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"].detach()))


def rocov2(source: Path, count: int, side: int) -> tuple[list[str], Tensor]:
    """All training captions in random order, and uint8 (count, 3, side, side) images of the first."""
    with (source / "train_captions.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["ID"], row["Caption"]) for row in csv.DictReader(file)]
    rows = [rows[number] for number in np.random.default_rng(0).permutation(len(rows))]
    images = []
    for name, _ in rows[:count]:
        pixels = open_pixels((source / "train" / f"{name}.jpg").read_bytes(), 10**8)
        images.append(resized(pixels, (0, 0, *pixels.shape[1:]), side))
    return [caption for _, caption in rows], torch.stack(images)


def main() -> int:
    warnings.filterwarnings("ignore")
    from medvlp.environment import keep_freed_memory

    source, scale = Path(os.environ.get("MEDVLP_TEST_DATA", "../shared/data")) / "rocov2", Scale()
    if not source.is_dir():
        print(f"needs ROCOv2 files: {source} does not exist; set MEDVLP_TEST_DATA", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    keep_freed_memory()
    captions, images_NCHW = rocov2(source, scale.pairs * scale.steps, scale.side)
    rows, values = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        towers = bert_towers(scale, folder)
        text = text_figures(towers, captions[: scale.texts])
        values |= text
        milliseconds = {way: 1000 * value / scale.texts for way, value in text["text_cpu_s"].items()}
        rows.append(
            (
                f"text tower, {scale.texts} captions",
                f"CPU-ms a text: {', '.join(f'{way} {value:.0f}' for way, value in milliseconds.items())}; "
                f"{text['ratio_text_fixed']:.2f}x less than fixed padding, {text['ratio_text_longest']:.2f}x less than the "
                f"longest; gradients {text['text_grad_error']:.1e}",
            )
        )
        print(rows[-1], file=sys.stderr)
        for model in (BERT, NATIVE):
            for context in CONTEXTS:
                towers = steps = None  # freed before the next are built
                gc.collect()
                towers = bert_towers(scale, folder, scale.depth) if model == BERT else native_towers(scale, context)
                pairs = len(images_NCHW)
                steps = Steps(towers, images_NCHW, captions[:pairs], context, scale.pairs, folder)
                seconds = steps.measured(ROUNDS)
                ratio = seconds["open_clip"] / seconds["medvlp"]
                key = f"ratio_step_{context}" if model == BERT else f"ratio_step_{context}_native"
                values[key], values[f"{model}, {context}"] = ratio, seconds
                rows.append(
                    (
                        f"step at {context}, {model}",
                        f"CPU-ms a pair: open_clip {1000 * seconds['open_clip'] / pairs:.0f}, medvlp "
                        f"{1000 * seconds['medvlp'] / pairs:.0f}; {ratio:.2f}x less; losses {steps.difference():.1e}",
                    )
                )
                print(rows[-1], file=sys.stderr)
    report("clip_step", rows, values)
    return 0


def text_figures(towers: Towers, captions: Sequence[str]) -> dict[str, Any]:
    """Ratios of the text tower's CPU time, once its gradients are equal."""
    runs, errors = TextTower(towers.model, towers.tokenize(captions, CONTEXTS[-1])).compared()
    seconds = interleaved(runs, ROUNDS, partial(towers.model.zero_grad, set_to_none=True))
    assert max(errors.values()) <= TOLERANCE, f"gradients differ: {errors}"
    return {
        "ratio_text_fixed": seconds["fixed"] / seconds["by length"],
        "ratio_text_longest": seconds["longest"] / seconds["by length"],
        "text_grad_error": max(errors.values()),
        "text_cpu_s": seconds,
    }


if __name__ == "__main__":
    sys.exit(main())
