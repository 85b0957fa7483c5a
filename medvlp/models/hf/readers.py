"""Texts and images as transformers' own processors and tokenizers read them.

n: images of a batch; C, H, W: of an image, or of what a processor makes of one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from medvlp.models.hf.answering import Row
from medvlp.models.weights import DAMAGE, WeightsError, reason

BLANK_SIDE = 448
"""Pixels of a blank image's sides, where the processor has no size of its own."""


class TextReader:
    """A tokenizer as the reader of a language model.

    Args:
        tokenizer: of transformers.
        adds_special_tokens: whether it adds those that a prompt begins with; a chat template writes them itself.
    """

    def __init__(self, tokenizer: Any, adds_special_tokens: bool) -> None:
        self.tokenizer, self.adds_special_tokens = tokenizer, adds_special_tokens

    def inputs(self, rows: Sequence[Row]) -> Any:
        """input_ids and attention_mask (B, L), filled up on the left."""
        pad = {} if self.tokenizer.pad_token is not None else {"pad_token": self.tokenizer.eos_token}
        if pad:
            self.tokenizer.pad_token = pad["pad_token"]
        return self.tokenizer(
            [row.text for row in rows],
            padding=True,
            padding_side="left",
            add_special_tokens=self.adds_special_tokens,
            return_token_type_ids=False,
            return_tensors="pt",
        )

    def ids(self, text: str) -> list[int]:
        """Tokens of a text."""
        return list(self.tokenizer(text, add_special_tokens=self.adds_special_tokens, verbose=False)["input_ids"])


class ImageTextReader:
    """A processor as the reader of a model of images and text.

    Args:
        processor: of transformers, with an image processor and a tokenizer.
    """

    def __init__(self, processor: Any) -> None:
        self.processor, self.tokenizer = processor, processor.tokenizer
        self._image_tokens: dict[tuple[tuple[int, int], ...], int] = {}
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def inputs(self, rows: Sequence[Row]) -> Any:
        """What the processor makes of the texts and their images, filled up on the left.

        Pixels of blank images are 0 where the processor normalises, which is its mean colour to the last bit; but for
        processors that fill up with 0 and mark it, where an image of zeros would count as filling.
        """
        texts = [row.text for row in rows]
        has_images = bool(rows[0].images)
        inputs = self.processor(
            images=[list(row.images) for row in rows] if has_images else None,
            text=texts,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **self._options(texts[0]),
        )
        normalises = getattr(self.processor.image_processor, "do_normalize", False)
        if has_images and rows[0].is_blank and normalises and "pixel_attention_mask" not in inputs:
            inputs["pixel_values"] = torch.zeros_like(inputs["pixel_values"])
        return inputs

    def ids(self, text: str) -> list[int]:
        """Tokens of a text, each image's placeholder as it stands there."""
        return list(self.tokenizer(text, verbose=False, **self._options(text))["input_ids"])

    def image_tokens(self, text: str, sizes: Sequence[tuple[int, int]]) -> int:
        """Tokens of images of these (height, width) beyond their placeholders in a text, as the processor itself makes them
        of blank ones; 0 where it makes nothing of them. Remembered by sizes: the rest of the text does not matter."""
        key = tuple(sizes)
        if key not in self._image_tokens:
            row = Row(text, tuple(Image.new("RGB", (width, height)) for height, width in sizes))
            try:
                self._image_tokens[key] = self.inputs([row])["input_ids"].shape[1] - len(self.ids(text))
            except DAMAGE:
                self._image_tokens[key] = 0
        return self._image_tokens[key]

    def blank(self) -> Image.Image:
        """An image of the processor's mean colour, of its own size where it has one."""
        processor = self.processor.image_processor
        for name in ("crop_size", "size"):
            size = getattr(processor, name, None) or {}
            if "height" in size and "width" in size:
                shape = (int(size["width"]), int(size["height"]))
                break
        else:
            side = int(size.get("shortest_edge") or BLANK_SIDE)
            shape = (side, side) if side <= 2 * BLANK_SIDE else (BLANK_SIDE, BLANK_SIDE)  # Qwen's edges count pixels
        mean = getattr(processor, "image_mean", None) or (0.5, 0.5, 0.5)
        return Image.new("RGB", shape, tuple(round(255 * value) for value in mean))

    def _options(self, text: str) -> dict[str, bool]:
        """As processors decide it: a template that writes the first token itself wants no second one."""
        bos = self.tokenizer.bos_token
        return {"add_special_tokens": False} if bos and text.startswith(bos) else {}


def load_tokenizer(folder: Path, reference: str) -> Any:
    """The folder's tokenizer. Raises WeightsError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except DAMAGE as error:
        raise WeightsError(f"hf:{reference}: its tokenizer cannot be loaded ({reason(error)})") from None


def load_image_processor(folder: Path, reference: str) -> Any:
    """The folder's image processor, which resizes by PIL where transformers has such a one. Raises WeightsError."""
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False, local_files_only=True)
    except DAMAGE as error:
        raise WeightsError(f"hf:{reference}: its image processor cannot be loaded ({reason(error)})") from None


def load_processor(folder: Path, reference: str) -> Any:
    """The folder's processor of images and text, which resizes by PIL where transformers has such a one.

    Raises:
        WeightsError: none there, or one without a tokenizer or an image processor.
    """
    from transformers import AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except DAMAGE as error:
        raise WeightsError(f"hf:{reference}: its processor cannot be loaded ({reason(error)})") from None
    absent = [name for name in ("tokenizer", "image_processor") if getattr(processor, name, None) is None]
    if absent:
        raise WeightsError(
            f"hf:{reference}: its processor has no {absent[0].replace('_', ' ')}; a folder of a model of images and text has "
            f"preprocessor_config.json and tokenizer.json"
        )
    # Asked for a backend, AutoProcessor would want one of that name for videos, too.
    processor.image_processor = load_image_processor(folder, reference)
    return processor
