"""Answers and likelihoods by stock transformers alone, one prompt at a time: what ours are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

FILLING = {"attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0}
"""What stands at the tokens of an answer. PaliGemma's type is another one: what is not its prompt sees nothing ahead."""


class Stock:
    """A folder as its users open it."""

    def __init__(self, folder: Path) -> None:
        self.processor: Any = AutoProcessor.from_pretrained(folder)
        self.processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        self.model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def inputs(self, question: str, images: Sequence[Image.Image]) -> Any:
        if self.processor.chat_template is None:
            text = self.processor.image_token * len(images) + question
            return self.processor(text=text, images=list(images), return_tensors="pt")
        parts = [{"type": "image", "image": image} for image in images] + [{"type": "text", "text": question}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": parts}],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
            return_tensors="pt",
        )

    @torch.no_grad()
    def answer(self, question: str, images: Sequence[Image.Image], max_new_tokens: int) -> str:
        """Greedy, without the penalty that the folder's settings hold."""
        inputs = self.inputs(question, images)
        inputs.pop("labels", None)
        ids = self.model.generate(
            **inputs, do_sample=False, repetition_penalty=1.0, max_new_tokens=max_new_tokens, temperature=None
        )
        return self.processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    @torch.no_grad()
    def loglikelihood(self, question: str, images: Sequence[Image.Image], ids: Sequence[int]) -> float:
        """One forward pass a token over all that stands before it, without a cache."""
        inputs = dict(self.inputs(question, images))
        inputs.pop("labels", None)
        total = 0.0
        for number, token in enumerate(ids):
            logits_V = self.model(**_longer(inputs, ids[:number], self.model.config.model_type)).logits[0, -1]
            total += float(logits_V.float().log_softmax(-1)[token])
        return total


def _longer(inputs: dict[str, Any], ids: Sequence[int], family: str) -> dict[str, Any]:
    """The inputs with some tokens of an answer behind the prompt."""
    longer = dict(inputs)
    longer["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([list(ids)], dtype=torch.long)], dim=1)
    for name, value in FILLING.items():
        if name in inputs:
            value = 1 if name == "token_type_ids" and family == "paligemma" else value
            longer[name] = torch.cat([inputs[name], torch.full((1, len(ids)), value, dtype=inputs[name].dtype)], dim=1)
    if "cross_attention_mask" in inputs:
        mask = inputs["cross_attention_mask"]
        longer["cross_attention_mask"] = torch.cat([mask, mask[:, -1:].expand(-1, len(ids), -1, -1)], dim=1)
    return longer
