"""The equality check of an exported CLIP: a new process, with stock libraries alone, computes the same of images and texts.

N: images; M: texts; L: tokens; E: shared width.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import basic_clean
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop
from torchvision.transforms.functional import crop

from medvlp.export.clip.provenance import Pairs
from medvlp.export.equality import ExportMismatch, run_script
from medvlp.models.clip.model import Clip, ClipEncoder

PIXELS = 1e-5
"""Largest difference of a normalised pixel, which is rounding."""
IMAGES, QUESTIONS, ANSWERS = "images", "questions.json", "answers.npz"


@dataclass(frozen=True)
class Tolerances:
    """Largest difference allowed of an element of a unit vector.

    may_shift: whether a crop may begin a pixel earlier than ours.
    """

    embedding: float
    may_shift: bool


@dataclass(frozen=True)
class EmbeddingCheck:
    """What the check found.

    pairs: what it was done with.
    image_difference, text_difference: of an element of a unit vector, the largest, of the same pixels and tokens.
    shifted: images whose crop begins a pixel earlier than in training.
    shifted_cosine: least of their vectors to those in training; 1 where there are none.
    default_cosine: least of all images, where transformers resizes as it does by default, with torchvision; None of other
        libraries.
    uncleaned: texts that give other tokens, because encoding errors or HTML entities are not repaired.
    """

    pairs: Pairs
    image_difference: float
    text_difference: float
    shifted: int
    shifted_cosine: float
    default_cosine: float | None
    uncleaned: int

    @property
    def largest(self) -> float:
        """Difference of an element, of images or texts."""
        return max(self.image_difference, self.text_difference)

    def sentences(self, tolerances: Tolerances, library: str) -> list[str]:
        """For the card."""
        texts = [
            f"Opened in a new process with {library} alone, and compared with the checkpoint by {self.pairs.description}, with "
            f"{len(self.pairs.texts)} texts in all: the same tokens, and unit vectors within {self.image_difference:.1e} "
            f"(images) and {self.text_difference:.1e} (texts) an element; allowed are {tolerances.embedding:.0e}."
        ]
        if self.shifted:
            texts.append(
                f'With `backend="pil"`, the crop of {self.shifted} of the {len(self.pairs.images)} images begins a pixel '
                f"earlier than in training: where an odd number of pixels is cut off, transformers rounds half a pixel down, "
                f"torchvision to the even number. Their vectors have a cosine of {self.shifted_cosine:.4f} or more to those in "
                f"training; those of the others are equal."
            )
        if self.default_cosine is not None:
            texts.append(
                f"By default, transformers resizes with torchvision, where PIL did in training. All vectors then have a cosine "
                f"of {self.default_cosine:.4f} or more to those in training."
            )
        if self.uncleaned:
            texts.append(
                f"{self.uncleaned} of the texts have encoding errors or HTML entities, which open_clip repairs and this "
                f"tokenizer does not. Clean such texts first: `ftfy.fix_text`, then `html.unescape` twice."
            )
        return texts


def check_embeddings(
    folder: Path, scratch: Path, clip: Clip, pairs: Pairs, script: str, library: str, tolerances: Tolerances
) -> EmbeddingCheck:
    """Run a script over an exported folder in a new process, and compare what it leaves with the CLIP's own.

    Args:
        scratch: a folder for the questions and the answers.
        script: reads images/*.png and questions.json of scratch, and leaves answers.npz: `pixels` (N, 3, S, S) and `images`
            (N, E); `texts` (M, E) and `ids` (M, L) of cleaned texts, `raw_ids` of the others; `default` (N, E) of images that
            are resized otherwise, if there is another way.
    Raises:
        ExportMismatch: it cannot be opened, or pixels, tokens or vectors differ.
    """
    (scratch / IMAGES).mkdir()
    for number, image in enumerate(pairs.images):
        image.save(scratch / IMAGES / f"{number:03}.png")
    cleaned = [basic_clean(text) for text in pairs.texts]
    (scratch / QUESTIONS).write_text(json.dumps({"texts": cleaned, "raw": pairs.texts}), encoding="utf-8")
    run_script(library, script, folder, scratch, TRANSFORMERS_VERBOSITY="error")
    with np.load(scratch / ANSWERS) as answers:
        results = {name: torch.from_numpy(answers[name]) for name in answers.files}
    pad_id, _ = clip.padding
    ids_ML = clip.tokenizer(cleaned)
    compare_tokens(cleaned, ids_ML, results["ids"], pad_id, library)
    encoder = ClipEncoder(clip, "cpu", "")
    is_shifted_N = compare_pixels(clip, pairs.images, results["pixels"], tolerances.may_shift, library)
    differences = {
        "images": float((results["images"] - encoder.encode_image(results["pixels"])).abs().max()),
        "texts": float((results["texts"] - encoder.encode_text(cleaned)).abs().max()),
    }
    for name, difference in differences.items():
        if not difference <= tolerances.embedding:
            raise ExportMismatch(
                f"the exported folder gives other embeddings of {name} in {library}, by up to {difference:.1e} an element; "
                f"allowed are {tolerances.embedding:.0e}"
            )
    trained_NE = encoder.encode_image(torch.stack([clip.transform(image) for image in pairs.images]))
    cosine_N = (results["images"] * trained_NE).sum(dim=1)
    default_cosine = float((results["default"] * trained_NE).sum(dim=1).min()) if "default" in results else None
    raw = unpadded(results["raw_ids"], pad_id)
    uncleaned = sum(a != b for a, b in zip(raw, unpadded(clip.tokenizer(pairs.texts), pad_id), strict=True))
    return EmbeddingCheck(
        pairs,
        differences["images"],
        differences["texts"],
        int(is_shifted_N.sum()),
        float(cosine_N[is_shifted_N].min()) if is_shifted_N.any() else 1.0,
        default_cosine,
        uncleaned,
    )


def unpadded(ids_ML: Tensor, pad_id: int) -> list[list[int]]:
    """Tokens of each text without the padding behind it."""
    rows = []
    for ids_L in ids_ML.tolist():
        while len(ids_L) > 1 and ids_L[-1] in (pad_id, -1):
            ids_L.pop()
        rows.append(ids_L)
    return rows


def compare_tokens(texts: list[str], expected_ML: Tensor, ids_ML: Tensor, pad_id: int, library: str) -> None:
    """Raises ExportMismatch where a text has other tokens. ids_ML: padded with -1."""
    pairs = zip(unpadded(expected_ML, pad_id), unpadded(ids_ML, pad_id), strict=True)
    for text, (expected, ids) in zip(texts, pairs, strict=True):
        if expected != ids:
            raise ExportMismatch(
                f"the exported folder's tokenizer makes other tokens of {text[:60]!r} in {library}: {ids[:12]}... "
                f"({len(ids)}) for {expected[:12]}... ({len(expected)})"
            )


def compare_pixels(clip: Clip, images: list[Image.Image], pixels_NCHW: Tensor, may_shift: bool, library: str) -> Tensor:
    """bool (N,): images whose crop begins a pixel earlier than ours.

    Raises:
        ExportMismatch: other pixels than that.
    """
    is_shifted = []
    for number, (image, pixels_CHW) in enumerate(zip(images, pixels_NCHW, strict=True)):
        expected_CHW = clip.transform(image)
        same = expected_CHW.shape == pixels_CHW.shape
        is_equal = same and float((expected_CHW - pixels_CHW).abs().max()) <= PIXELS
        is_shifted.append(not is_equal)
        if not is_equal and not (
            may_shift and same and float((shifted_pixels(clip, image) - pixels_CHW).abs().max()) <= PIXELS
        ):
            difference = float((expected_CHW - pixels_CHW).abs().max()) if same else float("nan")
            raise ExportMismatch(
                f"the exported folder makes other pixels of image {number} ({image.width} x {image.height}) in {library}: "
                f"{tuple(pixels_CHW.shape)} for {tuple(expected_CHW.shape)}, by up to {difference:.1e}"
            )
    return torch.tensor(is_shifted)


def shifted_pixels(clip: Clip, image: Any) -> Tensor:
    """A CLIP's evaluation transform whose crop rounds half a pixel down."""
    pixels: Any = image
    steps: Any = clip.transform
    for step in steps.transforms:
        if isinstance(step, CenterCrop):
            height, width = step.size
            pixels = crop(pixels, (pixels.height - height) // 2, (pixels.width - width) // 2, height, width)
        else:
            pixels = step(pixels)
    result: Tensor = pixels
    return result
