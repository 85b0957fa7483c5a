"""Controls of the image: one that shows nothing, noise, another sample's, or none; and asking questions with any of them."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from PIL import Image

from medvlp.config.evaluation.controls import IMAGE_CONTROLS
from medvlp.data.images.decode import size_of
from medvlp.distributed import on_all_ranks
from medvlp.eval.models.answering import WITHHELD, AnsweringModel
from medvlp.eval.vqa.questions import QuestionGroup
from medvlp.eval.vqa.responses import Response, batches_of, responses_to
from medvlp.shards import BadSample, Sample, ShardDataset, ShardError

BLANK_IMAGE, SHUFFLED_IMAGES, NO_IMAGE, NOISE_IMAGE = IMAGE_CONTROLS

CONTROL_NOTES = {
    BLANK_IMAGE: "every image replaced by one of the processor's mean colour (0 after normalisation), or `blank_image`",
    SHUFFLED_IMAGES: "every image replaced by another sample's: a derangement over the images, drawn with `seed`",
    NO_IMAGE: "every image left out of the prompt, its placeholder too",
    NOISE_IMAGE: "every image replaced by one of its size with cells of random colours, drawn with `seed` and the sample's key",
}

CELLS = 64
"""Cells of noise along the longer side of an image."""

ImageIndex = tuple[int, int]
"""An image: (index of its sample, its position there)."""

ShownImages = Sequence[Sequence[ImageIndex | None]]
"""For every group the images that it is shown: (index of a group, position there), or None for one that shows nothing."""


class NoDerangement(ValueError):
    """One sample has more than half of the images."""


def derangement(images: Sequence[int], seed: int) -> list[list[ImageIndex]]:
    """For every sample the images that it is shown instead of its own: all images, each once, none in its own sample.

    images: how many each sample has. With one image each, the permutation is a cycle, uniformly at random.

    Raises:
        NoDerangement: one sample has more than half of the images.
    """
    most, total = max(images, default=0), sum(images)
    if 2 * most > total:
        raise NoDerangement(f"{total} images in {len(images)} cases cannot all change places: one case has {most}")
    order = np.random.default_rng(seed).permutation(len(images))
    indices = [(int(sample), position) for sample in order for position in range(images[sample])]
    # A sample's images stand together, so images that are `most` positions apart belong to different samples.
    donors = dict(zip(indices, [*indices[most:], *indices[:most]], strict=True))
    return [[donors[sample, position] for position in range(count)] for sample, count in enumerate(images)]


def shown_images(groups: Sequence[QuestionGroup]) -> ShownImages:
    """Every group's own images."""
    return [[(index, position) for position in range(group.images)] for index, group in enumerate(groups)]


def control_responses(
    controls: Sequence[str],
    model: AnsweringModel,
    dataset: ShardDataset,
    groups: Sequence[QuestionGroup],
    seed: int,
    batch_size: int,
    max_new_tokens: int,
) -> tuple[dict[str, list[Response]], dict[str, Any]]:
    """Responses to all questions by control, and what a protocol says of them.

    seed: of the derangement. Other arguments: as of `respond`.
    """
    names = [name for name in IMAGE_CONTROLS if name in controls]
    counts = [group.images for group in groups]
    if not sum(counts):
        reason = f"images are {WITHHELD}" if any(group.withheld for group in groups) else "no sample has an image"
        return {}, {"skipped": f"{', '.join(names)}: {reason}"} if names else {}
    responses: dict[str, list[Response]] = {}
    notes: dict[str, Any] = {}
    skipped: list[str] = []

    def ask(asked_groups: Sequence[QuestionGroup], images: ShownImages, source: Samples = dataset) -> list[Response]:
        rows = respond(model, source, asked_groups, images, batch_size, max_new_tokens)
        return [response for group, row in zip(groups, rows, strict=True) for response in _readable(group, row)]

    if BLANK_IMAGE in names:
        responses[BLANK_IMAGE] = ask(groups, [[None] * count for count in counts])
    if SHUFFLED_IMAGES in names:
        try:
            donors = derangement(counts, seed)
        except NoDerangement as error:
            skipped.append(f"{SHUFFLED_IMAGES}: {error}")
        else:
            responses[SHUFFLED_IMAGES] = ask(groups, donors)
            hashes = dataset.column("sha256")
            notes["seed"] = seed
            notes["exchanged_for_an_equal_image"] = sum(
                hashes[group.row] == hashes[groups[donor].row]
                for group, images in zip(groups, donors, strict=True)
                for donor, _ in images
            )
    if NO_IMAGE in names:
        blind = [without_images(group) for group in groups]
        if reason := _refusal(model, blind, max_new_tokens):
            skipped.append(f"{NO_IMAGE}: the model takes no prompt without an image ({reason})")
        else:
            responses[NO_IMAGE] = ask(blind, [[] for _ in blind])
    if NOISE_IMAGE in names:
        responses[NOISE_IMAGE] = ask(groups, shown_images(groups), Noise(dataset, seed))
        notes["seed"] = seed
    return responses, notes | ({"skipped": "; ".join(skipped)} if skipped else {})


def without_images(group: QuestionGroup) -> QuestionGroup:
    """The same questions, their images left out."""
    return replace(group, images=0, questions=tuple(question.without_images() for question in group.questions))


def _refusal(model: AnsweringModel, groups: Sequence[QuestionGroup], max_new_tokens: int) -> str:
    """Why a model cannot be asked without images; empty where it can."""
    turns = groups[0].questions[0].turns
    try:
        model.fits(turns, turns, [], [], max_new_tokens)
    except BadSample as problem:
        return problem.reason
    return ""


def _readable(group: QuestionGroup, row: list[Response] | str) -> list[Response]:
    if isinstance(row, str):
        raise ShardError(f"{group.key} was readable before, and is not any more: {row}")
    return row


class Samples(Protocol):
    """Where the images of questions come from."""

    def read(self, row: int) -> Sample:
        """The sample of a row. Raises BadSample."""


@dataclass(frozen=True)
class Noise:
    """A dataset whose images are noise of the same sizes. The cells are so large that they outlast a tower's resizing."""

    dataset: ShardDataset
    seed: int

    def read(self, row: int) -> Sample:
        """A sample with noise for its images. Raises BadSample."""
        sample = self.dataset.read(row)
        images = {
            f"{position:03d}.png": noise(size_of(sample.images[name]), f"{self.seed} {sample.key} {position}")
            for position, name in enumerate(sorted(sample.images))
        }
        return replace(sample, images=images)


def noise(size: tuple[int, int], name: str) -> bytes:
    """A PNG of (height, width), the longer side cut into `CELLS` cells of one random colour each; equal for equal names."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    cells = np.random.default_rng(seed).integers(0, 256, (CELLS, CELLS, 3), np.uint8)
    rows, columns = (np.arange(side) * CELLS // max(size) for side in size)
    buffer = io.BytesIO()
    Image.fromarray(cells[rows[:, None], columns[None]]).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def respond(
    model: AnsweringModel,
    dataset: Samples,
    groups: Sequence[QuestionGroup],
    images: ShownImages,
    batch_size: int,
    max_new_tokens: int,
) -> list[list[Response] | str]:
    """For every group the responses to its questions, or why its images cannot be read. Ranks answer shares of the groups.

    images: what each group is shown. batch_size: questions in a batch.
    """
    # One object for all groups of as many blank images: their questions share one prefix.
    blanks = {len(row): model.blank(len(row)) for row in images if all(index is None for index in row)}

    def pixels_of(number: int) -> Any:
        indices = [index for index in images[number] if index is not None]
        if not indices:
            return blanks[len(images[number])]
        if all(donor == number for donor, _ in indices):
            return model.pictures(dataset.read(groups[number].row))
        return model.gathered(
            [(model.pictures(dataset.read(groups[donor].row)), position) for donor, position in indices]
        )

    def respond_to(batch: range) -> list[list[Response] | str]:
        pixels: dict[int, Any] = {}
        reasons: dict[int, str] = {}
        for number in batch:
            try:
                pixels[number] = pixels_of(number)
            except BadSample as problem:
                reasons[number] = problem.reason
        readable = [(groups[number], pixels[number]) for number in pixels]
        stream = iter(responses_to(model, readable, max_new_tokens))
        return [
            reasons[number] if number in reasons else [next(stream) for _ in groups[number].questions]
            for number in batch
        ]

    at_once = max(batch_size, getattr(model, "prompts_at_once", 0))
    batches = list(batches_of([len(group.questions) for group in groups], at_once))
    return [row for part in on_all_ranks(batches, respond_to) for row in part]
